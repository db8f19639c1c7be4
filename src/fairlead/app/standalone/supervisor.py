"""The supervisor of a gateway that runs alone: what `fairlead gateway run` itself is.

It owns the listening socket and a private folder for as long as it runs. From the gateway file it
makes the snapshot, and lends the workers their parts of limits (`lender`); workers that end by
themselves are started again. SIGHUP reads the file anew: a good one becomes the next snapshot, a
bad one changes nothing. SIGUSR2 puts new worker processes in the place of the old (`app.turnover`).
SIGTERM gives open requests their time and ends all.
"""

from __future__ import annotations

import functools
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from fairlead.app.children import STOP_GRACE_S, Child, Children
from fairlead.app.listening import listen, url_of
from fairlead.app.processes import die_with_parent
from fairlead.app.standalone.describing import describe_services, warnings
from fairlead.app.standalone.folder import LIMITS, SNAPSHOT, GatewayInfo, RunFolder
from fairlead.app.standalone.lender import Lender
from fairlead.app.standalone.routes import snapshot_of
from fairlead.app.standalone.scraping import metrics_access
from fairlead.app.standalone.worker_process import TOKEN_VARIABLE, Settings
from fairlead.app.state import write_private
from fairlead.app.turnover import RestartRequest, Turnover, take_requests
from fairlead.domain.errors import FairleadError, StorageFailed
from fairlead.domain.wording import count_of
from fairlead.gateway.front.balance import shared_counts
from fairlead.gateway.front.tls import server_context
from fairlead.gateway.settings import TlsFiles
from fairlead.gateway.waiting.memory import memory_of_a_worker
from fairlead.manifest.gateway_file import GatewayFile, load_gateway_file
from fairlead.wire.snapshot import encode_snapshot

LOOK_S = 0.2
_END_LOOK_S = 0.02
_FIXED = (
    "listen", "tls", "workers", "spool", "tracing", "drain_seconds", "worker_memory_mb", "metrics",
)  # fmt: skip
"""What cannot change while it runs: the socket, the processes, and where they write."""
_Mark = tuple[int, int, int] | None


class StandaloneGateway:
    """Runs in the foreground until it is told to stop.

    Args:
        path: The gateway file.
        environ: Where the keys of providers are found.
        say: Takes each line for the person who runs it.
        watches: Reload the file whenever it has changed, without a signal.
    """

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        say: Callable[[str], None],
        *,
        watches: bool = False,
    ) -> None:
        self._path = path
        self._environ = environ
        self._say = say
        self._watches = watches
        self._mark = self._seen = _mark(path)
        self._file = load_gateway_file(path)
        self._tls = _tls(self._file)
        self._metrics = metrics_access(self._file.metrics, environ)
        if self._file.tracing is not None:
            _check_endpoint(self._file.tracing.otlp)
        _make_spool(self._file.spool)
        self._listening = listen(
            self._file.listen.host, self._file.listen.port, "gateway", "`listen` in the file",
            host_option="`listen` in the file",
        )  # fmt: skip
        self.url = url_of(self._file.listen.host, self._listening, is_tls=self._tls is not None)
        self._balance = shared_counts(self._file.workers)
        self._folder = RunFolder()
        self._run = self._folder.path
        self._token = secrets.token_urlsafe(32)
        self._lender = Lender(self._file.workers, self._file.spool, self._token)
        # Request ids of an earlier run take no feedback in this one.
        self._request_id_key = secrets.token_hex(32)
        self._is_stopping = False
        self._is_reload_asked = False
        self._is_restart_asked = False
        self._workers = [
            Child(f"worker {number}", functools.partial(self._spawn, number))
            for number in range(self._file.workers)
        ]
        self._children = Children(self._workers, say)
        self._turnover = Turnover(
            self._run,
            start=self._spawn,
            hurry_s=self._file.drain_seconds + STOP_GRACE_S,
            say=say,
        )

    def install_signal_handlers(self) -> None:
        """SIGINT and SIGTERM end `run`; SIGHUP reads the file again, SIGUSR2 restarts workers."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._lender.on_signal(number, lambda: setattr(self, "_is_stopping", True))
        self._lender.on_signal(signal.SIGHUP, lambda: setattr(self, "_is_reload_asked", True))
        self._lender.on_signal(signal.SIGUSR2, lambda: setattr(self, "_is_restart_asked", True))

    def start(self) -> None:
        """Write the snapshot, start the workers, say what is served."""
        self._publish(self._file)
        self._lender.start()
        self._children.start(time.monotonic())
        self._folder.announce(GatewayInfo(os.getpid(), self.url, str(self._path.resolve())))
        self._greet()

    def run(self) -> None:
        """Supervise until a signal says otherwise."""
        while not self._is_stopping:
            if self._is_reload_asked or self._has_changed():
                self._is_reload_asked = False
                self.reload()
            now = time.monotonic()
            self._children.look(now)
            if self._is_restart_asked:
                self._is_restart_asked = False
                for request in take_requests(self._run) or [RestartRequest(id="")]:
                    self._turnover.begin(request, self._workers, now)
            self._turnover.look(now)
            self._lender.wait(LOOK_S)

    def reload(self) -> None:
        """Read the file again and swap it in as a whole, or say why not and change nothing."""
        self._mark = self._seen = _mark(self._path)
        try:
            file = load_gateway_file(self._path)
            fixed = [name for name in _FIXED if getattr(file, name) != getattr(self._file, name)]
            if fixed:
                self._say(f"not reloaded: {', '.join(fixed)}: a change needs a stop and a start")
                return
            self._publish(file)
        except FairleadError as error:
            self._say(f"not reloaded, the old configuration stays:\n{error.message}")
            return
        self._file = file
        self._say(f"reloaded {self._path} as version {self._lender.version}")
        self._describe()

    def stop(self) -> None:
        """End the workers in order and leave nothing behind."""
        deadline = time.monotonic() + self._file.drain_seconds + STOP_GRACE_S
        self._turnover.abandon()
        running = [*self._children.processes, *self._turnover.processes]
        for process in running:
            process.send_signal(signal.SIGTERM)
        while time.monotonic() < deadline and any(p.poll() is None for p in running):
            self._lender.wait(_END_LOOK_S)  # They go on with their limits meanwhile.
        for worker in self._workers:
            worker.stop(signal.SIGTERM, max(0.0, deadline - time.monotonic()))
        self._turnover.stop(deadline)
        self._lender.close()
        self._listening.close()
        if self._balance is not None:
            os.close(self._balance)
        self._folder.remove()

    def _has_changed(self) -> bool:
        """Whether the watched file has changed, and not just now: it is written to its end."""
        if not self._watches:
            return False
        before, self._seen = self._seen, _mark(self._path)
        return self._seen is not None and self._seen == before and self._seen != self._mark

    def _publish(self, file: GatewayFile) -> None:
        """Give it to the workers; the copy on disk is for those that start while nobody answers."""
        version = self._lender.version + 1
        snapshot = snapshot_of(file, version=version, request_id_key=self._request_id_key)
        self._lender.publish(snapshot)
        try:
            write_private(self._run / SNAPSHOT, encode_snapshot(snapshot))
        except StorageFailed as error:
            self._say(f"warning: {error.message}; the workers have the new snapshot all the same")

    def _spawn(self, number: int, ready: int | None = None) -> subprocess.Popen[bytes]:
        spool, listening = self._file.spool, self._listening.fileno()
        settings = Settings(
            worker=number,
            listen_fd=listening,
            run=str(self._run),
            spool=None if spool is None else str(spool),
            limits=str(self._run if spool is None else spool / LIMITS),
            lender_url=self._lender.url,
            drain_s=self._file.drain_seconds,
            tls=self._tls,
            ready_fd=ready,
            memory_bytes_max=memory_of_a_worker(self._file.worker_memory_mb, self._file.workers),
            balance_fd=self._balance,
            metrics=self._metrics,
            otlp="" if self._file.tracing is None else self._file.tracing.otlp,
            trace_share=None if self._file.tracing is None else self._file.tracing.share,
        )
        text = msgspec.json.encode(settings).decode()
        return subprocess.Popen(
            [sys.executable, "-m", "fairlead.app.standalone.worker_process", text],
            stdin=subprocess.DEVNULL,
            env={**self._environ, TOKEN_VARIABLE: self._token},
            pass_fds=[given for given in (listening, ready, self._balance) if given is not None],
            # A session of its own keeps the terminal's Ctrl-C away: the order is ours.
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    def _greet(self) -> None:
        asked = len(self._file.keys)
        keys = count_of(asked, "key") if asked else "no key asked for"
        workers = count_of(self._file.workers, "worker")
        self._say(f"gateway at {self.url}/v1 ({workers}, {keys})")
        self._say(f"records: {self._file.spool or 'off'}")
        if self._file.tracing is not None:
            tracing = self._file.tracing
            self._say(f"traces: {100 * tracing.share:.3g}% of requests to {tracing.otlp}")
        self._describe()

    def _describe(self) -> None:
        for line in describe_services(self._file):
            self._say(line)
        for line in warnings(self._file, self._environ):
            self._say(f"warning: {line}")


def _mark(path: Path) -> _Mark:
    """What changes with the file, also when another one is put in its place; None without one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _tls(file: GatewayFile) -> TlsFiles | None:
    """The files, once looked at: raises InvalidInput for what cannot be used."""
    if file.tls is None:
        return None
    given = (file.tls.cert, file.tls.key, file.tls.client_ca)
    cert, key, client_ca = (None if path is None else str(path.absolute()) for path in given)
    assert cert is not None
    assert key is not None
    server_context(cert, key, client_ca)
    return TlsFiles(cert=cert, key=key, client_ca=client_ca)


def _check_endpoint(otlp: str) -> None:
    """Raises InvalidInput for what no spans can be sent to."""
    # Only here: who traces nothing needs none of it in memory.
    from fairlead.observer.otlp import parse_endpoint

    parse_endpoint(otlp)


def _make_spool(folder: Path | None) -> None:
    """Raises StorageFailed at the start rather than losing records later."""
    if folder is None:
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / LIMITS).mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageFailed(
            f"{folder}: cannot keep records here: {error.strerror}",
            hint="choose another folder with `spool` in the file, or `off`",
        ) from None
