"""The supervisor: what `fairlead up` itself is.

It owns the listening socket, starts gateway workers, control and observer, starts again what ends
by itself, and stops everything in order. It holds no state of its own: killed, it takes all the
others with it, and the next `up` goes on from the state folder.

SIGUSR2 restarts the gateway workers one after the other; see `fairlead.app.turnover`.

Order of stopping: gateway workers first (they finish open requests), then control (it stops the
replicas), then the observer (it takes in the last records).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

import msgspec

from fairlead.app.environment import child_environment
from fairlead.app.state import StatePaths, UpInfo, open_private, write_private
from fairlead.app.turnover import (
    RestartRequest,
    Successor,
    Turnover,
    clear_away,
    take_requests,
)
from fairlead.domain.errors import Unavailable
from fairlead.gateway.memory import memory_of_a_worker
from fairlead.gateway.settings import TlsFiles
from fairlead.gateway.tls import server_context

BACKLOG = 1024
RESTART_DELAY_S_MAX = 5.0
HEALTHY_AFTER_S = 3.0
STOP_GRACE_S = 20.0
LOG_BYTES_MAX = 8 * 1024 * 1024
LOG_LOOK_S = 60.0
LAST_WORDS_BYTES = 8192
LAST_WORDS_SHOWN = 300

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class UpSettings(msgspec.Struct, frozen=True):
    """How to run one installation.

    Attributes:
        host: Address of the gateway; loopback unless the user says otherwise.
        control_host: Address of the control API, likewise.
        gateway_port, control_port: 0 lets the system choose.
        workers: Gateway worker processes.
        tls: HTTPS on the gateway; None for plain HTTP.
        drain_s: Seconds that open requests have when the gateway stops.
        worker_memory_mb: Resident memory that each gateway worker may have, in megabytes; None for
            an equal part of most of what the machine or container has.
    """

    host: str = "127.0.0.1"
    control_host: str = "127.0.0.1"
    gateway_port: int = 7600
    control_port: int = 7601
    workers: int = 2
    drain_s: float = 15.0
    tls: TlsFiles | None = None
    worker_memory_mb: int | None = None


class Child:
    """One supervised process, through all its lives."""

    def __init__(self, name: str, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self.name = name
        self._start = start
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.restart_at = 0.0
        self.failures = 0
        self._trouble = ""

    def start(self, now: float) -> str | None:
        """Start it. Why that is not possible now, once for each reason; it is planned again."""
        self.started_at = now
        try:
            self.process = self._start()
        except (OSError, subprocess.SubprocessError) as error:
            # The disk is full, or there are too many processes: that passes.
            self._plan_restart(now)
            trouble = str(error)
            is_new, self._trouble = trouble != self._trouble, trouble
            return trouble if is_new else None
        self._trouble = ""
        return None

    def ended(self, now: float) -> int | None:
        """The exit code when the process has just ended; plans when it is started again."""
        if self.process is None:
            return None
        code = self.process.poll()
        if code is None:
            return None
        self.process = None
        self._plan_restart(now)
        return code

    def replace(
        self, process: subprocess.Popen[bytes], now: float
    ) -> subprocess.Popen[bytes] | None:
        """Go on with this process; the one before it, if it had not ended."""
        old, self.process = self.process, process
        self.started_at = now
        self.failures = 0
        return old

    def _plan_restart(self, now: float) -> None:
        self.failures = 1 if now - self.started_at > HEALTHY_AFTER_S else self.failures + 1
        delay = 0.0 if self.failures == 1 else 0.2 * 2 ** min(self.failures, 10)
        self.restart_at = now + min(RESTART_DELAY_S_MAX, delay)

    def stop(self, how: signal.Signals, grace_s: float) -> None:
        """Signal, wait, and end by force what does not end."""
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


class Supervisor:
    """Runs an installation in the foreground until it is told to stop."""

    def __init__(self, paths: StatePaths, settings: UpSettings, say: Callable[[str], None]) -> None:
        self._paths = paths
        self._settings = settings
        self._say = say
        self._stopping = False
        self._restart_asked = False
        if settings.tls is not None:
            server_context(settings.tls.cert, settings.tls.key, settings.tls.client_ca)
        self._gateway = listen(settings.host, settings.gateway_port, "gateway", "--port")
        try:
            self._control = listen(
                settings.control_host, settings.control_port, "control API", "--control-port",
                host_option="--control-host",
            )  # fmt: skip
        except Unavailable:
            self._gateway.close()
            raise
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self.info = UpInfo(
            pid=os.getpid(),
            gateway_url=url_of(settings.host, self._gateway, is_tls=settings.tls is not None),
            control_url=url_of(_reached_at(settings.control_host), self._control),
            tls=settings.tls,
        )
        self._token = secrets.token_urlsafe(32)
        self._children: list[Child] = []
        self._logs_bounded_at = time.monotonic()
        self._silent_until: dict[str, int] = {}
        """How long each child's log was when its present process began."""
        self._turnover = Turnover(
            paths.run,
            start=self._start_successor,
            last_words=lambda number: self._words(f"gateway-{number}"),
            describe=describe,
            hurry_s=settings.drain_s + STOP_GRACE_S,
            say=say,
        )

    def start(self) -> None:
        """Start all processes and write down where they are reached."""
        _become_subreaper()
        clear_away(self._paths.run)
        write_private(self._paths.token, self._token.encode())
        write_private(self._paths.up, msgspec.json.encode(self.info))
        self._children = [
            Child("control", self._start_control),
            Child("observer", self._start_observer),
            *(
                Child(f"gateway-{number}", functools.partial(self._start_gateway, number))
                for number in range(self._settings.workers)
            ),
        ]
        now = time.monotonic()
        for child in self._children:
            self._begin(child, now)

    def _begin(self, child: Child, now: float) -> None:
        trouble = child.start(now)
        if trouble is not None:
            self._say(f"{child.name} cannot be started: {trouble}; trying again")

    def run(self) -> None:
        """Supervise until `request_stop` (or SIGINT/SIGTERM once handlers are installed)."""
        while not self._stopping:
            now = time.monotonic()
            for child in self._children:
                code = child.ended(now)
                if code is not None:
                    self._say_end(child.name, code)
                if child.process is None and now >= child.restart_at:
                    self._begin(child, now)
            if self._restart_asked:
                self._restart_asked = False
                self._begin_restart(now)
            self._turnover.look(now)
            self._reap_orphans()
            if now - self._logs_bounded_at >= LOG_LOOK_S:
                self._logs_bounded_at = now
                for child in self._children:
                    _bound_log(self._log(child.name))
            self._wait()

    def _wait(self) -> None:
        """A moment, or until a signal."""
        if select.select([self._wake_read], [], [], 0.2)[0]:
            os.read(self._wake_read, 64)

    def _begin_restart(self, now: float) -> None:
        gateways = [child for child in self._children if child.name.startswith("gateway")]
        for request in take_requests(self._paths.run) or [RestartRequest(id="")]:
            self._turnover.begin(request, gateways, now)

    def _say_end(self, name: str, code: int) -> None:
        self._say(f"{name} ended ({describe(code)}); starting it again")
        words = self._words(name) if code > 0 else ""
        if words:
            self._say(f"  its last words: {words}")

    def _words(self, name: str) -> str:
        return _last_words(self._log(name), self._silent_until.get(name, 0))

    def install_signal_handlers(self) -> None:
        """SIGINT, SIGTERM and SIGHUP end `run`; further ones do not hurry the orderly stop.

        SIGUSR2 restarts the gateway workers.
        """
        for number in heeded((signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGUSR2, lambda _number, _frame: self.request_restart())

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.request_stop()

    def request_stop(self) -> None:
        """End `run` soon; safe to call from a signal handler."""
        self._stopping = True
        self._wake()

    def request_restart(self) -> None:
        """Restart the gateway workers soon; safe to call from a signal handler."""
        self._restart_asked = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b".")

    def stop(self) -> None:
        """Stop all processes in order and take back what was written for other commands."""
        grace = self._settings.drain_s + STOP_GRACE_S
        self._turnover.abandon()
        gateways = [child for child in self._children if child.name.startswith("gateway")]
        for old in self._turnover.processes:
            old.send_signal(signal.SIGTERM)
        for child in gateways:
            if child.process is not None:
                child.process.send_signal(signal.SIGTERM)
        for child in gateways:
            child.stop(signal.SIGTERM, grace)
        self._turnover.stop(time.monotonic() + grace)
        by_name = {child.name: child for child in self._children}
        if "control" in by_name:
            by_name["control"].stop(signal.SIGINT, STOP_GRACE_S)
        if "observer" in by_name:
            by_name["observer"].stop(signal.SIGTERM, STOP_GRACE_S)
        self._end_leftovers()
        self._reap_orphans()
        for path in (self._paths.up, self._paths.token):
            # Whatever is there instead of ours: nobody believes it without the lock.
            with contextlib.suppress(OSError):
                path.unlink()
        self._gateway.close()
        self._control.close()

    def _end_leftovers(self) -> None:
        """End replicas whose control was killed just before the stop.

        As subreaper this process is the parent of all of them, and of nothing else by now.
        """
        for pid in _children_of(os.getpid()):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 3.0
        while _children_of(os.getpid()) and time.monotonic() < deadline:
            self._reap_orphans()
            time.sleep(0.02)
        for pid in _children_of(os.getpid()):
            os.kill(pid, signal.SIGKILL)

    def _reap_orphans(self) -> None:
        """Reap replicas that outlived the control process that started them."""
        own = {child.process.pid for child in self._children if child.process is not None}
        own |= {process.pid for process in self._turnover.processes}
        for pid in _children_of(os.getpid()):
            if pid not in own:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    continue

    def _start_control(self) -> subprocess.Popen[bytes]:
        settings = {
            "state": str(self._paths.root),
            "listen_fd": self._control.fileno(),
            "gateway_url": self.info.gateway_url,
            "supervisor_pid": os.getpid(),
            "workers": self._settings.workers,
            "gateway_pids": self._gateway_pids(),
        }
        return self._spawn(
            "control",
            "fairlead.app.control_process",
            settings,
            (self._control.fileno(),),
            self._token,
        )

    def _gateway_pids(self) -> list[int]:
        """The gateway's processes, those included that are about to serve or to end."""
        gateways = [child.process for child in self._children if child.name.startswith("gateway")]
        return [p.pid for p in (*gateways, *self._turnover.processes) if p is not None]

    def _start_observer(self) -> subprocess.Popen[bytes]:
        settings = {"state": str(self._paths.root)}
        return self._spawn("observer", "fairlead.app.observer_process", settings)

    def _log(self, name: str) -> Path:
        return self._paths.logs / f"{name}.log"

    def _start_gateway(self, number: int, ready: int | None = None) -> subprocess.Popen[bytes]:
        settings = {
            "state": str(self._paths.root),
            "worker": number,
            "listen_fd": self._gateway.fileno(),
            "control_url": self.info.control_url,
            "drain_s": self._settings.drain_s,
            "tls": self._settings.tls,
            "ready_fd": ready,
            "memory_bytes_max": memory_of_a_worker(
                self._settings.worker_memory_mb, self._settings.workers
            ),
        }
        return self._spawn(
            f"gateway-{number}",
            "fairlead.app.gateway_process",
            settings,
            (self._gateway.fileno(), *(() if ready is None else (ready,))),
            self._token,
        )

    def _start_successor(self, number: int) -> Successor:
        read, write = os.pipe()
        try:
            return Successor(self._start_gateway(number, write), read)
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)

    def _spawn(
        self,
        name: str,
        module: str,
        settings: Mapping[str, object],
        descriptors: Sequence[int] = (),
        token: str | None = None,
    ) -> subprocess.Popen[bytes]:
        log = self._log(name)
        _bound_log(log)
        with open_private(log, "ab") as output:
            self._silent_until[name] = output.tell()
            return subprocess.Popen(
                [sys.executable, "-m", module, msgspec.json.encode(settings).decode()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=child_environment(os.environ, token),
                pass_fds=descriptors,
                # A session of its own keeps the terminal's Ctrl-C away: the order is ours.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )


def listen(
    host: str, port: int, what: str, option: str, *, host_option: str = "--host"
) -> socket.socket:
    """A listening socket that children inherit; raises Unavailable.

    Args:
        what: Who listens, for the message.
        option, host_option: What chooses another port, and another address.
    """
    with contextlib.ExitStack() as undo:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listening = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(BACKLOG)
        except (OSError, OverflowError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise Unavailable(
                f"{what}: cannot listen on {host}:{port}: {reason or error}",
                hint=_listen_hint(error, option, host_option),
            ) from None
        undo.pop_all()
    listening.set_inheritable(True)
    return listening


def _listen_hint(error: Exception, option: str, host_option: str) -> str:
    """What to do about it: the port can be wrong, or the address."""
    if isinstance(error, OverflowError):
        return f"choose a port from 0 to 65535 with {option}"
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror):
        if error.errno == errno.EADDRINUSE:
            return f"is another program using it? choose another port with {option}"
        if error.errno in (errno.EACCES, errno.EPERM):
            return f"ports below 1024 are reserved; choose another port with {option}"
    return f"choose an address of this machine with {host_option}, or 127.0.0.1"


def url_of(host: str, listening: socket.socket, *, is_tls: bool = False) -> str:
    """Where a listening socket is reached."""
    port = listening.getsockname()[1]
    scheme = "https" if is_tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _reached_at(host: str) -> str:
    """The address by which processes of this machine reach what listens on an address."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound here


def _bound_log(path: Path) -> None:
    """Keep at most one earlier log file beside the present one.

    The process that appends to it goes on in the same file, at its new end; a line that it prints
    in just this moment may be lost. On a full disk the earlier part is given up.
    """
    try:
        if path.stat().st_size <= LOG_BYTES_MAX:
            return
    except OSError:
        return
    earlier = path.with_suffix(".log.1")
    try:
        with path.open("rb") as source, open_private(earlier, "wb") as copy:
            shutil.copyfileobj(source, copy)
    except OSError:
        with contextlib.suppress(OSError):
            earlier.unlink()
    with contextlib.suppress(OSError):
        os.truncate(path, 0)


def _last_words(log: Path, since: int) -> str:
    """The last line that says anything in a log; `since`, unless it has become shorter again."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= size else 0, size - LAST_WORDS_BYTES))
            lines = file.read(LAST_WORDS_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return ""
    words = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "".join(c for c in words if c.isprintable())[:LAST_WORDS_SHOWN]


def heeded(numbers: Sequence[signal.Signals]) -> list[signal.Signals]:
    """Those of the signals that are not ignored: with `nohup`, a hangup is to change nothing."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def describe(code: int) -> str:
    """How a process ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def die_with_parent() -> None:
    """For `preexec_fn`. Linux: the child gets SIGTERM when its parent ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _become_subreaper() -> None:
    """Linux: orphaned replicas become children of this process, which reaps them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _children_of(pid: int) -> list[int]:
    """Process ids of the direct children of all threads (Linux; elsewhere none are listed)."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in children.read_text().split()]
        except OSError:
            continue  # The thread has just ended.
    return found
