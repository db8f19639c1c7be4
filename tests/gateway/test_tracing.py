"""W3C trace context: whose decision holds, what the engine is told, and what the record says."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from gateway_rig import CHAT, A, Engine, Rig, answers, route, snapshot, streams, until
from hypothesis import given
from hypothesis import strategies as st

from fairlead.gateway.requests.tracing import Tracing, tracing_of
from fairlead.wire.record import RequestRecord, decode_record, encode_record
from fairlead.wire.snapshot import Limits, Snapshot

Serve = Callable[[Snapshot | None], Awaitable[Rig]]
StartEngine = Callable[..., Awaitable[Engine]]
PATH = "/v1/chat/completions"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
HEADER = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])")


def tracing(share: float) -> Tracing:
    return Tracing(share, random.Random(5))


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize(("flags", "is_recorded"), [("01", True), ("00", False), ("03", True)])
def test_the_clients_decision_is_taken_over(share: float, flags: str, is_recorded: bool) -> None:
    trace = tracing(share).begin(f"00-{TRACE}-{SPAN}-{flags}".encode())
    match = HEADER.fullmatch(trace.header)
    assert match is not None
    assert match[1] == TRACE
    assert match[2] != SPAN
    assert (match[3] == "01") is is_recorded
    assert trace.record == (f"{TRACE}-{match[2]}-{SPAN}" if is_recorded else "")


@pytest.mark.parametrize(
    "given_header",
    [
        None, b"", b"00", f"00-{TRACE}-{SPAN}".encode(), f"ff-{TRACE}-{SPAN}-01".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(), f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"00-{TRACE}-{SPAN}-01-more".encode(), f"00-{TRACE.upper()}-{SPAN}-01".encode(),
        f"00-{TRACE}-{SPAN}-0x".encode(), f"00-{TRACE}-{SPAN}-01\x00".encode(),
    ],
)  # fmt: skip
def test_without_a_valid_context_a_request_begins_a_trace_of_its_own(
    given_header: bytes | None,
) -> None:
    recorded = tracing(1.0).begin(given_header)
    match = HEADER.fullmatch(recorded.header)
    assert match is not None
    assert match[1] != TRACE
    assert recorded.record == f"{match[1]}-{match[2]}"
    left_out = tracing(0.0).begin(given_header)
    assert left_out.header.endswith("-00")
    assert left_out.record == ""


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert TRACE in tracing(0.0).begin(f"cc-{TRACE}-{SPAN}-01-what-comes".encode()).record


@given(st.binary(max_size=80))
def test_no_header_breaks_it_or_gets_through(given_header: bytes) -> None:
    assert HEADER.fullmatch(tracing(0.5).begin(given_header).header)


def test_a_share_is_a_share_and_ids_are_there_once() -> None:
    chosen = tracing(0.2)
    traces = [chosen.begin(None) for _ in range(5_000)]
    assert len({trace.header for trace in traces}) == 5_000
    assert 0.17 < sum(bool(trace.record) for trace in traces) / 5_000 < 0.23
    one, other = (tracing_of(1.0) for _ in range(2))
    assert one is not None
    assert other is not None
    assert one.begin(None).header != other.begin(None).header
    assert tracing_of(None) is None


@pytest.fixture
def traced(rig: Rig) -> Rig:
    """Traces what its client wants traced, and nothing else."""
    rig.settings = msgspec.structs.replace(rig.settings, trace_share=0.0)
    return rig


@pytest.mark.parametrize("stream", [False, True])
async def test_the_engine_is_told_the_span_of_its_attempt(
    engine: StartEngine, serve: Serve, traced: Rig, stream: bool
) -> None:
    one = await engine(streams("a", "b") if stream else answers())
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        for number in range(3):  # on one connection: its head is never the one before
            given_header = f"00-{TRACE}-{number + 1:016x}-01"
            answer = await client.post(
                PATH, json={**CHAT, "stream": stream}, headers={"traceparent": given_header}
            )
            assert answer.status_code == 200
        await client.post(PATH, json=CHAT)
    *recorded, plain = rig.requests()
    for number, (record, asked) in enumerate(zip(recorded, one.asked, strict=False)):
        match = HEADER.fullmatch(asked.headers["traceparent"])
        assert match is not None
        (tried,) = record.tried
        assert match.groups() == (TRACE, tried.span, "01")
        trace, own, parent = record.trace.split("-")
        assert (trace, parent) == (TRACE, f"{number + 1:016x}")
        assert own != tried.span
        assert (tried.outcome, tried.is_hedge) == ("", False)
        assert 0.0 <= tried.began_ms <= tried.ended_ms <= record.duration_ms
        assert (tried.replica, tried.release) == (record.replica, record.release)
    assert len({record.trace for record in recorded}) == 3
    assert plain.tried == ()
    assert plain.trace == ""
    assert one.asked[-1].headers["traceparent"].endswith("-00")


async def test_each_attempt_has_a_span_of_its_own_and_says_how_it_ended(
    engine: StartEngine, serve: Serve, traced: Rig
) -> None:
    bad, good = await engine(), await engine()
    await bad.kill()
    rig = await serve(snapshot(route(A, bad, good)))
    async with rig.client() as client:
        for _ in range(4):
            headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
            assert (await client.post(PATH, json=CHAT, headers=headers)).status_code == 200
    last = {record.tried[-1].span for record in rig.requests()}
    assert {asked.headers["traceparent"].split("-")[2] for asked in good.asked} == last
    again = next(record for record in rig.requests() if record.attempts > 1)
    assert [tried.outcome for tried in again.tried] == ["refused", ""]
    assert again.tried[0].replica != again.tried[1].replica
    assert again.tried[0].ended_ms <= again.tried[1].began_ms


async def test_an_engine_that_fails_is_how_its_attempts_ended(
    engine: StartEngine, serve: Serve, traced: Rig
) -> None:
    one = await engine(answers(status=503))
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
        await client.post(PATH, json=CHAT, headers=headers)
    (record,) = rig.requests()
    assert {tried.outcome for tried in record.tried} == {"503"}
    assert len({tried.span for tried in record.tried}) == record.attempts


async def test_a_second_attempt_beside_a_slow_one_is_told_apart(
    engine: StartEngine, serve: Serve, traced: Rig
) -> None:
    goes_on = asyncio.Event()
    one, other = await engine(answers(after=goes_on)), await engine(answers(after=goes_on))
    rig = await serve(snapshot(route(A, one, other), limits=Limits(hedge_after_ms=20.0)))
    async with rig.client() as client:
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
        body = {"model": "bank", "input": "a"}
        asking = asyncio.create_task(client.post("/v1/embeddings", json=body, headers=headers))
        await until(lambda: bool(one.asked and other.asked))
        goes_on.set()
        assert (await asking).status_code == 200
    (record,) = rig.requests()
    first, second = record.tried
    assert (first.is_hedge, second.is_hedge) == (False, True)
    assert sorted([first.outcome, second.outcome]) == ["", "lost"]
    told = {asked.headers["traceparent"].split("-")[2] for asked in (*one.asked, *other.asked)}
    assert told == {first.span, second.span}


async def test_nothing_is_told_or_written_where_nothing_is_traced(
    engine: StartEngine, serve: Serve
) -> None:
    one = await engine()
    rig = await serve(snapshot(route(A, one)))
    async with rig.client() as client:
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
        await client.post(PATH, json=CHAT, headers=headers)
    assert "traceparent" not in one.asked[0].headers
    assert [record.trace for record in rig.requests()] == [""]


def test_a_record_that_was_spooled_before_there_were_traces_is_read() -> None:
    """As it was written then: without the last fields."""
    record = RequestRecord(
        "r", "s", "d", "champion", "a", "k", "u", 0.0, "", 0, "chat/completions", False, 200, "",
        1.0, 1.0, 1.0, 1.0, 1, 1, 1,
    )  # fmt: skip
    *fields, trace, tried, stratum = msgspec.msgpack.decode(encode_record(record))
    assert (trace, tried, stratum) == ("", [], -1)
    assert decode_record(msgspec.msgpack.encode(fields)) == record
