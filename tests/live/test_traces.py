"""`fairlead up --otlp`: what a client traces arrives at a collector, with its attempts."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.installation import Installation, running
from support.metrics import value
from support.otlp import Collector, attributes

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT = "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def traced(tmp_path: Path, collector: Collector) -> Iterator[Installation]:
    """An installation that traces what its clients trace."""
    options = ["--otlp", collector.url, "--trace-share", "0"]
    with running(tmp_path / "state", options=options) as made:
        made.make_key()
        yield made


def ask(installation: Installation, traceparent: str | None) -> str:
    """One request; its id."""
    connection = http.client.HTTPConnection(*installation.gateway, timeout=30)
    headers = {"authorization": f"Bearer {installation.key}", "content-type": "application/json"}
    if traceparent is not None:
        headers["traceparent"] = traceparent
    message = {"role": "user", "content": "my card is lost"}
    body = {"model": "banking", "messages": [message], "max_tokens": 4}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()
    connection.close()
    found = answer.headers["x-request-id"]
    assert found is not None
    return found


def scrape(installation: Installation) -> str:
    """Control's metrics, with the token for them."""
    token = installation.paths.metrics_token.read_text()
    _, _, place = installation.paths.require_up().control_url.partition("://")
    connection = http.client.HTTPConnection(place, timeout=30)
    connection.request("GET", "/metrics", headers={"authorization": f"Bearer {token}"})
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def test_a_span_of_each_request_that_its_client_traces(
    traced: Installation, collector: Collector
) -> None:
    traced.finish(traced.ship(traced.spec("a")).id)
    ask(traced, None)
    ask(traced, f"00-{TRACE}-{CLIENT}-00")
    wanted = ask(traced, f"00-{TRACE}-{CLIENT}-01")
    traced.wait(lambda: len(collector.spans) >= 2, "spans", 60)
    span, attempt = collector.spans
    assert collector.problems == []
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, CLIENT)
    said = attributes(span)
    assert said["gen_ai.response.id"] == wanted
    assert said["gen_ai.request.model"] == "banking"
    assert said["gen_ai.usage.output_tokens"] > 0
    assert span.end_time_unix_nano > span.start_time_unix_nano
    assert (attempt.trace_id, attempt.parent_span_id) == (span.trace_id, span.span_id)
    assert attributes(attempt)["fairlead.replica"] == said["fairlead.replica"]
    sent = "fairlead_observer_spans_total"
    traced.wait(lambda: value(scrape(traced), sent, outcome="sent") == 1, "the count", 30)
