"""Events of streams go out together while the worker is busy, and only then."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable

import pytest
from gateway_rig import CHAT, KEY, A, Asked, Engine, Rig, chunk, event, head, route, snapshot

from fairlead.gateway.streams.batching import (
    BATCH_S_MAX,
    PATIENCE,
    PATIENCE_MAX,
    TRIAL_S,
    Batches,
    Resting,
    busy_s,
)

StartEngine = Callable[..., Awaitable[Engine]]
Serve = Callable[[object], Awaitable[Rig]]
PATH = "/v1/chat/completions"
EVERY_S = 0.25


class Core:
    """A core's time, and what a worker uses of it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.used = 0.0
        self.passed_s = 0.0
        self.planned: list[tuple[float, Callable[[], None]]] = []
        self.batches = Batches(self.call_later, lambda: self.now, lambda: self.used)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        self.planned.append((delay_s, call))

    def turn(self, share: float, *, late_s: float = 0.0) -> float:
        left_s = EVERY_S + late_s - self.passed_s
        self.passed_s = 0.0
        self.now += left_s
        self.used += share * left_s
        self.batches.adjust(EVERY_S)
        return self.batches.delay_s

    def turns_to_a_trial(self) -> int:
        """Neither busy nor idle, until it is tried without."""
        turns = 1
        while self.turn(0.7) > 0.0:
            turns += 1
        return turns

    def pass_time(self, seconds: float, *, share: float, late_s: float = 0.0) -> None:
        """Before the next turn; what was planned is due after it, and happens."""
        self.passed_s += seconds + late_s
        self.now += seconds + late_s
        self.used += share * (seconds + late_s)
        ((delay_s, call),) = self.planned
        assert delay_s == seconds
        self.planned.clear()
        call()


class Rested:
    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def test_the_delay_grows_while_the_worker_is_busy_and_goes_when_it_is_not() -> None:
    core = Core()
    assert [core.turn(0.94) for _ in range(4)] == [0.0] * 4
    grown = [core.turn(0.99) for _ in range(8)]
    assert grown == sorted(grown)
    assert grown[-1] == BATCH_S_MAX
    assert core.turn(0.7) == BATCH_S_MAX, "between the two it stays"
    shrunk = [core.turn(0.4) for _ in range(8)]
    assert shrunk == sorted(shrunk, reverse=True)
    assert shrunk[-1] == 0.0


def test_what_it_would_do_without_is_tried_and_ever_less_often_while_that_fails() -> None:
    core = Core()
    while core.turn(0.99) < BATCH_S_MAX:
        pass
    needed = []
    for _ in range(3):
        needed.append(core.turns_to_a_trial())
        assert core.batches.rest_s == 0.0
        core.pass_time(BATCH_S_MAX, share=0.99)
        core.pass_time(TRIAL_S, share=0.99)
        assert core.batches.delay_s == core.batches.rest_s == BATCH_S_MAX
    assert needed == [PATIENCE, 2 * PATIENCE, 4 * PATIENCE]
    for _ in range(12):
        core.turns_to_a_trial()
        core.pass_time(BATCH_S_MAX, share=0.5)
        core.pass_time(TRIAL_S, share=0.99)
    assert core.turns_to_a_trial() == PATIENCE_MAX
    core.pass_time(BATCH_S_MAX, share=0.99)
    core.pass_time(TRIAL_S, share=0.7)
    assert [core.turn(0.7) for _ in range(8)] == [0.0] * 8, "it can do without"
    while core.turn(0.99) < BATCH_S_MAX:
        pass
    assert [core.turn(0.7) for _ in range(PATIENCE)][-1] == 0.0, "and is tried soon again"


def test_a_trial_that_is_late_has_failed() -> None:
    core = Core()
    while core.turn(0.5, late_s=0.1) < BATCH_S_MAX:
        pass
    needed = []
    for _ in range(3):
        needed.append(core.turns_to_a_trial())
        core.pass_time(BATCH_S_MAX, share=0.7)
        core.pass_time(TRIAL_S, share=0.7, late_s=0.1)
        assert core.batches.delay_s == BATCH_S_MAX
    assert needed == [PATIENCE, 2 * PATIENCE, 4 * PATIENCE]


def test_after_a_time_without_it_is_tried_soon_again() -> None:
    core = Core()
    for _ in range(2):
        while core.turn(0.99) < BATCH_S_MAX:
            pass
        assert [core.turn(0.7) for _ in range(PATIENCE)][-1] == 0.0
        core.pass_time(BATCH_S_MAX, share=0.99)
        core.pass_time(TRIAL_S, share=0.99)
        while core.turn(0.3) > 0.0:
            pass


def test_a_worker_that_is_late_is_behind_whatever_it_gets_of_the_core() -> None:
    core = Core()
    assert core.turn(0.3, late_s=0.2) > 0.0


def test_all_that_rest_are_woken_by_one_timer() -> None:
    core = Core()
    core.turn(0.99)
    one, two = Rested(), Rested()
    core.batches.add(one)
    core.batches.add(two)
    ((delay_s, wake),) = core.planned
    assert delay_s == core.batches.rest_s
    core.now += delay_s
    wake()
    assert (one.woken, two.woken) == (1, 1)
    core.batches.add(one)
    assert len(core.planned) == 2


def test_each_rests_for_as_long_as_the_others() -> None:
    core = Core()
    while core.turn(0.99) < BATCH_S_MAX:
        pass
    first, second = Rested(), Rested()
    core.batches.add(first)
    core.now += BATCH_S_MAX / 2
    core.batches.add(second)
    core.now += BATCH_S_MAX / 2
    core.planned.pop()[1]()
    assert (first.woken, second.woken) == (1, 0)
    core.now += BATCH_S_MAX / 2
    core.planned.pop()[1]()
    assert (first.woken, second.woken) == (1, 1)
    assert core.planned == [], "nothing rests, and nothing is planned"


def test_what_waits_for_a_turn_of_the_loop_anyway_does_not_rest_in_addition() -> None:
    core = Core()
    for _ in range(8):
        core.turn(0.99, late_s=BATCH_S_MAX / 4)
    assert core.batches.delay_s == BATCH_S_MAX
    assert core.batches.rest_s == pytest.approx(BATCH_S_MAX * 3 / 4)
    core.turn(0.99, late_s=2 * BATCH_S_MAX)
    assert core.batches.rest_s == 0.0


def test_time_in_which_the_process_ran_is_busy() -> None:
    before, used = busy_s(), time.thread_time()
    while time.thread_time() - used < 0.05:
        pass
    assert busy_s() - before > 0.04


def _paced(texts: list[str], gap_s: float) -> Callable[[Asked, asyncio.StreamWriter], object]:
    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, "text/event-stream", transfer_encoding="chunked"))
        for text in texts:
            writer.write(chunk(event(text)))
            await writer.drain()
            await asyncio.sleep(gap_s)
        writer.write(chunk(b"data: [DONE]\n\n") + chunk(b""))
        await writer.drain()

    return behave


async def _read(rig: Rig) -> tuple[list[bytes], list[int]]:
    """The events, and how many each read has."""
    body = json.dumps({**CHAT, "stream": True}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-type: "
        b"application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
        % (PATH.encode(), KEY.encode(), len(body), body)
    )
    parts = []
    while part := await reader.read(65536):
        parts.append(part)
    writer.close()
    counts = [count for part in parts if (count := part.count(b"\n\n"))]
    return re.findall(rb"data: .*\n\n", b"".join(parts)), counts


@pytest.mark.interpreted
async def test_while_busy_the_first_event_goes_at_once_and_the_others_together(
    engine: StartEngine, serve: Serve
) -> None:
    texts = [f"word{n}" for n in range(40)]
    served = await engine(_paced(texts, 0.001))
    rig = await serve(snapshot(route(A, served)))
    assert rig.worker is not None
    batches = rig.worker.plant.batches
    batches.adjust = lambda planned_s: None  # type: ignore[method-assign]
    batches.delay_s = batches.rest_s = 0.0  # However busy it has been so far.
    rests: list[Resting] = []
    rest = batches.add
    batches.add = lambda stream: (rests.append(stream), rest(stream))[1]  # type: ignore[method-assign]
    alone, _ = await _read(rig)
    assert rests == [], "each goes as it comes"
    batches.delay_s = batches.rest_s = 5 * BATCH_S_MAX
    together, counts = await _read(rig)
    assert rests
    assert together == alone, "nothing is lost, and nothing out of order"
    assert counts[0] == 1
    assert max(counts) >= 10
    assert [r.error for r in rig.requests()] == ["", ""]
