"""Records become spans that OTLP's own schema takes; what cannot be sent is counted, and held back
by nothing."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.domain.errors import InvalidInput
from fairlead.observer import otlp
from fairlead.observer.otlp import (
    ATTEMPTS,
    BATCH_MAX,
    QUEUE_MAX,
    Answer,
    Endpoint,
    SpanSender,
    parse_endpoint,
)
from fairlead.observer.service import Observer
from fairlead.observer.spans import encode_spans
from fairlead.wire.record import RequestRecord, Tried
from support.otlp import Collector, attributes, parse
from support.waiting import wait_until

Make = Callable[..., RequestRecord]
TRACE, SPAN, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "1" * 16
PLACE = Endpoint("127.0.0.1", 4318, False, "/v1/traces")


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def traced(request_record: Make) -> Make:
    def make(name: str = "r1", **changes: Any) -> RequestRecord:
        given = {"trace": f"{TRACE}-{SPAN}", "endpoint": "chat/completions", **changes}
        return request_record(name, **given)

    return make


def test_a_span_says_what_the_record_says(traced: Make) -> None:
    record = traced(
        trace=f"{TRACE}-{SPAN}-{PARENT}", started_at=1_700_000_000.25, duration_ms=1500.0,
        stream=True, ttft_ms=250.0, itl_ms=12.5, cost_usd=0.002,
    )  # fmt: skip
    (span,) = parse(encode_spans([record]))
    assert (span.trace_id.hex(), span.span_id.hex()) == (TRACE, SPAN)
    assert span.parent_span_id.hex() == PARENT
    assert span.name == "chat bank"
    assert span.kind == span.SPAN_KIND_SERVER
    assert span.start_time_unix_nano == 1_700_000_000_250_000_000
    assert span.end_time_unix_nano == 1_700_000_001_750_000_000
    (event,) = span.events
    assert event.time_unix_nano == 1_700_000_000_500_000_000
    assert span.status.code == span.status.STATUS_CODE_UNSET
    assert attributes(span) == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "fairlead",
        "gen_ai.request.model": "bank", "gen_ai.response.model": "a",
        "gen_ai.response.id": "r1", "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 7, "http.response.status_code": 200,
        "fairlead.arm": "champion", "fairlead.attempts": 1, "fairlead.replica": "a-1",
        "fairlead.rollout": "r1", "fairlead.ttft_ms": 250.0, "fairlead.itl_ms": 12.5,
        "fairlead.cost_usd": 0.002,
    }  # fmt: skip


def test_attempts_and_waits_are_spans_below_the_requests(traced: Make) -> None:
    first, second, third = (f"{n:016x}" for n in (1, 2, 3))
    release = "sha256:" + "ab" * 32
    record = traced(
        started_at=1_700_000_000.0, duration_ms=100.0, attempts=3,
        tried=(
            Tried(first, "a-1", release, 20.0, 30.0, "503"),
            Tried(second, "a-2", release, 30.5, 90.0, "lost"),
            Tried(third, "a-3", release, 60.0, 90.0, "", is_hedge=True),
        ),
    )  # fmt: skip
    own, wait, one, two, three = parse(encode_spans([record]))
    assert {span.trace_id.hex() for span in (wait, one, two, three)} == {TRACE}
    assert {span.parent_span_id.hex() for span in (wait, one, two, three)} == {SPAN}
    assert [span.span_id.hex() for span in (own, one, two, three)] == [SPAN, first, second, third]
    assert wait.span_id.hex() not in {SPAN, first, second, third}
    assert (wait.name, wait.kind) == ("fairlead.queue", wait.SPAN_KIND_INTERNAL)
    assert wait.end_time_unix_nano - wait.start_time_unix_nano == 20_000_000
    assert (one.name, one.kind) == (f"chat {'ab' * 6}", one.SPAN_KIND_CLIENT)
    assert one.start_time_unix_nano == 1_700_000_000_020_000_000
    assert one.status.code == one.status.STATUS_CODE_ERROR
    assert attributes(one) == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "fairlead",
        "gen_ai.request.model": "bank", "gen_ai.response.model": "ab" * 6,
        "fairlead.replica": "a-1", "error.type": "503",
    }  # fmt: skip
    assert two.status.code == two.status.STATUS_CODE_UNSET
    assert attributes(two)["fairlead.outcome"] == "lost"
    assert attributes(two)["http.request.resend_count"] == 1
    assert attributes(three)["fairlead.hedge"] == 1
    assert "error.type" not in attributes(three)


def test_a_wait_between_two_attempts_is_one_and_always_the_same(traced: Make) -> None:
    tried = (Tried("1" * 16, "a", "d", 0.2, 10.0, "timeout"), Tried("2" * 16, "b", "d", 40.0, 50.0))
    record = traced(duration_ms=50.0, tried=tried)
    names = [span.name for span in parse(encode_spans([record]))]
    assert names == ["chat bank", "fairlead.queue", "chat d", "chat d"]
    assert encode_spans([record]) == encode_spans([record])


def test_what_is_not_known_is_left_out_and_a_failure_is_one(traced: Make) -> None:
    record = traced(
        status=503, error="queue_full", release="", replica="", rollout="", prompt_tokens=-1,
        completion_tokens=-1, ttft_ms=-1.0,
    )  # fmt: skip
    (span,) = parse(encode_spans([record]))
    assert not span.parent_span_id
    assert not span.events
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert span.status.message == "queue_full"
    said = attributes(span)
    assert said["error.type"] == "queue_full"
    assert not {"gen_ai.usage.input_tokens", "gen_ai.response.model", "fairlead.replica"} & set(
        said
    )


def test_what_the_client_caused_is_no_error_of_the_span(traced: Make) -> None:
    (span,) = parse(encode_spans([traced(status=499, error="client_left")]))
    assert span.status.code == span.status.STATUS_CODE_UNSET
    assert attributes(span)["fairlead.error"] == "client_left"
    assert "error.type" not in attributes(span)


@pytest.mark.parametrize("trace", ["", "x", f"{TRACE}-{SPAN}-", f"{TRACE}", f"{TRACE}-{SPAN}-zz"])
def test_a_record_that_is_in_no_trace_is_no_span(traced: Make, trace: str) -> None:
    assert parse(encode_spans([traced(trace=trace)])) == []


@pytest.mark.timeout(60)
def test_spans_of_what_the_observer_takes_in_arrive(
    collector: Collector, tmp_path: Path, sink: Any, writer: Callable[..., Any], traced: Make
) -> None:
    sender = SpanSender(parse_endpoint(collector.url))
    sender.start()
    observer = Observer(tmp_path / "spool", sink, clock=lambda: 100.0, on_kept=sender.offer)
    writer("one").write(
        traced("r1"), traced("r2", trace=""), traced("r3", trace=f"{TRACE}-{PARENT}")
    )
    observer.take_in(lambda: True)
    wait_until(lambda: sender.counts["sent"] == 2)
    assert collector.problems == []
    assert {span.span_id.hex() for span in collector.spans} == {SPAN, PARENT}
    sender.finish(10.0)


@pytest.mark.timeout(60)
def test_what_can_pass_is_tried_again_and_what_is_final_is_not(
    collector: Collector, traced: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "BACK_OFF_S", 0.001)
    monkeypatch.setattr(otlp, "BATCH_EVERY_S", 0.01)
    sender = SpanSender(parse_endpoint(collector.url))
    sender.start()
    collector.answers = [503, 429]
    sender.offer([traced()])
    wait_until(lambda: sender.counts["sent"] == 1)
    assert collector.asked == 3
    for status in (400, 307, 401):  # redirects are not followed
        collector.answers = [status]
        sender.offer([traced()])
        before = sender.counts["failed"]
        wait_until(lambda before=before: sender.counts["failed"] == before + 1)
    assert collector.asked == 6
    sender.finish(10.0)


@pytest.mark.timeout(60)
def test_spans_that_the_endpoint_rejects_have_failed(
    collector: Collector, traced: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "BATCH_EVERY_S", 0.01)
    sender = SpanSender(parse_endpoint(collector.url))
    sender.start()
    collector.body = b'{"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too old"}}'
    sender.offer([traced(), traced("r2")])
    wait_until(lambda: sum(sender.counts.values()) == 2)
    assert sender.counts == {"sent": 1, "failed": 1, "dropped": 0}
    sender.finish(10.0)


@pytest.mark.timeout(60)
def test_an_endpoint_that_is_down_costs_spans_and_nothing_else(
    traced: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bounded queue, a bounded number of tries, and each span counted once."""
    batch, queue = BATCH_MAX // 10, QUEUE_MAX // 10
    monkeypatch.setattr(otlp, "BACK_OFF_S", 0.001)
    monkeypatch.setattr(otlp, "BATCH_MAX", batch)
    monkeypatch.setattr(otlp, "QUEUE_MAX", queue)
    tried: list[int] = []
    reached, goes_on = threading.Event(), threading.Event()

    def post(_endpoint: Endpoint, body: bytes) -> Answer:
        tried.append(len(parse(body)))
        reached.set()
        goes_on.wait(30.0)
        raise http.client.RemoteDisconnected("gone")

    sender = SpanSender(PLACE, post=post, chance=lambda: 0.0)
    sender.offer([traced() for _ in range(batch)])
    sender.start()
    reached.wait(30.0)
    sender.offer([traced() for _ in range(queue + 7)])
    assert sender.counts["dropped"] == 7
    goes_on.set()
    wait_until(lambda: sender.counts["failed"] == batch + queue)
    assert tried == [batch] * (ATTEMPTS * (batch + queue) // batch)
    sender.finish(10.0)


@pytest.mark.timeout(60)
def test_it_ends_in_the_middle_of_waiting(traced: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "BACK_OFF_S", 3_600.0)
    monkeypatch.setattr(otlp, "BACK_OFF_S_MAX", 3_600.0)
    monkeypatch.setattr(otlp, "BATCH_EVERY_S", 0.01)
    reached = threading.Event()

    def post(_endpoint: Endpoint, _body: bytes) -> Answer:
        reached.set()
        return Answer(503, 0.0, b"")

    sender = SpanSender(PLACE, post=post)
    sender.start()
    sender.offer([traced()])
    reached.wait(30.0)
    sender.finish(30.0)
    assert sender.counts["failed"] == 1


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://127.0.0.1:4318", PLACE),
        ("http://127.0.0.1:4318/", PLACE),
        ("http://127.0.0.1:4318/v1/traces", PLACE),
        ("https://otel.example/in", Endpoint("otel.example", 443, True, "/in/v1/traces")),
    ],
)
def test_an_endpoint(url: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(url) == endpoint


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost:4318", "grpc://host:4317", "http://", "http://a b", "http://u:p@host",
        "http://host?x=1", "http://host#x", "http://127.1", "http://169.254.169.254",
        "http://host:99999",
    ],
)  # fmt: skip
def test_an_address_that_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="OTLP endpoint"):
        parse_endpoint(url)


@pytest.mark.parametrize("url", ["http://u:topsecret@host", "u:topsecret@host:4318"])
def test_a_refusal_does_not_repeat_a_password(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_endpoint(url)
    assert "topsecret" not in caught.value.message
    assert "…@host" in caught.value.message
