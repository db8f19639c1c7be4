"""Events of streams go out together while the worker is busy, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway_rig import CHAT, A, Asked, Engine, Rig, chunk, event, head, route, snapshot

from fairlead.gateway.batching import BATCH_BYTES_MAX, BATCH_S_MAX, Batches

StartEngine = Callable[..., Awaitable[Engine]]
Serve = Callable[[object], Awaitable[Rig]]
PATH = "/v1/chat/completions"
EVERY_S = 0.25


class Core:
    """A core's time, and what a worker uses of it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.used = 0.0
        self.planned: list[tuple[float, Callable[[], None]]] = []
        self.batches = Batches(self.call_later, lambda: self.now, lambda: self.used)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        self.planned.append((delay_s, call))

    def turn(self, share: float, *, late_s: float = 0.0) -> float:
        self.now += EVERY_S + late_s
        self.used += share * (EVERY_S + late_s)
        self.batches.adjust(EVERY_S)
        return self.batches.delay_s


class Kept:
    def __init__(self) -> None:
        self.flushed = 0

    def flush(self) -> None:
        self.flushed += 1


def test_the_delay_grows_while_the_worker_is_busy_and_goes_when_it_is_not() -> None:
    core = Core()
    assert [core.turn(0.5) for _ in range(4)] == [0.0] * 4
    grown = [core.turn(0.95) for _ in range(8)]
    assert grown == sorted(grown)
    assert grown[-1] == BATCH_S_MAX
    assert core.turn(0.7) == BATCH_S_MAX, "between the two it stays"
    shrunk = [core.turn(0.4) for _ in range(8)]
    assert shrunk == sorted(shrunk, reverse=True)
    assert shrunk[-1] == 0.0


def test_a_worker_that_is_late_is_behind_whatever_it_gets_of_the_core() -> None:
    core = Core()
    assert core.turn(0.3, late_s=0.2) > 0.0


def test_all_that_waits_is_sent_by_one_timer() -> None:
    core = Core()
    core.turn(0.99)
    one, two = Kept(), Kept()
    core.batches.add(one)
    core.batches.add(two)
    ((delay_s, flush),) = core.planned
    assert delay_s == core.batches.delay_s
    flush()
    assert (one.flushed, two.flushed) == (1, 1)
    core.batches.add(one)
    assert len(core.planned) == 2


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


async def _read(rig: Rig) -> tuple[bytes, list[int]]:
    """The body, and how many events each chunk of it has."""
    async with (
        rig.client() as client,
        client.stream("POST", PATH, json={**CHAT, "stream": True}) as answer,
    ):
        parts = [part async for part in answer.aiter_raw()]
    return b"".join(parts), [part.count(b"\n\n") for part in parts]


async def test_while_busy_the_first_event_goes_at_once_and_the_others_together(
    engine: StartEngine, serve: Serve
) -> None:
    texts = [f"word{n}" for n in range(40)]
    served = await engine(_paced(texts, 0.001))
    rig = await serve(snapshot(route(A, served)))
    assert rig.worker is not None
    alone, counts = await _read(rig)
    assert max(counts) <= 5, "each goes as it comes"
    rig.worker.batches.adjust = lambda planned_s: None  # type: ignore[method-assign]
    rig.worker.batches.delay_s = BATCH_S_MAX
    together, counts = await _read(rig)
    assert together == alone, "nothing is lost, and nothing out of order"
    assert counts[0] == 1
    assert max(counts) >= 10
    assert [r.error for r in rig.requests()] == ["", ""]


async def test_much_does_not_wait(engine: StartEngine, serve: Serve) -> None:
    large = ["x" * (BATCH_BYTES_MAX // 2)] * 8
    served = await engine(_paced(large, 0.0))
    rig = await serve(snapshot(route(A, served)))
    assert rig.worker is not None
    rig.worker.batches.adjust = lambda planned_s: None  # type: ignore[method-assign]
    rig.worker.batches.delay_s = 5.0
    async with asyncio.timeout(4):
        body, _ = await _read(rig)
    assert body.count(b"x" * 1000) == 8 * (BATCH_BYTES_MAX // 2 // 1000)
