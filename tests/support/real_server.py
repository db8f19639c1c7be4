"""A real program on a free port of loopback, ended with the test."""

from __future__ import annotations

import random
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

_READY_S = 60.0


def free_port() -> int:
    """A port that nobody listens on now, and that nobody is given who asks for any."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


class RealServer:
    """A program that answers `/-/ready` once it serves.

    Args:
        log: Takes what it says.
    """

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        end = time.monotonic() + _READY_S
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5.0):
                    return
            except (urllib.error.URLError, OSError):
                if self._process.poll() is not None:
                    break
                time.sleep(0.05)
        self.stop()
        raise AssertionError(f"{command[0]} does not start: {log.read_text()[-2000:]}")

    def stop(self) -> None:
        """End it, as often as wanted."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
