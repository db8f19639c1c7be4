"""A judge's queue over a store, with samples that are written down one by one and a judge in words.

No traffic, no rollout and no server: what a queue asks about, and what it says of itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.control.judging.asking import Asker, Reply
from fairlead.control.judging.budget import DAY_S
from fairlead.control.judging.live import FRESH_S, OUT_S, LiveQueue, Sampled
from fairlead.control.judging.pacing import BEHIND_S, LOOK_S
from fairlead.control.judging.queue import FRUITLESS_MAX, WINDOW, JudgeQueue
from fairlead.domain.release import RemoteModel
from fairlead.evaluation.judge_model import Budget, Exchange, JudgeModel, Verdict
from fairlead.monitoring.live_judging import JudgeSample
from fairlead.store import open_store
from fairlead.store.interface import Store
from fairlead.store.rows import RequestRow, SampleRow, SpoolCursor

GOOD = Reply(Verdict(5.0, "good"))
AWAY = Reply(None, "nobody there", is_outage=True)
SILENT = Reply(None, "no score")


class Words(Asker):
    """Says what it is told to, and keeps what it was asked about and when."""

    def __init__(self, judge: JudgeModel, world: Small) -> None:
        super().__init__(judge, lambda: pytest.fail("nobody is to be asked"))
        self._world = world

    async def __call__(self, exchange: Exchange) -> Reply:
        world = self._world
        world.ages.append(world.now - float(exchange.answer))
        return world.reply(exchange)

    def most_usd(self, exchange: Exchange) -> float:
        return self._world.usd(exchange)


class Small:
    """A store, a clock and a queue; each answer is the Unix time at which it was asked for.

    Attributes:
        ages: How long after its request each question was asked, in seconds.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.now = store, 3 * DAY_S + DAY_S / 2
        self.reply: Callable[[Exchange], Reply] = lambda _: GOOD
        self.ages: list[float] = []
        self.usd: Callable[[Exchange], float] = lambda _: 0.0
        self._count = 0
        store.open_spool("b1")

    def judge(self, **changes: Any) -> JudgeModel:
        return JudgeModel(**{"provider": RemoteModel("http://j.example", "j"), **changes})

    def queue(self, **changes: Any) -> JudgeQueue:
        asker = Words(self.judge(**changes), self)
        return JudgeQueue(self.store, asker, "ro-1", "bank", lambda: self.now, decides=True)

    def live(self, sample: JudgeSample, **changes: Any) -> LiveQueue:
        judge = self.judge(share=sample.share, **changes)
        of = Sampled("bank", "sha256:a", judge, sample)
        return LiveQueue(self.store, Words(judge, self), of, lambda: self.now, lambda: False)

    def serve(self, count: int, seconds: float, *, rho: float = 0.0) -> None:
        """So many samples, spread over so many seconds, each of a unit of its own."""
        rows, texts = [], []
        for place in range(count):
            self._count += 1
            name, at = f"r{self._count:07d}", self.now + seconds * place / count
            rows.append(
                RequestRow(
                    name, "bank", "sha256:a", "champion", "a-1", "k", name, rho,
                    "ro-1" if rho else "", 0, "chat", False, 200, "", at, 5.0, -1.0, 50.0, 1, 1, 1,
                )  # fmt: skip
            )
            texts.append(SampleRow(name, "bank", "k", name, at, at + 1e6, "[]", repr(at), False))
        self.now += seconds
        cursor = SpoolCursor(1, self._count, complete_until=self.now)
        self.store.ingest("b1", rows, [], cursor, (), texts)


@pytest.fixture
def small(tmp_path: Path, empty_database: Path) -> Iterator[Small]:
    shutil.copy(empty_database, tmp_path / "fairlead.db")
    store = open_store(f"sqlite:///{tmp_path}/fairlead.db")
    yield Small(store)
    store.close()


@pytest.mark.parametrize(("share", "concurrency"), [(0.02, 4), (1.0, 64)])
async def test_a_backlog_is_seen_though_few_of_a_window_wait_or_all_are_asked_at_once(
    small: Small, share: float, concurrency: int
) -> None:
    """Of a window of 200 only a share waits; how many wait behind it is not counted."""
    queue = small.queue(share=share, concurrency=concurrency)
    small.serve(4 * WINDOW, BEHIND_S + LOOK_S, rho=0.5)
    await queue.turn()
    assert queue.is_full
    assert queue.shares.changes == ()
    small.serve(4 * WINDOW, LOOK_S + 1.0, rho=0.5)
    await queue.turn()
    assert queue.shares.now < share


async def test_a_window_in_which_nearly_all_is_judged_is_no_backlog(small: Small) -> None:
    """A single sample is asked about again and again; those behind it have their verdicts."""
    queue = small.queue(concurrency=WINDOW)
    first = repr(small.now)
    small.reply = lambda exchange: SILENT if exchange.answer == first else GOOD
    small.serve(WINDOW, 10.0, rho=0.5)
    await queue.turn()
    small.now += BEHIND_S + LOOK_S
    small.serve(WINDOW, 10.0, rho=0.5)
    await queue.turn()
    assert queue.pending == 1
    assert not queue.is_full
