"""Rollouts on a real Prometheus in real time: a count, a guard, and a Prometheus that goes away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control.simulated_world import PLAN, World
from fairlead.control.views import RolloutView
from fairlead.rollout.plan import Step
from fairlead.rollout.prometheus import Count, Guard, Prometheus
from support.prometheus import MISSING, PROGRAM, Exporter, RealPrometheus

WAIT_S = 240.0
PAUSE_S = 0.1
USERS = 20
CHAMPION_RATE = 0.1
STEADY = msgspec.structs.replace(
    PLAN, steps=(Step(0.3, 15, 1.0), Step(0.6, 100_000, 1.0)), settle_s=1.0
)
"""The last step does not end by itself: what is asked of Prometheus ends it."""

VIOLATIONS = Count("violations", 'violations_total{release="{{release}}"}', every_s=0.5, lag_s=1.0)
LOAD = Guard("load", 'max(load{release="{{canary}}"})', at_most=0.9, every_s=0.5, failures=2)


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    made = Exporter()
    yield made
    made.close()


@pytest.fixture
def real(tmp_path: Path, exporter: Exporter) -> Iterator[RealPrometheus]:
    if PROGRAM is None:
        pytest.skip(MISSING)
    made = RealPrometheus(tmp_path / "prometheus", exporter)
    yield made
    made.stop()


class Live:
    """A rollout in real time, whose replicas count violations."""

    def __init__(self, world: World, exporter: Exporter, rate_of_b: float) -> None:
        self.world = world
        self.exporter = exporter
        self.rates = {"a": CHAMPION_RATE, "b": rate_of_b}
        self._counted = {"a": 0, "b": 0}
        world.fails = {"a": 0.2, "b": 0.2}
        for name in self.rates:
            exporter.values[self._series(name)] = 0.0
        self.set_load(0.5)

    def set_load(self, value: float) -> None:
        """What the canary's load is."""
        self.exporter.values[f'load{{release="{self.world.digests["b"]}"}}'] = value

    async def ship(self, asked: Prometheus, **changes: Any) -> str:
        """Begin the rollout of b."""
        self.world.now = time.time()
        await self.world.first_champion()
        self.world.users_per_turn = USERS
        plan = msgspec.structs.replace(STEADY, prometheus=asked, **changes)
        return await self.world.ship("b", plan=plan)

    async def until(self, rollout: str, done: Callable[[RolloutView], bool]) -> RolloutView:
        """Let the world turn as fast as the clock until it is so."""
        world, end = self.world, time.monotonic() + WAIT_S
        while time.monotonic() < end:
            await world.turn(seconds=max(PAUSE_S, time.time() - world.now))
            if world.now > time.time():
                await asyncio.sleep(world.now - time.time())
            self._count()
            view = await world.plane.reports.rollout(rollout)
            if done(view):
                return view
        raise AssertionError(f"not within {WAIT_S:g} s: {view.state}, {view.missing}")

    def _count(self) -> None:
        for name, rate in self.rates.items():
            served = self.world.served.get(name, 0)
            bad = sum(self.world.dice.random() < rate for _ in range(served - self._counted[name]))
            self._counted[name] = served
            self.exporter.add(self._series(name), bad)

    def _series(self, name: str) -> str:
        return f'violations_total{{release="{self.world.digests[name]}"}}'


def asked(real: RealPrometheus, *queries: Guard | Count, **changes: Any) -> Prometheus:
    return Prometheus(
        real.url,
        guards=tuple(query for query in queries if isinstance(query, Guard)),
        counts=tuple(query for query in queries if isinstance(query, Count)),
        **changes,
    )


def has_ended(view: RolloutView) -> bool:
    return view.outcome != "running"


@pytest.mark.timeout(600)
async def test_a_canary_whose_counter_grows_faster_is_rolled_back_by_the_count_s_name(
    world: World, exporter: Exporter, real: RealPrometheus
) -> None:
    live = Live(world, exporter, rate_of_b=0.4)
    rollout = await live.ship(asked(real, VIOLATIONS))
    view = await live.until(rollout, has_ended)
    assert (view.outcome, view.ending) == ("rolled_back", "worse")
    assert view.reason.startswith("count violations: canary ")
    (line,) = view.queries
    assert line.value is not None
    assert line.value >= 200.0
    assert world.champion() == world.digests["a"]


@pytest.mark.timeout(600)
async def test_a_guard_that_is_crossed_rolls_back_and_what_is_within_does_not(
    world: World, exporter: Exporter, real: RealPrometheus
) -> None:
    live = Live(world, exporter, rate_of_b=CHAMPION_RATE)
    rollout = await live.ship(asked(real, VIOLATIONS, LOAD))
    view = await live.until(rollout, lambda v: v.step == 1 and v.state == "judging")
    assert [line.state for line in view.queries if line.kind == "guard"] == ["within"]
    live.set_load(1.5)
    view = await live.until(rollout, has_ended)
    assert (view.outcome, view.ending) == ("rolled_back", "guard_crossed")
    assert view.reason.startswith("guard load: 1.5 is not at most 0.9")
    assert "a guard is a threshold and no proof" in view.advice


@pytest.mark.timeout(600)
async def test_prometheus_that_goes_away_ends_it_in_a_name_and_tells_what_to_do(
    world: World, exporter: Exporter, real: RealPrometheus
) -> None:
    live = Live(world, exporter, rate_of_b=CHAMPION_RATE)
    rollout = await live.ship(asked(real, LOAD, unreachable_s=8.0, timeout_s=1.0))
    await live.until(rollout, lambda v: v.step == 1 and v.state == "judging")
    real.stop()
    view = await live.until(rollout, lambda v: has_ended(v) or v.queries[0].is_bad)
    assert not has_ended(view), "it is waited for first"
    assert view.queries[0].state.startswith("Prometheus does not answer: load: ")
    view = await live.until(rollout, has_ended)
    assert (view.outcome, view.ending) == ("rolled_back", "prometheus_unreachable")
    assert f"Prometheus at {real.url}" in view.reason
    assert "make Prometheus answer" in view.advice


@pytest.mark.timeout(600)
async def test_without_data_nothing_is_promoted(
    world: World, exporter: Exporter, real: RealPrometheus
) -> None:
    live = Live(world, exporter, rate_of_b=CHAMPION_RATE)
    nothing = msgspec.structs.replace(LOAD, query="nothing_of_that_name")
    rollout = await live.ship(asked(real, nothing), deadline_s=12.0)
    view = await live.until(rollout, has_ended)
    assert (view.outcome, view.ending, view.step) == ("rolled_back", "inconclusive", 0)
    assert "guard load: no data" in view.reason
