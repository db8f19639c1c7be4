"""The supervisor of a gateway that runs alone: what `fairlead gateway run` itself is.

It owns the listening socket and a private folder for as long as it runs. From the gateway file it
makes the snapshot, which the workers watch; workers that end by themselves are started again.
SIGHUP reads the file anew: a good one becomes the next snapshot, a bad one changes nothing. SIGTERM
gives open requests their time and ends all.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

import msgspec

from fairlead.app.standalone.routes import lacking_keys, shares_of, snapshot_of
from fairlead.app.standalone.worker_process import SNAPSHOT, Settings
from fairlead.app.state import write_private
from fairlead.app.supervisor import (
    STOP_GRACE_S,
    Child,
    describe,
    die_with_parent,
    listen,
    url_of,
)
from fairlead.domain.errors import FairleadError, StorageFailed
from fairlead.manifest.gateway_file import GatewayFile, load_gateway_file
from fairlead.manifest.gateway_file.models import Release
from fairlead.wire.snapshot import encode_snapshot

LOOK_S = 0.2
_FIXED = ("listen", "workers", "spool", "drain_seconds")
"""What cannot change while it runs: the socket, the processes, and where they write."""


class StandaloneGateway:
    """Runs in the foreground until it is told to stop.

    Args:
        path: The gateway file.
        environ: Where the keys of providers are found.
        say: Takes each line for the person who runs it.
    """

    def __init__(self, path: Path, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._path = path
        self._environ = environ
        self._say = say
        self._file = load_gateway_file(path)
        _make_spool(self._file.spool)
        self._listening = listen(
            self._file.listen.host, self._file.listen.port, "gateway", "`listen` in the file",
            host_option="`listen` in the file",
        )  # fmt: skip
        self.url = url_of(self._file.listen.host, self._listening)
        self._run = _private_folder()
        # Request ids of an earlier run take no feedback in this one.
        self._request_id_key = secrets.token_hex(32)
        self._version = 0
        self._is_stopping = False
        self._is_reload_asked = False
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self._workers = [
            Child(f"worker {number}", functools.partial(self._spawn, number))
            for number in range(self._file.workers)
        ]

    def install_signal_handlers(self) -> None:
        """SIGINT and SIGTERM end `run`, SIGHUP has it read the file again."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def start(self) -> None:
        """Write the snapshot, start the workers, say what is served."""
        self._publish(self._file)
        now = time.monotonic()
        for worker in self._workers:
            self._begin(worker, now)
        self._greet()

    def run(self) -> None:
        """Supervise until a signal says otherwise."""
        while not self._is_stopping:
            if self._is_reload_asked:
                self._is_reload_asked = False
                self.reload()
            now = time.monotonic()
            for worker in self._workers:
                code = worker.ended(now)
                if code is not None:
                    self._say(f"{worker.name} ended ({describe(code)}); starting it again")
                if worker.process is None and now >= worker.restart_at:
                    self._begin(worker, now)
            select.select([self._wake_read], [], [], LOOK_S)
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)

    def reload(self) -> None:
        """Read the file again and swap it in as a whole, or say why not and change nothing."""
        try:
            file = load_gateway_file(self._path)
            fixed = [name for name in _FIXED if getattr(file, name) != getattr(self._file, name)]
            if fixed:
                self._say(f"not reloaded: a new {', '.join(fixed)} needs a restart")
                return
            self._publish(file)
        except FairleadError as error:
            self._say(f"not reloaded, the old configuration stays:\n{error.message}")
            return
        self._file = file
        self._say(f"reloaded {self._path} as version {self._version}")
        self._describe()

    def stop(self) -> None:
        """End the workers in order and leave nothing behind."""
        grace = self._file.drain_seconds + STOP_GRACE_S
        for worker in self._workers:
            if worker.process is not None:
                worker.process.send_signal(signal.SIGTERM)
        for worker in self._workers:
            worker.stop(signal.SIGTERM, grace)
        self._listening.close()
        shutil.rmtree(self._run, ignore_errors=True)
        for end in (self._wake_read, self._wake_write):
            os.close(end)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._is_reload_asked = True
        else:
            self._is_stopping = True
        # Full means that it wakes up anyway; closed, that it is all over.
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b".")

    def _publish(self, file: GatewayFile) -> None:
        snapshot = snapshot_of(file, version=self._version + 1, request_id_key=self._request_id_key)
        try:
            write_private(self._run / SNAPSHOT, encode_snapshot(snapshot))
        except OSError as error:
            raise StorageFailed(f"{self._run}: cannot be written: {error.strerror}") from None
        self._version += 1

    def _begin(self, worker: Child, now: float) -> None:
        trouble = worker.start(now)
        if trouble is not None:
            self._say(f"{worker.name} cannot be started: {trouble}; trying again")

    def _spawn(self, number: int) -> subprocess.Popen[bytes]:
        settings = Settings(
            worker=number,
            listen_fd=self._listening.fileno(),
            run=str(self._run),
            spool=str(self._file.spool) if self._file.spool is not None else None,
            drain_s=self._file.drain_seconds,
        )
        text = msgspec.json.encode(settings).decode()
        return subprocess.Popen(
            [sys.executable, "-m", "fairlead.app.standalone.worker_process", text],
            stdin=subprocess.DEVNULL,
            env=dict(self._environ),
            pass_fds=(self._listening.fileno(),),
            # A session of its own keeps the terminal's Ctrl-C away: the order is ours.
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    def _greet(self) -> None:
        keys = f"{len(self._file.keys)} keys" if self._file.keys else "no key asked for"
        self._say(f"gateway at {self.url}/v1 ({self._file.workers} workers, {keys})")
        self._say(f"records: {self._file.spool or 'off'}")
        self._describe()

    def _describe(self) -> None:
        for line in describe_services(self._file):
            self._say(line)
        for line in lacking_keys(self._file, self._environ):
            self._say(f"warning: {line}")


def describe_services(file: GatewayFile) -> list[str]:
    """One line for each service: its releases, their shares, and where they are."""
    return [
        f"service {service.name}: "
        + ", ".join(
            f"{release.name} {100 * share:.4g} % ({_places(release)})"
            for release, share in shares_of(service)
        )
        for service in file.services
    ]


def _places(release: Release) -> str:
    first, *others = [endpoint.upstream.host for endpoint in release.endpoints]
    return f"{first} and {len(others)} more" if others else first


def _make_spool(folder: Path | None) -> None:
    """Raises StorageFailed at the start rather than losing records later."""
    if folder is None:
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageFailed(
            f"{folder}: cannot keep records here: {error.strerror}",
            hint="choose another folder with `spool` in the file, or `off`",
        ) from None


def _private_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="fairlead-gateway-"))
    except OSError as error:
        raise StorageFailed(
            f"{tempfile.gettempdir()}: cannot be written: {error.strerror}",
            hint="name another folder for temporary files with TMPDIR",
        ) from None
