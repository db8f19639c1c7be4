"""The short way of a stream's events: what takes it, and that all else does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.gateway.clock import Clock
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.gateway.replicas.upstream import UpstreamConnection
from fairlead.gateway.requests.relay import StreamRelay
from fairlead.gateway.requests.usage import Usage
from fairlead.gateway.streams.batching import Batches
from fairlead.gateway.streams.event_lane import EventLane, body_of

HEAD = AnswerHead(status=200, headers={b"content-type": b"text/event-stream"})
WIRE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def event(text: str) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode()


class Parsed:
    """What httptools makes of chunks."""

    def __init__(self, data: bytes) -> None:
        self.body = b""
        self.is_open = False
        self.is_over = False
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(WIRE_HEAD)
        parser.feed_data(data)

    def on_chunk_header(self) -> None:
        self.is_open = True

    def on_chunk_complete(self) -> None:
        self.is_open = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.is_over = True


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8), st.booleans())
def test_whole_chunks_are_read_as_the_parser_reads_them(
    bodies: list[bytes], is_upper: bool
) -> None:
    size = b"%X" if is_upper else b"%x"
    data = b"".join(size % len(body) + b"\r\n" + body + b"\r\n" for body in bodies)
    found = body_of(data)
    if not any(b"\r\n" in body or body.endswith(b"\r") for body in bodies):
        assert found is not None
    assert found in (None, b"".join(bodies))


@given(
    st.lists(
        st.sampled_from(
            [b"1", b"2", b"a", b"A", b"0", b"\r\n", b"\r", b"\n", b";x", b" ", b"+", b"_"]
        ),
        max_size=12,
    ).map(b"".join)
)
def test_what_is_taken_is_what_the_parser_would_take(data: bytes) -> None:
    found = body_of(data)
    if found is not None:
        parsed = Parsed(data)
        assert (parsed.body, parsed.is_open, parsed.is_over) == (found, False, False)


@pytest.mark.parametrize(
    "data",
    [
        b"0\r\n\r\n",
        chunk(b"ab") + b"0\r\n\r\n",
        b"\r\n\r\n",
        b"02\r\nab\r\n",
        b"+2\r\nab\r\n",
        b"2;x=y\r\nab\r\n",
        b"3\r\nab\r\n",
        b"2\r\nab",
        b"2\r\nab\r\n2\r\na",
        b"2\nab\n",
        chunk(b"x" * 4096),
    ],
)
def test_all_that_is_no_row_of_whole_chunks_is_left_to_the_parser(data: bytes) -> None:
    assert body_of(data) is None


class Owner:
    """A request that keeps what it is given."""

    def __init__(self) -> None:
        self.parts: list[tuple[bytes, bytes]] = []
        self.last = b""

    def begin_answer(self, head: AnswerHead, length: int | None) -> None: ...

    def pass_on(self, data: bytes, chunks: bytes = b"") -> None:
        self.parts.append((data, chunks))

    def whole_answer(self, head: AnswerHead, body: bytes, usage: Usage) -> None: ...

    def last_part(self, data: bytes, usage: Usage) -> None:
        self.last = data

    def answer_broke(self, reason: str) -> None: ...

    def engine_failed(self) -> bool:
        return False


def relay_of(owner: Owner) -> StreamRelay:
    times = iter(range(1, 1000))
    clock = Clock(monotonic=lambda: float(next(times)))
    return StreamRelay(owner, HEAD, clock, hides_usage=True)


def test_events_after_the_first_go_with_their_chunks_and_are_metered() -> None:
    owner = Owner()
    relay = relay_of(owner)
    assert not relay.pass_straight(event("a"), chunk(event("a"))), "an answer begins by `feed`"
    relay.feed(event("a"))
    two = event("b") + event("c")
    assert relay.pass_straight(two, chunk(two))
    assert owner.parts == [(event("a"), b""), (two, chunk(two))]
    assert relay.meter.events == 3
    assert relay.meter.itl_ms == pytest.approx(500.0), "one second for two events"


@pytest.mark.parametrize(
    "data",
    [
        b"data: [DONE]\n\n",
        event("a") + b"data: [DONE]\n\n",
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n',
        b'data: {"error":{"message":"no"}}\n\n',
        b": ping\n\n",
        event("a") + b": ping\n\n",
        b"event: message_stop\ndata: {}\n\n",
        event("a")[:-1],
        event("a") + b"data: {",
        event("a").replace(b"\n", b"\r\n"),
    ],
)
def test_what_somebody_has_to_look_into_does_not_go_straight(data: bytes) -> None:
    owner = Owner()
    relay = relay_of(owner)
    relay.feed(event("a"))
    assert not relay.pass_straight(data, chunk(data))
    assert owner.parts == [(event("a"), b"")]


def test_after_a_part_of_an_event_nothing_goes_straight() -> None:
    owner = Owner()
    relay = relay_of(owner)
    relay.feed(event("a") + event("b")[:10])
    rest = event("b")[10:]
    assert not relay.pass_straight(rest, chunk(rest))
    relay.feed(rest)
    assert relay.pass_straight(event("c"), chunk(event("c")))
    assert b"".join(data for data, _ in owner.parts) == event("a") + event("b") + event("c")


class Transport:
    """Says whether it would be read from."""

    def __init__(self) -> None:
        self.is_read = True
        self.is_aborted = False

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True


class Taker:
    """Takes in an answer's body."""

    def __init__(self) -> None:
        self.body = b""

    def on_answer(self, head: AnswerHead, body: bytes) -> None: ...

    def on_head(self, head: AnswerHead) -> None: ...

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_end(self, *, is_framed: bool) -> None: ...

    def on_lost(self, reason: str, *, is_stale: bool) -> None: ...


class Stream:
    """A connection on which a stream has begun, and everything around it."""

    def __init__(self, take: Callable[[bytes, bytes], bool]) -> None:
        self.planned: list[Callable[[], None]] = []
        self.defects: list[Exception] = []
        self.batches = Batches(
            lambda delay_s, call: self.planned.append(call), lambda: 0.0, lambda: 0.0
        )
        self.transport = Transport()
        self.taker = Taker()
        self.connection = UpstreamConnection(lambda _: None, lambda _: None)
        self.connection.connection_made(cast(asyncio.BaseTransport, cast(Any, self.transport)))
        self.connection.send(b"", self.taker)
        self.connection.open_lane(EventLane(take, self.batches, self.defects.append))
        self.connection.data_received(WIRE_HEAD + chunk(event("a")))

    def wake(self) -> None:
        self.batches._now = lambda: 1e9
        self.planned.pop()()


def test_what_the_lane_does_not_take_goes_the_other_way() -> None:
    taken: list[bytes] = []

    def take(body: bytes, chunks: bytes) -> bool:
        taken.append(chunks)
        return b"@" in body

    stream = Stream(take)
    stream.connection.data_received(chunk(event("b")))
    stream.connection.data_received(chunk(event("@")))
    assert taken == [chunk(event("b")), chunk(event("@"))]
    assert stream.taker.body == event("a") + event("b")


def test_a_defect_on_the_way_is_the_requests_own() -> None:
    def take(body: bytes, chunks: bytes) -> bool:
        raise ZeroDivisionError

    stream = Stream(take)
    stream.connection.data_received(chunk(event("b")))
    assert [type(error) for error in stream.defects] == [ZeroDivisionError]


def test_a_stream_rests_after_a_read_only_while_events_are_to_come_together() -> None:
    stream = Stream(lambda body, chunks: True)
    stream.connection.data_received(chunk(event("b")))
    assert stream.transport.is_read
    stream.batches.rest_s = 0.02
    stream.connection.data_received(chunk(event("c")))
    assert not stream.transport.is_read
    stream.wake()
    assert stream.transport.is_read


def test_a_rest_that_is_over_does_not_outrun_a_client_that_does_not_keep_up() -> None:
    stream = Stream(lambda body, chunks: True)
    stream.batches.rest_s = 0.02
    stream.connection.data_received(chunk(event("b")))
    stream.connection.pause()
    stream.wake()
    assert not stream.transport.is_read
    stream.connection.resume()
    assert stream.transport.is_read


def test_a_client_that_keeps_up_again_does_not_end_the_rest() -> None:
    stream = Stream(lambda body, chunks: True)
    stream.batches.rest_s = 0.02
    stream.connection.data_received(chunk(event("b")))
    stream.connection.pause()
    stream.connection.resume()
    assert not stream.transport.is_read
    stream.wake()
    assert stream.transport.is_read


def test_an_answer_that_ends_or_changes_hands_leaves_the_lane() -> None:
    ways: list[Callable[[Stream], None]] = [
        lambda stream: stream.connection.abort(),
        lambda stream: stream.connection.hand_over(stream.taker, Taker()),
    ]
    for leave in ways:
        stream = Stream(lambda body, chunks: pytest.fail("taken"))
        leave(stream)
        stream.connection.data_received(chunk(event("b")))
