"""A real Prometheus on loopback with a data folder of its own, and what it scrapes."""

from __future__ import annotations

import json
import re
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from support.installation import Installation
from support.real_server import RealServer, free_port

PROGRAM = shutil.which("prometheus", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
MISSING = "there is no prometheus here (apt-get install prometheus)"
DOCS = Path(__file__).parents[2] / "docs" / "observability.md"
SCALE = 60
"""Of `scaled`: an hour is a minute."""

_OFTEN = "global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}\n"
_EXPORTER = """
scrape_configs:
  - job_name: replicas
    static_configs:
      - targets: ["{target}"]
"""
_ALERTING = """
rule_files: ["*.rules.yml"]
alerting:
  alertmanagers:
    - static_configs:
        - targets: ["{alertmanager}"]
"""
_TIME = re.compile(r"\b(\d+)([dhm])\b")
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60}


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
    """The server. It scrapes twice a second.

    Args:
        scrapes: One exporter, or `scrape_configs`.
        rules: Texts of rule files, by a name for each.
        alertmanager: `host:port` of who is told of alerts.
    """

    def __init__(
        self,
        folder: Path,
        scrapes: Exporter | str,
        rules: Mapping[str, str] | None = None,
        alertmanager: str = "",
    ) -> None:
        assert PROGRAM is not None
        folder.mkdir(parents=True)
        if isinstance(scrapes, Exporter):
            scrapes = _EXPORTER.format(target=scrapes.address)
        config = _OFTEN + scrapes
        for name, text in (rules or {}).items():
            (folder / f"{name}.rules.yml").write_text(text)
        if rules:
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

    def ask(self, query: str) -> list[dict[str, Any]]:
        """What an instant query gives now."""
        url = f"{self.url}/api/v1/query?{urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return list(json.load(answer)["data"]["result"])
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from None


def documented_scrapes(installation: Installation) -> str:
    """The `scrape_configs` that the docs give, for this installation."""
    found = re.search(r"```yaml\n(scrape_configs:.*?)```", DOCS.read_text(), re.DOTALL)
    assert found is not None
    info = installation.paths.require_up()
    text = found[1].replace("127.0.0.1:7600", info.gateway_url.partition("://")[2])
    text = text.replace("127.0.0.1:7601", info.control_url.partition("://")[2])
    return text.replace("/path/to/.fairlead", str(installation.paths.root))


def scaled(rules: str, *, without: str = "") -> str:
    """The same rules in a time that goes `SCALE` times as fast; alerts have `scaled: "yes"`.

    Args:
        without: A monitor whose alerts are left out.
    """

    def faster(time: re.Match[str]) -> str:
        return f"{int(time[1]) * _SECONDS[time[2]] // SCALE}s"

    document = yaml.safe_load(_TIME.sub(faster, rules))
    for group in document["groups"]:
        group["name"] += "-scaled"
        group["rules"] = [
            rule
            for rule in group["rules"]
            if not without or rule.get("labels", {}).get("monitor") != without
        ]
        for rule in group["rules"]:
            if "alert" in rule:
                rule["labels"]["scaled"] = "yes"
    return str(yaml.safe_dump(document, sort_keys=False))
