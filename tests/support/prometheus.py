"""A real Prometheus on loopback with a data folder of its own, and what it scrapes."""

from __future__ import annotations

import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from support.real_server import RealServer, free_port

PROGRAM = shutil.which("prometheus", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
MISSING = "there is no prometheus here (apt-get install prometheus)"
_CONFIG = """
global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}}
scrape_configs:
  - job_name: replicas
    static_configs:
      - targets: ["{target}"]
"""
_ALERTING = """
rule_files: [rules.yml]
alerting:
  alertmanagers:
    - static_configs:
        - targets: ["{alertmanager}"]
"""


class Exporter:
    """What a replica exports: series, as text, and their values."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        handler = type("Handler", (_Handler,), {"exporter": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def add(self, series: str, count: float) -> None:
        """Count on."""
        self.values[series] = self.values.get(series, 0.0) + count

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    exporter: Exporter

    def do_GET(self) -> None:
        lines = [f"{series} {value}\n" for series, value in dict(self.exporter.values).items()]
        text = "".join(lines).encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


class RealPrometheus(RealServer):
    """The server. It scrapes one exporter, twice a second.

    Args:
        rules: A rule file's text.
        alertmanager: `host:port` of who is told of alerts.
    """

    def __init__(
        self, folder: Path, exporter: Exporter, rules: str = "", alertmanager: str = ""
    ) -> None:
        assert PROGRAM is not None
        folder.mkdir(parents=True)
        config = _CONFIG.format(target=exporter.address)
        if rules:
            (folder / "rules.yml").write_text(rules)
            config += _ALERTING.format(alertmanager=alertmanager)
        (folder / "prometheus.yml").write_text(config)
        port = free_port()
        command = [
            PROGRAM, f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}",
            # The first time it tells of an alert it may not know yet whom.
            "--rules.alert.resend-delay=1s",
        ]  # fmt: skip
        super().__init__(command, port, folder / "log")
