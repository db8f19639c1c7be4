"""vLLM's own server as a process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx

from .environment import model

NAME = "bank"
"""What the served model is called."""

CONTEXT = 2048
START_S = 600.0
_ASK_S = 10.0


class Server:
    """One `vllm serve`, with all of its processes.

    Args:
        served: The folder of its model; the tiny one of the environment if not given.
    """

    def __init__(
        self, environment: Path, folder: Path, name: str, served: Path | None = None
    ) -> None:
        self._environment = environment
        self._served = served or model(environment)
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._held: socket.socket | None = None
        self.url = ""
        self.ready_s = 0.0

    def start(self) -> None:
        """Start it unless it runs; `await_ready` waits for it."""
        if self.is_running:
            return
        port = self._hold_port()
        self.url, self.ready_s = f"http://127.0.0.1:{port}", 0.0
        command = [
            str(self._environment / "bin" / "vllm"), "serve", str(self._served),
            "--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port),
            "--max-model-len", str(CONTEXT), "--max-num-seqs", "32", "--dtype", "float32",
            "--enforce-eager", "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
            # The model runs in the engine's process: one less that has to load vLLM.
            "--distributed-executor-backend", "uni",
        ]  # fmt: skip
        self._started_at = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environ(),
                start_new_session=True,
            )

    def await_ready(self) -> None:
        """Wait until it serves."""
        assert self._process is not None
        if self.ready_s:
            return
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            assert self._process.poll() is None, self.log()
            try:
                if self._get("/health").status_code == 200:
                    self.ready_s = time.monotonic() - self._started_at
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise AssertionError(self.log())

    def kill(self) -> None:
        """Kill all of its processes at once, as when a machine is lost."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        if self._held is not None:
            self._held.close()
            self._held = None

    def pause(self) -> None:
        """Stop all of its processes where they are; `kill` ends them all the same."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def metric(self, name: str) -> float:
        """The sum of a metric's values."""
        lines = self._get("/metrics").text.splitlines()
        values = [line for line in lines if line.startswith((f"{name}{{", f"{name} "))]
        assert values, f"no metric {name}"
        return sum(float(line.rpartition(" ")[2]) for line in values)

    def log(self) -> str:
        """The end of what it wrote, for a failed test."""
        return self._log.read_text(errors="replace")[-4000:]

    def _hold_port(self) -> int:
        """A port that nobody else is given until vLLM, which may share it, binds it."""
        if self._held is not None:
            self._held.close()
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        port: int = self._held.getsockname()[1]
        return port

    def _get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=_ASK_S, verify=False)


def environ() -> dict[str, str]:
    """The environment of vLLM's processes."""
    return {
        **{k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")},
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
    }
