"""One Prometheus sees all of a running installation, by the configuration that the docs give."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from support.installation import Installation
from support.prometheus import MISSING, PROGRAM
from support.real_server import RealServer, free_port

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(240),
    pytest.mark.skipif(PROGRAM is None, reason=MISSING),
]
DOCS = Path(__file__).parents[2] / "docs" / "observability.md"


def configuration(installation: Installation) -> str:
    """The one of the docs, for this installation, and faster."""
    found = re.search(r"```yaml\n(scrape_configs:.*?)```", DOCS.read_text(), re.DOTALL)
    assert found is not None
    info = installation.paths.require_up()
    text = found[1].replace("127.0.0.1:7600", info.gateway_url.partition("://")[2])
    text = text.replace("127.0.0.1:7601", info.control_url.partition("://")[2])
    text = text.replace("/path/to/.fairlead", str(installation.paths.root))
    return "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n" + text


def ask(port: int, query: str) -> list[dict[str, Any]]:
    url = f"http://127.0.0.1:{port}/api/v1/query?{urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return list(json.load(answer)["data"]["result"])


def test_a_prometheus_sees_gateway_control_observer_and_replicas(
    installation: Installation, tmp_path: Path
) -> None:
    shipped = installation.ship(installation.spec("a"))
    installation.finish(shipped.id)
    folder = tmp_path / "prometheus"
    folder.mkdir()
    (folder / "prometheus.yml").write_text(configuration(installation))
    port = free_port()
    assert PROGRAM is not None
    command = [
        PROGRAM, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    server = RealServer(command, port, folder / "log")
    try:
        for query in (
            'up{job="fairlead-gateway"} == 1',
            'up{job="fairlead-control"} == 1',
            'up{job="fairlead-replicas"} == 1',
            "fairlead_gateway_snapshot_version > 0",
            'fairlead_replicas{state="ready"} > 0',
            "fairlead_observer_up == 1",
            "fairlead_observer_archive_lag_seconds < 120",
            'fairlead_control_turns_total{outcome="done"} > 0',
            'fairlead_replica_requests_running{engine="llama.cpp",service="banking"} >= 0',
        ):
            installation.wait(lambda query=query: bool(ask(port, query)), query, 60)
    finally:
        server.stop()
