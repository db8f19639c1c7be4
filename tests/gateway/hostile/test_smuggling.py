"""Request smuggling: what we take for one request, everybody takes for the same one."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable

from attack import is_closed, statuses
from differential.views import compare_with_h11
from gateway_rig import KEY, A, Engine, Rig, answers, route, snapshot
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mutations import messages, mutated

from support.corpora import smuggling

StartEngine = Callable[..., Awaitable[Engine]]
Serve = Callable[[object], Awaitable[Rig]]

ONE_REQUEST = {
    # The two that are named as legitimate, and the same ones with white space around a value.
    "ctl-valid-cl",
    "ctl-valid-te",
    "cl=' 3'",
    "cl='3 '",
    "cl='\\t3'",
    "te='chunked'",
    "te='Chunked'",
    "te=' chunked'",
    "te='\\tchunked'",
    # Hexadecimal is read in only one way: a zero before it is harmless (up to 16 digits).
    "chunk-size='03'",
    # Served, with `100 Continue` before the answer.
    "expect-100",
    # The first is served; the second is not read, and the connection ends.
    "conn-close-pipeline",
    "pipeline",
}
"""Of the corpus: the messages that are well framed. All others are refused as they come in."""

EXAMPLES = int(os.environ.get("FAIRLEAD_SMUGGLING_EXAMPLES", "6000"))


async def test_of_the_corpus_only_well_framed_messages_are_requests_and_never_two(
    engine: StartEngine, serve: Serve
) -> None:
    cases = smuggling()
    assert len(cases) == 128
    assert cases.keys() >= ONE_REQUEST
    one = await engine(answers("ok"))
    rig = await serve(snapshot(route(A, one)))
    # With a key, so that bodies are read; what is well framed then fails for its content or path.
    key = f"Host: a\r\nAuthorization: Bearer {KEY}\r\n"
    wires = [text.replace("Host: a\r\n", key, 1).encode("latin-1") for text in cases.values()]
    got = await asyncio.gather(*(rig.raw(wire, wait_s=1.5) for wire in wires))
    for name, answer in zip(cases, got, strict=True):
        final = [status for status in statuses(answer) if status != 100]
        code = answer.partition(b'"code":"')[2].partition(b'"')[0]
        if name in ONE_REQUEST:
            assert final in ([400], [404]), (name, answer)
            assert code in (b"invalid_body", b"not_found"), (name, answer)
        else:
            assert len(final) == 1, (name, answer)
            assert 400 <= final[0] < 600, (name, answer)
            assert code not in (b"invalid_body", b"not_found", b"model_not_found"), (name, answer)
            assert is_closed(answer), (name, answer)
    assert one.asked == []


async def test_of_the_corpus_nothing_but_the_one_request_reaches_the_replica(
    engine: StartEngine, serve: Serve
) -> None:
    """The same framings around a body that is good: at most that one request is sent on."""
    cases = smuggling()
    one = await engine(answers("ok"))
    rig = await serve(snapshot(route(A, one, slots=64)))
    body = '{"model":"bank","messages":[]}'
    key = f"Host: a\r\nAuthorization: Bearer {KEY}\r\n"
    wires = []
    for text in cases.values():
        wire = text.replace("Host: a\r\n", key, 1).replace("abc", body)
        for size in ("Content-Length: 3", "Content-Length:3", "Content-Length:\t3"):
            wire = wire.replace(size, size[:-1] + str(len(body)))
        wire = wire.replace("\r\n3\r\n", f"\r\n{len(body):x}\r\n")
        wires.append(wire.encode("latin-1"))
    got = await asyncio.gather(*(rig.raw(wire, wait_s=1.5) for wire in wires))
    served = {n for n, g in zip(cases, got, strict=True) if 200 in statuses(g)}
    assert served <= ONE_REQUEST
    assert {"ctl-valid-cl", "ctl-valid-te", "expect-100"} <= served
    assert len(one.asked) == len(served)
    assert all(asked.body == body.encode() for asked in one.asked)
    assert all("transfer-encoding" not in asked.headers for asked in one.asked)


def compare(wire: bytes, cuts: list[int]) -> int:
    """How many requests we see; for h11 they are the same ones, as far as both go on."""
    verdict, ours, theirs = compare_with_h11(wire, cuts)
    assert verdict.is_safe, (verdict, wire, cuts, ours, theirs)
    return len(ours.requests)


@settings(max_examples=EXAMPLES // 30, deadline=None)
@given(messages(), st.lists(st.integers(0, 5000), max_size=4))
@example(b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n" * 2, [])
def test_what_we_take_for_a_request_h11_reads_as_the_same_one(wire: bytes, cuts: list[int]) -> None:
    compare(wire, cuts)


def test_so_it_is_for_many_mutations_of_requests() -> None:
    """Byte and grammar mutations, far more than hypothesis has time for."""
    chance = random.Random(20261125)
    accepted = 0
    for _ in range(EXAMPLES):
        wire = mutated(chance)
        accepted += compare(wire, [chance.randrange(400) for _ in range(chance.randrange(4))])
    assert accepted > EXAMPLES // 20  # The mutations are not so wild that they test nothing.
