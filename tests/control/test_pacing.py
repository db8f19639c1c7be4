"""A judge that is slower than its sample: it gets less, and the verdict stays what it was worth."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.answering_replica import AnsweringReplica
from control.judged_world import JUDGED_PLAN, JudgedWorld, grade, judge_at
from fairlead.cli.status import judging_line
from fairlead.control.judging.judging import Judging
from fairlead.control.judging.pacing import (
    AHEAD_S,
    CHANGES_MAX,
    LEAST,
    Change,
    Enrolments,
    Pacer,
    Shares,
    Standing,
)
from fairlead.control.judging.queue import JudgeQueue
from fairlead.control.views import JudgingView
from fairlead.stats.intervals import clopper_pearson
from fairlead.stats.rae import BinaryRae

Replica = Callable[..., AnsweringReplica]


@pytest.fixture
def world(judged_world: JudgedWorld) -> JudgedWorld:
    return judged_world


class Paced:
    """A judge of samples that come at a rate, and take their time each; seconds of simulated time.

    Args:
        takes: Seconds that a sample takes, by its arm and whether it is bad.
        drops_long: The wrong rule, for comparison: while it is behind, what takes long is left out.
    """

    def __init__(
        self, seed: int, takes: Callable[[bool, bool], float], *, drops_long: bool = False
    ) -> None:
        self.dice = random.Random(seed)
        self.takes = takes
        self.drops_long = drops_long
        self.shares, self.pacer = Shares(1.0), Pacer()
        self.queue: deque[tuple[float, bool, bool]] = deque()
        self.lags: list[float] = []
        self.judged: list[tuple[bool, bool]] = []

    def run(self, seconds: int, rate: int, bad: float = 0.3) -> None:
        spare = 0.0
        for now in range(seconds):
            for k in range(rate):
                canary, is_bad = self.dice.random() < 0.5, self.dice.random() < bad
                if self.drops_long or self.dice.random() < self.shares.at(now):
                    self.queue.append((now + k / rate, canary, is_bad))
            spare = min(spare + 1.0, 1.0) if not self.queue else spare + 1.0
            while self.queue and spare > 0.0:
                at, canary, is_bad = self.queue.popleft()
                took = self.takes(canary, is_bad)
                if self.drops_long and took > 0.5 and now - at > 5.0:
                    continue
                spare -= took
                self.judged.append((canary, is_bad))
            until = self.queue[0][0] if self.queue else now + 1.0
            seen = Standing(now + 1.0, until, now + 1.0, len(self.queue), 1)
            self.lags.append(seen.lag_s)
            share = self.pacer.share(self.shares, seen)
            if share is not None:
                self.shares = self.shares.changed(now + AHEAD_S, share)


def test_a_judge_that_is_three_times_too_slow_is_asked_about_a_third() -> None:
    paced = Paced(1, lambda _canary, _bad: 0.5)
    paced.run(3_600, rate=6)
    lowest = min(change.share for change in paced.shares.changes)
    assert 0.1 < lowest <= paced.shares.now <= 0.5
    # It has caught up, and stays abreast but for trials of more.
    assert max(paced.lags[1_800:]) < 120
    assert paced.lags[600] < 240
    assert len(paced.shares.changes) < 60


def test_a_judge_that_keeps_up_is_asked_about_all_of_it() -> None:
    paced = Paced(2, lambda _canary, _bad: 0.1)
    paced.run(1_800, rate=6)
    assert paced.shares.changes == ()


def test_the_share_comes_back_when_the_judge_is_fast_again() -> None:
    paced = Paced(3, lambda _canary, _bad: 0.5)
    paced.run(900, rate=6)
    assert paced.shares.now < 0.5
    pacer, shares = Pacer(), paced.shares
    for second in range(3_600):
        now = 900.0 + second
        share = pacer.share(shares, Standing(now, now, now, 0, 1))
        shares = shares if share is None else shares.changed(now + AHEAD_S, share)
    assert shares.now == 1.0


def test_a_judge_that_is_not_asked_is_not_slow() -> None:
    """Its budget is used up, or it is away: less would change nothing."""
    pacer, shares = Pacer(), Shares(1.0)
    for second in range(0, 600, 20):
        pacer.interrupted()
        assert pacer.share(shares, Standing(float(second), 0.0, float(second), 500, 2)) is None


def test_one_sample_that_is_asked_about_again_and_again_is_no_backlog() -> None:
    pacer = Pacer()
    for second in range(600):
        assert pacer.share(Shares(1.0), Standing(float(second), 0.0, float(second), 3, 2)) is None


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 1_000)), max_size=60))
def test_a_share_is_never_more_than_declared_nor_nothing(looks: list[tuple[float, int]]) -> None:
    pacer, shares, now = Pacer(), Shares(0.5), 0.0
    for ahead, waiting in looks:
        now += ahead
        share = pacer.share(shares, Standing(now, now / 2, now, waiting, 1))
        if share is not None:
            shares = shares.changed(now + AHEAD_S, share)
    assert all(0.5 * LEAST <= change.share <= 0.5 for change in shares.changes)
    assert [change.at for change in shares.changes] == sorted(c.at for c in shares.changes)


def test_of_many_changes_the_oldest_become_one_at_the_lower_share() -> None:
    shares = Shares(1.0)
    for number in range(CHANGES_MAX + 1):
        shares = shares.changed(float(number), 0.5 if number else 0.25)
    assert len(shares.changes) == CHANGES_MAX
    assert shares.changes[0] == Change(0.0, 0.25)
    assert (shares.at(-1.0), shares.at(1.5), shares.at(2.0), shares.now) == (1.0, 0.25, 0.5, 0.5)


def test_after_a_clock_was_set_back_the_changes_are_in_order_of_time() -> None:
    """No share is another one afterwards for a unit that was enrolled before."""
    shares = Shares(1.0).changed(100.0, 0.5).changed(400.0, 0.25).changed(200.0, 0.125)
    assert [shares.at(moment) for moment in (50.0, 150.0, 300.0)] == [1.0, 0.5, 0.5]
    assert (shares.at(500.0), shares.now) == (0.125, 0.125)


def test_a_unit_goes_by_the_share_of_its_enrolment() -> None:
    """As long as its requests count; and in the next phase by that of its next one."""
    enrolled = Enrolments(10.0)
    assert [enrolled.moment(1, "u", at) for at in (100.0, 105.0, 111.0)] == [100.0, 100.0, 111.0]
    assert enrolled.moment(2, "u", 120.0) == 120.0


def false_alarms(rollouts: int, *, drops_long: bool) -> int:
    """Of a canary whose good answers are long ones, and as often bad as the champion's."""
    found = 0
    for seed in range(rollouts):
        paced = Paced(seed, lambda canary, bad: 0.2 + canary * (not bad), drops_long=drops_long)
        paced.run(400, rate=4)
        test = BinaryRae(tol=0.0, alpha=0.01, prior_rate=0.3, prior_units=20.0)
        for canary, bad in paced.judged:
            test.update(canary, 0.5, float(bad))
        found += test.log_e_max >= math.log(100)
    return found


def test_less_of_the_sample_is_as_fair_as_all_of_it() -> None:
    """What a canary says takes the judge longer: the share goes by it, and the verdict does not.

    Leaving out what takes long, of what is there already, would be wrong nearly always.
    """
    wrong = false_alarms(200, drops_long=False)
    assert clopper_pearson(wrong, 200, 0.98)[0] <= 0.01
    assert false_alarms(20, drops_long=True) > 10


async def _by_hand(_judging: Judging, _queue: JudgeQueue) -> None:
    """The world says how often the judge is asked."""


async def test_a_judge_that_is_too_slow_is_asked_about_less_and_catches_up(
    world: JudgedWorld, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a restart of control; asked about all, it would be minutes behind."""
    monkeypatch.setattr(Judging, "_run", _by_hand)
    world.use(judge_at(replica(grade), concurrency=1))
    world.fails["b"] = world.fails["c"] = world.fails["a"] = 0.2
    world.users_per_turn = 8
    await world.first_champion()
    world.judge_turns = 2
    step = msgspec.structs.replace(JUDGED_PLAN.steps[0], units=10**6)
    plan = msgspec.structs.replace(JUDGED_PLAN, steps=(step,), deadline_s=10_000.0)

    async def behind(rollout: str) -> JudgingView:
        await world.until(lambda: world.row(rollout).state == "judging")
        for turn in range(84):
            await world.turn(seconds=5.0)
            if turn == 40:
                await world.restart()
        view = (await world.plane.reports.rollout(rollout)).judging
        assert view is not None
        return view

    first = await world.ship_judged("b", plan=plan)
    view = await behind(first)
    assert view.oldest_s is None or view.oldest_s < 100
    assert min(share for _, share in view.share_changes) < 0.5
    assert view.share < view.share_declared == 1.0
    assert f"asked about {view.share:.2%} of the sample in place of 100%" in judging_line(view)
    await world.plane.command(first, "abort")
    await world.finish(first)
    ended = (await world.plane.reports.rollout(first)).judging
    assert ended is not None
    assert ended.share_changes[: len(view.share_changes)] == view.share_changes

    monkeypatch.setattr(Pacer, "share", lambda *_: None)
    view = await behind(await world.ship_judged("c", plan=plan))
    assert view.oldest_s is not None
    assert view.oldest_s > 150
    assert view.share_changes == []
