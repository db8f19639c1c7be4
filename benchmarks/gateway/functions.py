"""The functions of the request path, each on its own, with what a chat request gives them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from benchmarks.gateway.fairlead_proxy import CHAMPION, snapshot
from benchmarks.gateway.mix import MIX
from benchmarks.gateway.traffic import COMPLETION, KEY, SERVICE, chat_request, event_of

from fairlead.gateway.clock import Clock
from fairlead.gateway.errors import Refusal
from fairlead.gateway.front.auth import KeyRing
from fairlead.gateway.front.framing import FirstLine, check_head, read_first_line
from fairlead.gateway.front.heads import REQUEST_LINES, KnownHead
from fairlead.gateway.front.operations import find_operation
from fairlead.gateway.front.request_id import RequestIds
from fairlead.gateway.quotas import quota_answers
from fairlead.gateway.quotas.quota import QuotaBook
from fairlead.gateway.records.metrics import GatewayMetrics
from fairlead.gateway.replicas.addressing import parse_base_url
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.gateway.replicas.fleet import Fleet, Replica
from fairlead.gateway.replicas.outgoing import build_request
from fairlead.gateway.replicas.routing import assign, choose, unit_of
from fairlead.gateway.requests.call import Call
from fairlead.gateway.requests.relay import StreamRelay
from fairlead.gateway.requests.request_body import body_for, read_fields
from fairlead.gateway.requests.usage import Usage, usage_of_answer
from fairlead.gateway.state.loaded import Loaded
from fairlead.gateway.streams.events import EventSplitter
from fairlead.wire.record import RequestRecord, encode_record
from fairlead.wire.snapshot import Endpoint
from fairlead.wire.spool import frame

Timed = tuple[str, Callable[[], object]]
REQUEST_HEADERS = (
    (b"Host", b"127.0.0.1:8080"),
    (b"Content-Type", b"application/json"),
    (b"Authorization", b"Bearer " + KEY.encode()),
    (b"Content-Length", str(len(chat_request(0))).encode()),
)
EVENT = (b"0" * 20).join(event_of(SERVICE))
RECORD = RequestRecord(
    id="req_" + "0" * 40,
    service=SERVICE,
    release=CHAMPION,
    arm="champion",
    replica="champion-0",
    key="k1",
    unit="0" * 16,
    rho=0.2,
    rollout="ro-bench",
    phase=2,
    endpoint="chat/completions",
    stream=False,
    status=200,
    error="",
    started_at=1.8e9,
    ttft_ms=1.5,
    itl_ms=-1.0,
    duration_ms=1.5,
    prompt_tokens=31,
    completion_tokens=12,
    attempts=1,
)
_STREAM_HEAD = AnswerHead(status=200, headers={b"content-type": b"text/event-stream"})


def request_head() -> bytes:
    """The head of the chat request as a client sends it."""
    lines = [b"POST /v1/chat/completions HTTP/1.1", *(n + b": " + v for n, v in REQUEST_HEADERS)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def functions() -> Iterator[Timed]:
    """In the order in which a request meets them."""
    yield from _reading()
    yield from _routing()
    yield from _asking()
    yield from _ending()
    yield from _streaming()


def _reading() -> Iterator[Timed]:
    data = request_head() + chat_request(0)
    line = FirstLine(method="POST", path="/v1/chat/completions", is_http_1_0=False)
    keys = KeyRing(snapshot([8081], 256).keys)
    authorization = b"Bearer " + KEY.encode()
    ids = RequestIds(b"\x11" * 32)
    body = chat_request(0)
    yield "read_first_line", lambda: read_first_line(data)
    yield "check_head", lambda: check_head(line, REQUEST_HEADERS)
    yield "find_operation", lambda: find_operation("POST", "/v1/chat/completions")
    yield "KeyRing.find", lambda: keys.find(authorization)
    yield "RequestIds.new", lambda: ids.new("k1")
    known = KnownHead(REQUEST_LINES)
    known.learn(data, len(body))
    yield "KnownHead.message", lambda: known.message(data)
    yield "read_fields", lambda: read_fields(body)
    mix = itertools.cycle(MIX)
    yield "read_fields, of the mix", lambda: read_fields(next(mix))


def _routing() -> Iterator[Timed]:
    loaded = Loaded(snapshot([8081], 256), _fleet(), {})
    live = loaded.services[SERVICE]
    service = live.route
    unit = unit_of("k1", None, "user-0001")
    yield "unit_of", lambda: unit_of("k1", None, "user-0001")
    yield "assign", lambda: assign(service, unit, canary_is_usable=True)
    yield (
        "LiveService.assign, a unit seen before",
        lambda: live.assign("k1", None, "user-0001", 1.0),
    )
    for count in (1, 8):
        replicas = _replicas(count)
        yield (
            f"choose, of {count}",
            lambda replicas=replicas: choose(replicas, (), (), 1.0, 1),  # type: ignore[misc]
        )


def _asking() -> Iterator[Timed]:
    route = snapshot([8081], 256).services[SERVICE].releases[CHAMPION]
    (replica,) = _replicas(1)
    for name, is_stream in (("plain", False), ("stream", True)):
        body = chat_request(0, stream=is_stream)
        fields = read_fields(body)
        assert not isinstance(fields, Refusal)
        yield (
            f"body_for, {name}",
            lambda body=body, fields=fields: body_for(  # type: ignore[misc]
                body, fields, "chat/completions", route
            ),
        )
    body = chat_request(0)
    beginning = replica.beginnings["chat/completions"]
    yield "build_request", lambda: build_request(beginning, body, RECORD.id)


def _ending() -> Iterator[Timed]:
    answer = COMPLETION.encode()
    metrics = GatewayMetrics()
    yield "usage_of_answer", lambda: usage_of_answer(answer)
    yield from _limits()
    yield "encode_record", lambda: encode_record(RECORD)
    yield "encode_record and frame", lambda: frame(encode_record(RECORD))
    yield "Tallies.count", lambda: metrics.tallies.count(RECORD)


def _limits() -> Iterator[Timed]:
    served = snapshot([8081], 256)
    clock = Clock()
    book = QuotaBook("micro", 0, sequence=0, hurry=lambda: None)
    book.use(served, clock.wall())
    live = Loaded(served, _fleet(), {}).services[SERVICE]
    body = chat_request(0)
    fields = read_fields(body)
    assert not isinstance(fields, Refusal)
    assignment = live.assign("k1", None, "user-0001", 1.0)
    assert assignment is not None
    call = Call(RECORD.id, "k1", "chat/completions", body, fields, live, assignment)
    meters, _ = book.meters_for("k1", SERVICE)
    now = clock.wall()
    yield "quota_answers.take, of requests", lambda: quota_answers.take(book, call, now)
    yield "quota_answers.headers", lambda: quota_answers.headers(meters, now)


def _streaming() -> Iterator[Timed]:
    splitter = EventSplitter()
    half = len(EVENT) // 2
    relay = StreamRelay(_NoOwner(), _STREAM_HEAD, Clock(), hides_usage=True)
    ten = EVENT * 10

    def halves() -> None:
        splitter.feed(EVENT[:half])
        splitter.feed(EVENT[half:])

    yield "EventSplitter.feed, one event", lambda: splitter.feed(EVENT)
    yield "EventSplitter.feed, one event in two parts", halves
    yield "StreamRelay.feed, one event", lambda: relay.feed(EVENT)
    yield "StreamRelay.feed, ten events at once", lambda: relay.feed(ten)


def _fleet() -> Fleet:
    return Fleet(Clock(), on_room=lambda: None, on_drained=lambda: None)


def _replicas(count: int) -> list[Replica]:
    clock = Clock()
    address = parse_base_url("http://127.0.0.1:8081")
    endpoint = Endpoint(replica="r", base_url="http://127.0.0.1:8081", slots=256)
    return [Replica(endpoint, address, clock) for _ in range(count)]


class _NoOwner:
    """Takes in what a relay passes on."""

    def begin_answer(self, head: AnswerHead, length: int | None) -> None: ...

    def pass_on(self, data: bytes) -> None: ...

    def whole_answer(self, head: AnswerHead, body: bytes, usage: Usage) -> None: ...

    def last_part(self, data: bytes, usage: Usage) -> None: ...

    def answer_broke(self, reason: str) -> None: ...
