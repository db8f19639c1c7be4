"""The declared ceiling reaches the workers."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from standalone.running_gateway import running


def test_each_worker_has_the_memory_that_the_file_declares(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(
        "listen: 127.0.0.1:0\nworker_memory_mb: 300\nspool: off\nkeys: none\n"
        "services: [{name: bank, releases: [{name: main, url: 'http://127.0.0.1:9', model: m}]}]\n"
    )
    with running(config) as gateway:
        with urllib.request.urlopen(f"{gateway.url}/metrics", timeout=60) as answer:
            page = answer.read().decode()
        limit = r'^fairlead_gateway_memory_limit_bytes\{worker="0"\} 300000000$'
        assert re.search(limit, page, re.MULTILINE)
        assert re.search(r'^fairlead_gateway_memory_level\{worker="0"\} 0$', page, re.MULTILINE)
        resident = re.search(r'memory_resident_bytes\{worker="0"\} (\d+)', page)
        assert resident is not None
        assert 10_000_000 < int(resident[1]) < 300_000_000
