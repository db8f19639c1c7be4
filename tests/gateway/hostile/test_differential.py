"""nginx, HAProxy and Apache in front of the gateway and behind it: never two requests for one."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from differential import through
from differential.lanes import Lane, lanes
from differential.peers import PEERS, Peer, running
from differential.through import Report, behind, in_front
from differential.views import Verdict, View, by_gateway, by_h11, judge
from mutations import GOOD, mutated
from parser_rig import Seen

CASES = int(os.environ.get("FAIRLEAD_DIFFERENTIAL_CASES", "1500"))
SEED = 20261125
MUST_BE_HERE = os.environ.get("FAIRLEAD_REQUIRE_PROXIES") == "1"

A, B, C = (Seen(path="/v1/x", body=body) for body in (b"a", b"b", b""))


@pytest.fixture(params=PEERS, ids=lambda peer: peer.name)
def peer(request: pytest.FixtureRequest) -> Peer:
    """Each of them that is installed."""
    made: Peer = request.param
    if made.executable is None:
        missing = f"{made.name} is not here: apt-get install {made.package}"
        if MUST_BE_HERE:
            pytest.fail(missing)
        pytest.skip(missing)
    return made


def up_to(count: int) -> Callable[[int], bool]:
    return lambda done: done < count


async def test_in_front_of_the_gateway_it_makes_of_each_message_what_the_gateway_makes(
    peer: Peer,
) -> None:
    report = await in_front(peer, SEED, up_to(CASES))
    assert report.unsafe == []
    assert report.cases >= CASES
    # Enough of them are requests for both; and the same ones.
    assert report.kinds[Verdict.SAME.value] > CASES // 20


async def test_behind_the_gateway_it_gets_each_request_once_and_nothing_else(peer: Peer) -> None:
    report = await behind(peer, SEED, up_to(CASES))
    assert report.unsafe == []
    assert report.kinds["requests that arrived behind the proxy"] > CASES // 100


# That the comparison can fail


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        (View([A, B], False), View([A, B], True), Verdict.SAME),
        (View([], False), View([], True), Verdict.NOTHING),
        (View([A], True), View([A, B], False), Verdict.WE_REFUSE),
        (View([A], False), View([A, B], False), Verdict.WE_WAIT),
        (View([A, B], False), View([A], True), Verdict.THEY_REFUSE),
        (View([A, B], False), View([A], False), Verdict.THEY_WAIT),
        (View([A], True), View([B], True), Verdict.DIFFERENT),
        (View([A, B], True), View([A, C], True), Verdict.DIFFERENT),
        (View([C, A], True), View([A], True), Verdict.DIFFERENT),
    ],
)
def test_what_two_readings_mean(ours: View, theirs: View, verdict: Verdict) -> None:
    assert judge(ours, theirs) is verdict
    assert verdict.is_safe is (verdict.name not in ("WE_WAIT", "THEY_WAIT", "DIFFERENT"))


@pytest.mark.parametrize(
    "misread",
    [
        lambda wire: wire.replace(b"content-length: 3", b"content-length: 2"),
        lambda wire: wire.replace(b"content-length: 3", b"content-length: 4"),
        lambda wire: wire.replace(b"transfer-encoding: chunked\r\n", b""),
        lambda wire: wire.replace(b"\r\n3\r\nabc", b"\r\n2\r\nab"),
    ],
)
def test_a_gateway_that_misread_a_length_would_be_found(misread: Callable[[bytes], bytes]) -> None:
    chance = random.Random(SEED)
    verdicts = []
    for _ in range(300):
        wire = mutated(chance)
        verdicts.append(judge(by_gateway(misread(wire), []), by_h11(wire)))
    assert any(not verdict.is_safe for verdict in verdicts)


async def test_a_request_that_the_proxy_does_not_know_of_would_be_found(
    tmp_path: Path, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lanes(1) as (lane,):
        tmp_path.chmod(0o755)
        with running(peer, tmp_path, [lane.ports]):
            passed = await lane.send(GOOD[0])
            assert passed.theirs.requests == [Seen(path="/v1/x", body=b"abc")]
            assert passed.unmarked == []
            assert not passed.is_hung
            assert await lane.refuses(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n")
            assert not await lane.refuses(GOOD[0][:-1], within_s=0.3)
            direct = Lane(lane.ports.__class__(front=lane.ports.back, back=0))
            direct.host = lane.host
            assert len((await direct.send(GOOD[0])).unmarked) == 1
            # A gateway that ends bodies early: the rest is not what the proxy sent.
            monkeypatch.setattr(through, "by_gateway", lambda wire, _: by_gateway(wire[:-1], []))
            report = Report(title="")
            await through._one_in_front(report, lane, GOOD[0])
            assert report.unsafe != []
