"""Streams of events and the usage in them. No I/O."""

from __future__ import annotations

import json

import pytest
from gateway_rig import USAGE, completion, event
from hypothesis import given
from hypothesis import strategies as st

from fairlead.gateway.limits import EVENT_BYTES_MAX
from fairlead.gateway.requests.metering import StreamMeter, TailKeeper
from fairlead.gateway.requests.usage import Usage, usage_of_answer
from fairlead.gateway.streams.events import EventSplitter, EventTooLarge, is_done, is_error, payload

ends = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"])
texts = st.lists(
    st.tuples(st.binary(max_size=20).map(lambda b: b.translate(None, b"\r\n")), ends), max_size=8
)


@given(texts, st.lists(st.integers(1, 7), min_size=1, max_size=20))
def test_however_the_bytes_arrive_the_events_are_the_same(
    parts: list[tuple[bytes, bytes]], steps: list[int]
) -> None:
    events = [b"data: " + text + end for text, end in parts]
    wire = b"".join(events) + b"data: rest"
    splitter = EventSplitter()
    got: list[bytes] = []
    at = turn = 0
    while at < len(wire):
        step = steps[turn % len(steps)]
        got += splitter.feed(wire[at : at + step])
        at += step
        turn += 1
    assert got == events
    assert splitter.rest == b"data: rest"


@given(texts, st.lists(st.integers(1, 60), min_size=1, max_size=20))
def test_events_taken_in_one_piece_are_those_taken_one_by_one(
    parts: list[tuple[bytes, bytes]], steps: list[int]
) -> None:
    """What need not be looked into is passed on whole: the same bytes, the same count."""
    wire = b"".join(b"data: " + text + end for text, end in parts) + b"data: rest"
    one_by_one, in_pieces = EventSplitter(), EventSplitter()
    at = turn = 0
    while at < len(wire):
        data = wire[at : at + steps[turn % len(steps)]]
        events = one_by_one.feed(data)
        whole = in_pieces.whole(data)
        if whole is None:
            assert in_pieces.feed(data) == events
        else:
            assert whole == b"".join(events)
            assert whole.count(b"\n\n") == len(events)
            assert not any(is_done(e) or is_error(e) or e.startswith(b":") for e in events)
            assert not any(StreamMeter().note_usage(e) for e in events)
        assert in_pieces.rest == one_by_one.rest
        at += len(data)
        turn += 1


def test_an_event_may_be_large_but_not_endless() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"x" * EVENT_BYTES_MAX) == []
    with pytest.raises(EventTooLarge):
        splitter.feed(b"x")
    with pytest.raises(EventTooLarge):
        EventSplitter().feed(b"x" * (EVENT_BYTES_MAX + 1) + b"\n\n")


def test_the_kinds_of_events() -> None:
    assert is_done(b"data: [DONE]\n\n")
    assert is_done(b"data:[DONE]\r\n\r\n")
    assert not is_done(b'data: {"a":"[DONE]"}\n\n')
    assert is_error(b'data: {"error":{"message":"x"}}\n\n')
    assert not is_error(event('{"error"'))
    assert payload(b"id: 1\ndata: a\ndata:b\n\n") == b"a\nb"


def test_usage_is_found_in_a_stream_and_its_own_event_is_recognised() -> None:
    meter = StreamMeter()
    assert not meter.note_usage(event("a"))
    assert not meter.note_usage(event("a", usage=None))
    assert not meter.note_usage(event('"usage"'))
    assert not meter.note_usage(b'data: {"usage": broken\n\n')
    assert not meter.note_usage(event("last", usage={**USAGE, "completion_tokens": 1}))
    assert meter.usage == Usage(7, 1)
    assert meter.note_usage(event(None, usage=USAGE))
    assert meter.usage == Usage(7, 3)


def test_time_between_events_is_their_mean() -> None:
    meter = StreamMeter()
    assert meter.itl_ms == -1
    for at in (1.0, 1.1, 1.4):
        meter.events_sent(1, at)
    assert meter.first_at == 1.0
    assert meter.itl_ms == pytest.approx(200)


@given(st.binary(max_size=50))
def test_any_answer_has_a_usage_or_none(body: bytes) -> None:
    assert usage_of_answer(body) == Usage()


def test_usage_of_whole_and_of_large_answers() -> None:
    assert usage_of_answer(completion("x")) == Usage(7, 3)
    assert usage_of_answer(b'{"usage": {"prompt_tokens": "x"}}') == Usage()
    assert usage_of_answer(b"[" * 5000) == Usage()
    tail = TailKeeper()
    large = json.dumps({"data": "x" * 9000, "usage": USAGE}).encode()
    for start in range(0, len(large), 1000):
        tail.feed(large[start : start + 1000])
    assert tail.usage == Usage(7, 3)
