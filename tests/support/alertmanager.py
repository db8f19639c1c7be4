"""A real Alertmanager on loopback with a data folder of its own, which tells one webhook."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

PROGRAM = shutil.which(
    "prometheus-alertmanager", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin"
) or shutil.which("alertmanager", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
MISSING = "there is no Alertmanager here (apt-get install prometheus-alertmanager)"
_READY_S = 60.0
_CONFIG = """
route:
  receiver: hook
  group_by: [alertname, service]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: hook
    webhook_configs: [{{url: "{url}", send_resolved: true}}]
"""


class RealAlertmanager:
    """The server. It groups by alert name and service, and tells at once."""

    def __init__(self, folder: Path, hook: str) -> None:
        assert PROGRAM is not None
        folder.mkdir(parents=True)
        (folder / "alertmanager.yml").write_text(_CONFIG.format(url=hook))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [
            PROGRAM, f"--config.file={folder}/alertmanager.yml",
            f"--storage.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ]  # fmt: skip
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait(folder / "log")

    def _wait(self, log: Path) -> None:
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
        raise AssertionError(f"Alertmanager does not start: {log.read_text()[-2000:]}")

    def stop(self) -> None:
        """End it, as often as wanted."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
