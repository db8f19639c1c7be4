"""How the processes of an installation are started."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence

import msgspec

from fairlead.app.child_logs import ChildLogs
from fairlead.app.environment import child_environment
from fairlead.app.processes import die_with_parent
from fairlead.app.state import StatePaths, UpInfo
from fairlead.app.up_settings import UpSettings
from fairlead.gateway.waiting.memory import memory_of_a_worker


class Sockets(msgspec.Struct, frozen=True):
    """What the processes listen on; they belong to the supervisor.

    Attributes:
        balance: Memory that the gateway workers share (`fairlead.gateway.front.balance`), or None.
    """

    gateway: socket.socket
    control: socket.socket
    balance: int | None = None

    def close(self) -> None:
        """Close all."""
        self.gateway.close()
        self.control.close()
        if self.balance is not None:
            os.close(self.balance)


class Launcher:
    """Starts processes; each of its methods raises OSError or SubprocessError.

    Attributes:
        token: What control asks of whoever calls it.
    """

    def __init__(
        self,
        paths: StatePaths,
        settings: UpSettings,
        sockets: Sockets,
        info: UpInfo,
        logs: ChildLogs,
    ) -> None:
        self._paths = paths
        self._settings = settings
        self._sockets = sockets
        self._info = info
        self._logs = logs
        self.token = secrets.token_urlsafe(32)

    def control(self, gateway_pids: list[int]) -> subprocess.Popen[bytes]:
        """Start control.

        Args:
            gateway_pids: The gateway's processes, those included that are about to serve or end.
        """
        descriptor = self._sockets.control.fileno()
        settings = {
            "state": str(self._paths.root),
            "listen_fd": descriptor,
            "gateway_url": self._info.gateway_url,
            "supervisor_pid": os.getpid(),
            "workers": self._settings.workers,
            "gateway_pids": gateway_pids,
        }
        module = "fairlead.app.control_process"
        return self._spawn("control", module, settings, (descriptor,), self.token)

    def observer(self) -> subprocess.Popen[bytes]:
        """Start the observer."""
        settings = {
            "state": str(self._paths.root),
            "telemetry_days": self._settings.telemetry_days,
            "otlp": self._settings.otlp,
        }
        return self._spawn("observer", "fairlead.app.observer_process", settings)

    def gateway(self, number: int, ready: int | None = None) -> subprocess.Popen[bytes]:
        """Start a gateway worker.

        Args:
            ready: Write end of a pipe through which it says that it serves.
        """
        descriptor, balance = self._sockets.gateway.fileno(), self._sockets.balance
        settings = {
            "state": str(self._paths.root),
            "worker": number,
            "listen_fd": descriptor,
            "control_url": self._info.control_url,
            "drain_s": self._settings.drain_s,
            "tls": self._settings.tls,
            "ready_fd": ready,
            "memory_bytes_max": memory_of_a_worker(
                self._settings.worker_memory_mb, self._settings.workers
            ),
            "balance_fd": balance,
            "trace_share": self._settings.trace_share if self._settings.otlp else None,
            "metrics": self._settings.metrics,
        }
        descriptors = [given for given in (descriptor, ready, balance) if given is not None]
        module = "fairlead.app.gateway_process"
        return self._spawn(f"gateway-{number}", module, settings, descriptors, self.token)

    def _spawn(
        self,
        name: str,
        module: str,
        settings: Mapping[str, object],
        descriptors: Sequence[int] = (),
        token: str | None = None,
    ) -> subprocess.Popen[bytes]:
        with self._logs.open(name) as output:
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
