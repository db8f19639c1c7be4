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
import functools
import os
import signal
import time
from collections.abc import Callable

import msgspec

from fairlead.app.child_logs import ChildLogs
from fairlead.app.children import STOP_GRACE_S, Child, Children
from fairlead.app.launching import Launcher, Sockets
from fairlead.app.listening import listen, reached_at, url_of
from fairlead.app.processes import become_subreaper, children_of
from fairlead.app.signals import Wishes
from fairlead.app.state import StatePaths, UpInfo, write_private
from fairlead.app.turnover import RestartRequest, Turnover, clear_away, take_requests
from fairlead.app.up_settings import UpSettings
from fairlead.domain.errors import Unavailable
from fairlead.gateway.front.balance import shared_counts
from fairlead.gateway.front.tls import server_context

LOOK_S = 0.2
LOG_LOOK_S = 60.0


class Supervisor:
    """Runs an installation in the foreground until it is told to stop.

    Attributes:
        info: Where it is reached.
        wishes: What it is told.
    """

    def __init__(self, paths: StatePaths, settings: UpSettings, say: Callable[[str], None]) -> None:
        self._paths = paths
        self._grace_s = settings.drain_s + STOP_GRACE_S
        self._sockets = _listen(settings)
        self.wishes = Wishes()
        self.info = UpInfo(
            pid=os.getpid(),
            gateway_url=url_of(
                settings.host, self._sockets.gateway, is_tls=settings.tls is not None
            ),
            control_url=url_of(reached_at(settings.control_host), self._sockets.control),
            tls=settings.tls,
        )
        self._logs = ChildLogs(paths.logs)
        self._logs_bounded_at = time.monotonic()
        self._launcher = launcher = Launcher(paths, settings, self._sockets, self.info, self._logs)
        self._control = Child("control", lambda: launcher.control(self._gateway_pids()))
        self._observer = Child("observer", launcher.observer)
        self._gateways = [
            Child(f"gateway-{number}", functools.partial(launcher.gateway, number))
            for number in range(settings.workers)
        ]
        self._children = Children(
            (self._control, self._observer, *self._gateways), say, self._logs.last_words
        )
        self._turnover = Turnover(
            paths.run,
            start=launcher.gateway,
            last_words=self._logs.last_words,
            hurry_s=self._grace_s,
            say=say,
        )

    def start(self) -> None:
        """Start all processes and write down where they are reached."""
        become_subreaper()
        clear_away(self._paths.run)
        write_private(self._paths.token, self._launcher.token.encode())
        write_private(self._paths.up, msgspec.json.encode(self.info))
        self._children.start(time.monotonic())

    def run(self) -> None:
        """Supervise until an end is asked for."""
        while not self.wishes.is_stop_asked:
            now = time.monotonic()
            self._children.look(now)
            if self.wishes.take_restart():
                for request in take_requests(self._paths.run) or [RestartRequest(id="")]:
                    self._turnover.begin(request, self._gateways, now)
            self._turnover.look(now)
            self._reap_orphans()
            if now - self._logs_bounded_at >= LOG_LOOK_S:
                self._logs_bounded_at = now
                self._logs.bound(self._children.names)
            self.wishes.wait(LOOK_S)

    def install_signal_handlers(self) -> None:
        """See `Wishes`; further signals do not hurry the orderly stop."""
        self.wishes.install_signal_handlers()

    def stop(self) -> None:
        """Stop all processes in order and take back what was written for other commands."""
        self._turnover.abandon()
        for old in self._turnover.processes:
            old.send_signal(signal.SIGTERM)
        for child in self._gateways:
            if child.process is not None:
                child.process.send_signal(signal.SIGTERM)
        for child in self._gateways:
            child.stop(signal.SIGTERM, self._grace_s)
        self._turnover.stop(time.monotonic() + self._grace_s)
        self._control.stop(signal.SIGINT, STOP_GRACE_S)
        self._observer.stop(signal.SIGTERM, STOP_GRACE_S)
        self._end_leftovers()
        self._reap_orphans()
        for path in (self._paths.up, self._paths.token, self._paths.metrics_token):
            # Whatever is there instead of ours: nobody believes it without the lock.
            with contextlib.suppress(OSError):
                path.unlink()
        self._sockets.close()

    def _gateway_pids(self) -> list[int]:
        gateways = [child.process for child in self._gateways]
        return [p.pid for p in (*gateways, *self._turnover.processes) if p is not None]

    def _end_leftovers(self) -> None:
        """End replicas whose control was killed just before the stop.

        As subreaper this process is the parent of all of them, and of nothing else by now.
        """
        for pid in children_of(os.getpid()):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 3.0
        while children_of(os.getpid()) and time.monotonic() < deadline:
            self._reap_orphans()
            time.sleep(0.02)
        for pid in children_of(os.getpid()):
            os.kill(pid, signal.SIGKILL)

    def _reap_orphans(self) -> None:
        """Reap replicas that outlived the control process that started them."""
        own = {p.pid for p in (*self._children.processes, *self._turnover.processes)}
        for pid in children_of(os.getpid()):
            if pid not in own:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    continue


def _listen(settings: UpSettings) -> Sockets:
    """Raises Unavailable for an address, and InvalidInput for certificates, that are of no use."""
    if settings.tls is not None:
        server_context(settings.tls.cert, settings.tls.key, settings.tls.client_ca)
    gateway = listen(settings.host, settings.gateway_port, "gateway", "--port")
    try:
        control = listen(
            settings.control_host, settings.control_port, "control API", "--control-port",
            host_option="--control-host",
        )  # fmt: skip
    except Unavailable:
        gateway.close()
        raise
    return Sockets(gateway, control, shared_counts(settings.workers))
