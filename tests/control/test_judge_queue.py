"""A judge's queue over a store, with samples that are written down one by one and a judge in words.

No traffic, no rollout and no server: what a queue asks about, and what it says of itself.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.control.judging.asking import Asker, Reply
from fairlead.control.judging.budget import DAY_S
from fairlead.control.judging.live import FRESH_S, NEWEST_S, OUT_S, LiveQueue, Sampled
from fairlead.control.judging.pacing import BEHIND_S, LOOK_S
from fairlead.control.judging.queue import FRUITLESS_MAX, WINDOW, JudgeQueue
from fairlead.domain.quota import Price
from fairlead.domain.release import RemoteModel
from fairlead.evaluation.judge_model import Budget, Exchange, JudgeModel, Verdict
from fairlead.monitoring.live_judging import JudgeSample
from fairlead.stats.intervals import clopper_pearson
from fairlead.store import open_store
from fairlead.store.interface import Store
from fairlead.store.rows import JudgementRow, RequestRow, SampleRow, SpoolCursor

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
            row = RequestRow(
                name, "bank", "sha256:a", "champion", "a-1", "k", name, rho, "ro-1" if rho else "",
                0, "chat", False, 200, "", at, 5.0, -1.0, 50.0, 1, 1, 1,
            )  # fmt: skip
            rows.append(row)
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


async def spaced(small: Small, queue: JudgeQueue, seconds: float, *, every_s: float = 5.0) -> None:
    """Two samples each so many seconds, and the queue's turns."""
    for _ in range(int(seconds / every_s)):
        small.serve(2, every_s)
        while await queue.turn():
            pass


async def test_a_cap_that_is_spread_over_the_day_is_spent_on_what_is_new(small: Small) -> None:
    """And it is no slow judge, also with one question at a time and after a midnight."""
    small.now = 3 * DAY_S - 1_000.0
    queue = small.live(JudgeSample(per_day=960), concurrency=1)  # each 90 s
    await spaced(small, queue, 60.0)
    small.ages.clear()
    said: set[str] = set()
    for _ in range(60):
        await spaced(small, queue, 30.0, every_s=15.0)
        said.add(queue.blindness)
    assert said == {""}
    assert len(small.ages) > 15
    assert max(small.ages) < NEWEST_S + 20.0


async def test_an_old_sample_under_a_cap_of_the_day_is_no_slow_judge(small: Small) -> None:
    """It was asked about once, and the second time waited for the cap; what else waits is new."""
    spent = JudgementRow("r", "bank", "", "asked", attempts=519, at=small.now)
    small.store.begin_judgements([spent])
    queue = small.live(JudgeSample(per_day=960), concurrency=1, attempts=2)
    small.reply = lambda _: SILENT
    await spaced(small, queue, 10.0)
    assert len(small.ages) == 1
    said: list[str] = []

    def reply(_: Exchange) -> Reply:
        said.append(queue.blindness)
        return GOOD

    small.reply = reply
    small.serve(400, FRESH_S - 100.0)
    while await queue.turn():
        pass
    assert said == [""] * 9
    assert max(small.ages[1:2]) > FRESH_S - 110.0
    assert max(small.ages[2:]) < NEWEST_S + 5.0


async def test_what_an_answer_costs_has_no_part_in_whether_it_is_judged(small: Small) -> None:
    """Of two at a time one costs nine times as much; both are asked about as often."""
    dear: list[bool] = []
    small.usd = lambda exchange: 0.9 if is_dear(exchange) else 0.1

    def is_dear(exchange: Exchange) -> bool:
        return zlib.crc32(exchange.answer.encode()) % 2 == 1

    def reply(exchange: Exchange) -> Reply:
        usd = small.usd(exchange)
        dear.append(is_dear(exchange))
        return msgspec.structs.replace(GOOD, usd=usd)

    small.reply = reply
    small.now = 3 * DAY_S
    price = Price(1.0, 1.0)
    queue = small.live(JudgeSample(per_day=None, usd_per_day=1_000.0), concurrency=1, price=price)
    await spaced(small, queue, 200.0)
    dear.clear()
    await spaced(small, queue, 4_500.0, every_s=22.5)
    assert len(dear) > 80
    assert clopper_pearson(sum(dear), len(dear), 0.999)[0] < 0.5
    assert clopper_pearson(sum(dear), len(dear), 0.999)[1] > 0.5


async def test_a_judge_that_is_too_slow_for_its_share_is_told_so(small: Small) -> None:
    queue = small.live(JudgeSample(per_day=None), concurrency=1, budget=Budget(per_day=None))
    for _ in range(40):
        small.serve(40, FRESH_S / 20)
        await queue.turn()
    assert "too slow" in queue.blindness


async def test_live_traffic_leaves_half_of_a_judges_day_to_rollouts(small: Small) -> None:
    """Spread over the day, which is no blindness."""
    small.now = 4 * DAY_S - 100.0
    queue = small.live(JudgeSample(per_day=None), budget=Budget(per_day=20))
    await spaced(small, queue, 60.0)
    assert len(small.ages) == 10
    assert queue.stop is not None
    assert queue.stop.is_paced
    assert "its 10 questions a day are spread" in queue.stop.why
    assert queue.blindness == ""


@pytest.mark.parametrize("reply", [AWAY, SILENT])
async def test_without_anything_to_judge_nobody_is_blind(small: Small, reply: Reply) -> None:
    """Traffic that ends during an outage: what was said of the judge ends a while later."""
    small.reply = lambda _: reply
    queue = small.live(JudgeSample(per_day=None), attempts=1)
    await spaced(small, queue, 2 * OUT_S, every_s=10.0)
    assert queue.is_blind
    assert reply.why in queue.blindness
    for _ in range(int(2 * FRESH_S / 50) + 4):
        small.serve(0, 50.0)
        await queue.turn()
    assert queue.oldest is None
    assert (queue.is_blind, queue.blindness, queue.trouble) == (False, "", "")


async def test_a_budget_that_was_used_up_yesterday_makes_nobody_blind_without_traffic(
    small: Small,
) -> None:
    small.now = 4 * DAY_S - 600.0
    queue = small.live(JudgeSample(per_day=None, usd_per_day=None), budget=Budget(per_day=0))
    await spaced(small, queue, 60.0)
    assert "judge's budget used up" in queue.blindness
    for _ in range(int(2 * FRESH_S / 50) + 4):
        small.serve(0, 50.0)
        await queue.turn()
    assert (queue.stop, queue.blindness) == (None, "")


async def test_a_few_answers_without_a_score_are_said_by_both_alerts_at_once(
    small: Small,
) -> None:
    """`judge_down` and the blindness of `quality` go by the same, after the same minute."""
    queue = small.live(JudgeSample(per_day=None), attempts=1)
    small.reply = lambda _: SILENT
    small.serve(FRUITLESS_MAX, 5.0)
    small.serve(0, 2.0)
    while await queue.turn():
        pass
    assert (queue.is_blind, queue.blindness) == (True, "")
    small.now += OUT_S
    assert queue.blindness == "the judge model gives no verdicts: no score"
    small.reply = lambda _: GOOD
    small.serve(1, 5.0)
    small.serve(0, 2.0)
    while await queue.turn():
        pass
    assert (queue.is_blind, queue.blindness) == (False, "")
