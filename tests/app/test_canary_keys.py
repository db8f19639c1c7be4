"""API keys of a running platform are written nowhere: every byte of its folder is searched."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.canaries import bytes_below, hits, processes
from support.installation import Installation, descendants

WRONG = "fl-wrong-canary-7741cd"


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path / "state")
    made.start(workers=1, options=["--worker-memory-mb", "400"])
    yield made
    made.stop()


def ask(installation: Installation, key: str, path: str, body: object = None) -> bytes:
    connection = http.client.HTTPConnection(*installation.gateway, timeout=60)
    try:
        connection.request(
            "GET" if body is None else "POST",
            path,
            None if body is None else json.dumps(body),
            {"authorization": f"Bearer {key}"},
        )
        answer = connection.getresponse()
        return str(answer.headers).encode() + answer.read()
    finally:
        connection.close()


@pytest.mark.live
def test_no_key_is_found_in_any_file_in_the_output_in_metrics_or_in_a_command_line(
    installation: Installation,
) -> None:
    key = installation.make_key("canary")
    assert len(key) > 20
    installation.wait(
        lambda: b'"list"' in ask(installation, key, "/v1/models"), "the key to be known"
    )
    chat = {"model": "none", "messages": []}
    places = {
        "not found": ask(installation, key, "/v1/chat/completions", chat),
        "wrong": ask(installation, WRONG, "/v1/chat/completions", chat),
        "nearly": ask(installation, key[:-1], "/v1/models"),
        "metrics": ask(installation, key, "/metrics"),
    }
    assert b'fairlead_gateway_memory_limit_bytes{worker="0"} 400000000' in places["metrics"]
    assert b"model_not_found" in places["not found"]
    assert b"invalid_api_key" in places["nearly"]
    assert installation.process is not None
    pids = [installation.process.pid, *descendants(installation.process.pid)]
    assert len(pids) > 3
    places |= processes(pids)
    root = installation.paths.root
    places |= bytes_below(root)
    installation.stop()
    places |= bytes_below(root)
    # The name of the key is there, in the store and in the snapshot; so would be the key.
    named = [place for place, data in places.items() if re.search(rb"canary", data)]
    assert len(named) >= 2
    assert hits((key, key[3:-3], WRONG), places) == []
    (root / "planted").write_bytes(b"x" + key.encode())
    assert (key, str(root / "planted")) in hits([key], bytes_below(root))
