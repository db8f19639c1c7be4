"""Workers and control together, on simulated time: limits hold, and nothing of them is wasted.

Messages take random times, are answered late or not at all, and workers and control die.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairlead.control.limits.ledger import Ledger
from fairlead.control.world.hub import GRANTS_EVERY_S
from fairlead.domain.quota import Cost, Quota, UseRow
from fairlead.gateway.quotas.quota import Hold, QuotaBook
from fairlead.wire.quota import Grant, QuotaReport, WindowUse
from fairlead.wire.snapshot import KeyEntry, Snapshot, declared_limits

T0 = 1_764_000_000.0
WAIT_S = 1.0
REQUESTS = "key:k:requests_per_minute"
TOKENS = "key:k:tokens_per_minute"


class SimulatedWorker:
    """A gateway worker, as far as limits go: asks control all the time, one question at a time."""

    def __init__(
        self, world: World, number: int, life: int = 0, before: SimulatedWorker | None = None
    ) -> None:
        self.world = world
        self.number = number
        self.boot = f"{number}-{life}"
        self.seat = self.boot if before is None else before.seat
        self.question = 0
        self.is_dead = False
        self.let = 0
        self.book = QuotaBook(
            self.seat, number, sequence=0, hurry=lambda: world.later(0.0, self.ask)
        )
        if before is not None:
            self.book.kept = {use.limit: use for use in before.book.to_keep(world.now)}
        self.book.use(world.snapshot, world.now)
        world.later(0.0, self.ask)

    def ask(self) -> None:
        if self.is_dead:
            return
        self.question += 1
        report = self.book.report(self.world.now)
        assert report is not None
        number = self.question
        self.world.later(self.world.delay(), lambda: self.world.control.hears(self, number, report))
        self.world.later(WAIT_S + 3.0, lambda: self.gives_up(number))

    def gives_up(self, question: int) -> None:
        if question == self.question:
            self.ask()

    def hears(self, question: int, grants: tuple[Grant, ...]) -> None:
        if question != self.question or self.is_dead:
            return
        self.book.heard(self.world.now)
        self.book.apply(grants, self.world.now)
        self.ask()

    def request(self, cost: Cost) -> Hold | None:
        hold = self.book.take(self.book.meters_for("k", "s")[0], cost, cost, self.world.now)
        self.let += isinstance(hold, Hold)
        return hold if isinstance(hold, Hold) else None


class Waiting:
    """A request that waits for a second for what it lacks."""

    def __init__(self, worker: SimulatedWorker, cost: Cost) -> None:
        self._worker = worker
        self._cost = cost
        worker.book.wait(self)
        worker.world.later(1.0, lambda: worker.book.wait_no_more(self))

    def look_again(self) -> None:
        book, now = self._worker.book, self._worker.world.now
        meters = book.meters_for("k", "s")[0]
        if isinstance(book.take(meters, self._cost, self._cost, now, is_again=True), Hold):
            book.wait_no_more(self)


class SimulatedControl:
    """The hub's part: answers at once where there is something to say, else after a while."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ledger = Ledger(world.count)
        self.ledger.declare(declared_limits(world.snapshot))
        self.ledger.recall(world.kept)
        self.waiting: dict[str, tuple[SimulatedWorker, int]] = {}
        self.granted_at: dict[str, float] = {}
        self.numbers: set[int] = set()
        self.is_dead = False

    def hears(self, worker: SimulatedWorker, question: int, report: QuotaReport) -> None:
        if self.is_dead:
            return
        self.numbers.add(worker.number)
        self.ledger.retain({w.boot for w in self.world.workers if not w.is_dead})
        self.ledger.report(report, worker.boot, self.world.now, self.world.now)
        self.ledger.tidy(self.world.now)
        self.waiting[worker.boot] = (worker, question)
        self.world.later(WAIT_S, lambda: self.ends(worker, question))
        for other, asked in list(self.waiting.values()):
            self.look(other, asked)
        self.save()

    def look(self, worker: SimulatedWorker, question: int) -> None:
        if self.is_dead or self.waiting.get(worker.boot) != (worker, question):
            return
        early = self.granted_at.get(worker.boot, 0.0) + GRANTS_EVERY_S - self.world.now
        if early > 0:
            self.world.later(early + 0.001, lambda: self.look(worker, question))
            return
        all_known = len(self.numbers) >= self.world.count
        grants = self.ledger.grants(worker.seat, all_known=all_known)
        if grants:
            self.granted_at[worker.boot] = self.world.now
            self.answer(worker, question, grants)

    def ends(self, worker: SimulatedWorker, question: int) -> None:
        if self.waiting.get(worker.boot) == (worker, question) and not self.is_dead:
            self.answer(worker, question, ())

    def answer(self, worker: SimulatedWorker, question: int, grants: tuple[Grant, ...]) -> None:
        del self.waiting[worker.boot]
        self.world.later(self.world.delay(), lambda: worker.hears(question, grants))

    def save(self) -> None:
        rows = self.ledger.unsaved()
        kept = {(r.limit, r.start, r.seat): r for r in [*self.world.kept, *rows]}
        self.world.kept = list(kept.values())
        self.ledger.saved(rows)


class World:
    """Time, messages and who takes part."""

    def __init__(self, count: int, quota: Quota, seed: int = 1, delay_s: float = 0.1) -> None:
        self.count = count
        self.dice = random.Random(seed)
        self.delay_s = delay_s
        self.now = T0
        self.snapshot = Snapshot(
            1, "00", keys=(KeyEntry("k", "k", "aa", quota=quota),), workers=count
        )
        self.kept: list[UseRow] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.control = SimulatedControl(self)
        self.workers: list[SimulatedWorker] = []
        self.workers = [SimulatedWorker(self, number) for number in range(count)]
        self.all = list(self.workers)

    def delay(self) -> float:
        return self.dice.uniform(0.0, self.delay_s)

    def later(self, delay: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._order), what))

    def until(self, at: float) -> None:
        while self._events and self._events[0][0] <= at:
            self.now, _, what = heapq.heappop(self._events)
            what()
        self.now = at

    def used(self, limit: str = REQUESTS) -> int:
        """What all workers that ever were have used of the present window."""
        return sum(worker.book.meters[limit].roll(self.now).used for worker in self.all)

    def restart_control(self) -> None:
        self.control.is_dead = True
        self.control = SimulatedControl(self)

    def restart_worker(self, number: int, *, with_file: bool = False) -> None:
        """Another process begins in its place, on its seat if it finds the file."""
        before = self.workers[number]
        before.is_dead = True
        after = SimulatedWorker(self, number, len(self.all), before if with_file else None)
        if with_file:
            self.all.remove(before)
        self.workers[number] = after
        self.all.append(after)


def load(
    world: World, per_second: float, seconds: float, weights: list[float], most: int = 0
) -> int:
    """Ask at a steady rate, each time a worker by its weight; returns the most that was used."""
    peak = 0
    begun = world.now
    for n in range(int(per_second * seconds)):
        world.until(begun + n / per_second)
        worker = world.dice.choices(world.workers, weights)[0]
        tokens = world.dice.randint(1, most) if most else 0
        worker.request((1, tokens, 0))
        peak = max(peak, world.used(TOKENS if most else REQUESTS))
    world.until(begun + seconds)
    return peak


@settings(deadline=None, max_examples=25)
@given(
    st.integers(2, 8),
    st.integers(20, 400),
    st.integers(0, 1000),
    st.floats(0.0, 2.0),
    st.lists(st.floats(0.01, 1.0), min_size=8, max_size=8),
)
def test_all_workers_together_never_use_more_than_the_limit(
    count: int, limit: int, seed: int, delay_s: float, weights: list[float]
) -> None:
    world = World(count, Quota(requests_per_minute=limit), seed, delay_s)
    for _ in range(2):
        assert load(world, 3 * limit / 60, 60, weights[:count]) <= limit


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 8), st.integers(100, 400), st.integers(0, 1000), st.floats(0.001, 0.3))
def test_nearly_all_of_the_limit_is_usable_by_one_worker_alone(
    count: int, limit: int, seed: int, delay_s: float
) -> None:
    """All demand comes to one worker: at least 90 % of each minute's limit gets through."""
    world = World(count, Quota(requests_per_minute=limit), seed, delay_s)
    weights = [1.0] + [0.0] * (count - 1)
    for _ in range(2):
        load(world, 1.5 * limit / 60, 59.999, weights)
        assert 0.9 * limit <= world.used() <= limit
        world.until(world.now + 0.001)


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 8), st.integers(0, 1000), st.floats(0.001, 0.3))
def test_skewed_demand_for_tokens_uses_nearly_all_and_never_more(
    count: int, seed: int, delay_s: float
) -> None:
    world = World(count, Quota(tokens_per_minute=10_000), seed, delay_s)
    weights = [2.0**-number for number in range(count)]
    for _ in range(2):
        peak = load(world, 10, 59.99, weights, most=80)
        assert world.used(TOKENS) >= 9_000
        assert peak <= 10_000
        world.until(world.now + 0.01)


def test_demand_that_moves_takes_the_leases_with_it() -> None:
    world = World(4, Quota(requests_per_minute=600))
    load(world, 10, 20, [1, 0, 0, 0])
    load(world, 10, 20, [0, 1, 0, 0])
    load(world, 10, 19, [0, 0, 1, 0])
    assert world.used() >= 0.95 * 590


def test_a_restart_of_control_keeps_the_days_use_and_nothing_is_used_twice() -> None:
    world = World(3, Quota(requests_per_minute=300))
    peak = 0
    for _ in range(5):
        peak = max(peak, load(world, 10, 9, [5, 1, 1]))
        world.restart_control()
    assert peak <= 300
    assert world.used() >= 270


def test_with_control_down_they_go_on_with_what_they_hold_and_then_with_the_fair_share() -> None:
    world = World(4, Quota(requests_per_minute=100))
    load(world, 2, 20, [1, 0, 0, 0])
    world.control.is_dead = True
    before = world.used()
    load(world, 10, 39.9, [1, 1, 1, 1])
    assert before < world.used() <= 100
    world.until(T0 + 60)
    let = [worker.let for worker in world.workers]
    load(world, 10, 59, [1, 1, 1, 1])
    assert [w.let - b for w, b in zip(world.workers, let, strict=True)] == [25] * 4


def test_a_worker_that_died_has_used_what_it_said_and_its_lease_comes_back() -> None:
    world = World(2, Quota(requests_per_minute=100), delay_s=0.02)
    load(world, 5, 8, [1, 0])
    world.until(T0 + 10)
    world.restart_worker(0)
    world.until(T0 + 11)
    load(world, 5, 45, [1, 1])
    assert 90 <= world.used() <= 100


def test_a_whole_restart_keeps_the_use_and_new_workers_are_told_at_once() -> None:
    world = World(2, Quota(requests_per_minute=100), delay_s=0.02)
    load(world, 10, 8, [1, 1])
    world.until(T0 + 10)
    used = world.used()
    world.restart_control()
    world.restart_worker(0)
    world.restart_worker(1)
    world.until(T0 + 12)
    held = sum(w.book.meters[REQUESTS].roll(world.now).held for w in world.workers)
    assert used + held <= 100
    assert load(world, 10, 40, [1, 1]) <= 100
    assert world.used() >= 90


@settings(deadline=None, max_examples=10)
@given(st.integers(2, 5), st.integers(0, 1000), st.lists(st.integers(0, 5), max_size=8))
def test_the_limit_holds_through_restarts_of_control_and_of_workers_under_load(
    count: int, seed: int, restarts: list[int]
) -> None:
    world = World(count, Quota(requests_per_minute=500), seed, 0.05)
    peak = 0
    for which in restarts:
        peak = max(peak, load(world, 15, 6, [3, *[1] * (count - 1)]))
        if which >= count:
            world.restart_control()
        else:
            world.workers[which].is_dead = True
            living = [float(not worker.is_dead) for worker in world.workers]
            peak = max(peak, load(world, 15, 0.5, living))
            world.restart_worker(which, with_file=True)
    assert peak <= 500 * 1.02


def test_a_seat_taken_over_after_the_clock_was_set_back_is_heard() -> None:
    world = World(1, Quota(requests_per_minute=10))
    ledger = world.control.ledger
    for boot, sequence, used in (("one", 900, 1), ("two", 5, 3), ("two", 4, 9)):
        use = WindowUse(REQUESTS, int(T0), 10, used, used, 0)
        ledger.report(QuotaReport("seat", 0, sequence, (use,)), boot, T0, T0)
    assert [row.used for row in ledger.unsaved()] == [3]


@pytest.mark.parametrize("count", [1, 2, 8])
def test_when_nobody_asks_nobody_is_told_anything(count: int) -> None:
    world = World(count, Quota(requests_per_minute=100))
    world.until(T0 + 30)
    assert world.control.granted_at == {}


def test_an_exhausted_limit_is_not_talked_about_all_the_time() -> None:
    world = World(2, Quota(requests_per_minute=50), delay_s=0.005)
    load(world, 20, 10, [1, 1])
    before = [worker.question for worker in world.workers]
    load(world, 50, 30, [1, 1])
    asked = [w.question - b for w, b in zip(world.workers, before, strict=True)]
    assert max(asked) <= 70
    assert world.used() == 50


def test_a_worker_that_asks_in_vain_is_told_again_for_the_answer_may_have_been_lost() -> None:
    world = World(2, Quota(requests_per_minute=100))
    ledger = Ledger(2)
    ledger.declare(declared_limits(world.snapshot))
    start = int(T0 // 60) * 60

    def reports(seat: str, number: int, sequence: int, at: float, need: int) -> None:
        use = WindowUse(REQUESTS, start, 50, 50, 60 + sequence, need)
        ledger.report(QuotaReport(seat, number, sequence, (use,)), seat, at, T0 + at)

    reports("b", 1, 1, 0.0, 0)
    reports("a", 0, 1, 0.0, 1)
    short = (Grant(REQUESTS, start, 50, 0),)
    assert ledger.grants("a", all_known=True) == short
    assert ledger.grants("a", all_known=True) == ()
    reports("a", 0, 2, 0.3, 1)
    assert ledger.grants("a", all_known=True) == ()
    reports("a", 0, 3, 1.4, 1)
    assert ledger.grants("a", all_known=True) == short


def test_a_worker_that_asks_for_more_than_is_left_anywhere_is_told_so() -> None:
    """Although another one still holds a little of it."""
    world = World(2, Quota(requests_per_minute=100))
    ledger = Ledger(2)
    ledger.declare(declared_limits(world.snapshot))
    start = int(T0 // 60) * 60
    for number, use in enumerate(
        [WindowUse(REQUESTS, start, 90, 51, 800, 42), WindowUse(REQUESTS, start, 10, 9, 9, 0)]
    ):
        ledger.report(QuotaReport(f"s{number}", number, 1, (use,)), f"b{number}", 0.0, T0)
    assert ledger.grants("s0", all_known=True) == (Grant(REQUESTS, start, 90, 40),)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(2, 4),
    st.lists(st.integers(0, 41), min_size=4, max_size=4),
    st.integers(0, 1000),
    st.floats(0.001, 0.3),
)
@example(4, [12, 0, 28, 12], 2, 0.015625)
def test_the_last_of_a_limit_goes_to_one_of_those_that_ask(
    count: int, free: list[int], seed: int, delay_s: float
) -> None:
    """Each of them holds a part of what is left, which is too little for one request of any."""
    need, limit = 42, 500 * count
    world = World(count, Quota(tokens_per_minute=limit), seed, delay_s)
    world.until(T0 + 2)
    for worker, left in zip(world.workers, free, strict=False):
        assert worker.request((1, 500 - left, 0)) is not None
    for second in range(20):
        moments = sorted(world.dice.random() for _ in world.workers)
        for moment, worker in zip(moments, world.workers, strict=True):
            world.until(T0 + 3 + second + moment)
            if worker.request((1, need, 0)) is None:
                Waiting(worker, (1, need, 0))
        world.until(T0 + 4 + second)
    assert limit - world.used(TOKENS) < need
