"""A real Alertmanager on loopback with a data folder of its own, which tells one webhook."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.real_server import RealServer, free_port

PROGRAM = shutil.which(
    "prometheus-alertmanager", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin"
) or shutil.which("alertmanager", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
MISSING = "there is no Alertmanager here (apt-get install prometheus-alertmanager)"
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


class RealAlertmanager(RealServer):
    """The server. It groups by alert name and service, and tells at once."""

    def __init__(self, folder: Path, hook: str) -> None:
        assert PROGRAM is not None
        folder.mkdir(parents=True)
        (folder / "alertmanager.yml").write_text(_CONFIG.format(url=hook))
        port = free_port()
        command = [
            PROGRAM, f"--config.file={folder}/alertmanager.yml",
            f"--storage.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ]  # fmt: skip
        super().__init__(command, port, folder / "log")
