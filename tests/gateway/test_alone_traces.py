"""A gateway that runs alone sends spans of its requests by itself, and keeps no records for it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from gateway_rig import CHAT, Engine, answers, until

from support.otlp import Collector, attributes

StartEngine = Callable[..., Awaitable[Engine]]
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FILE = """\
listen: 127.0.0.1:0
keys: none
tracing: {{otlp: "{collector}", share: 0%}}
services:
  - name: bank
    releases:
      - {{name: one, replicas: ["{engine}"]}}
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.mark.timeout(60)
async def test_requests_that_clients_trace_arrive_with_their_attempts(
    engine: StartEngine, collector: Collector, tmp_path: Path
) -> None:
    one = await engine(answers())
    config = tmp_path / "gateway.yaml"
    config.write_text(FILE.format(collector=collector.url, engine=one.url))
    log = tmp_path / "log"
    with log.open("wb") as output:
        gateway = subprocess.Popen(  # noqa: ASYNC220 - it is waited for without blocking
            [sys.executable, "-m", "fairlead", "gateway", "run", "--config", str(config)],
            stdout=output, stderr=output, env={**os.environ, "FAIRLEAD_STATE": str(tmp_path)},
        )  # fmt: skip
    try:
        await until(lambda: b"traces: 0% of requests to" in log.read_bytes())
        url = log.read_text().split("gateway at ")[1].split()[0]
        async with httpx.AsyncClient() as client:
            for flags in ("00", "01"):
                answer = await _asked(client, url, f"00-{TRACE}-{SPAN}-{flags}")
                assert answer.status_code == 200, answer.text
        await until(lambda: len(collector.spans) >= 2)
    finally:
        gateway.send_signal(signal.SIGTERM)
        await asyncio.to_thread(gateway.wait, 20)
    assert collector.problems == []
    own, attempt = collector.spans
    assert (own.trace_id.hex(), own.parent_span_id.hex()) == (TRACE, SPAN)
    assert attempt.parent_span_id == own.span_id
    told = one.asked[-1].headers["traceparent"]
    assert told == f"00-{TRACE}-{attempt.span_id.hex()}-01"
    assert attributes(own)["gen_ai.request.model"] == "bank"
    assert attributes(own)["gen_ai.response.id"] == answer.headers["x-request-id"]


async def _asked(client: httpx.AsyncClient, url: str, traceparent: str) -> httpx.Response:
    """Once a worker serves; the supervisor listens before."""
    headers = {"traceparent": traceparent}
    return await client.post(f"{url}/chat/completions", json=CHAT, headers=headers, timeout=30.0)
