"""Kill any process at any moment: verdict, evidence and history are those without the kill.

Control is killed before or after any of its calls of the store, the observer before or after it
has taken records in, a gateway worker between two seconds. Whoever is killed is started again at
once, on what is stored; the world does not stop meanwhile. The rest of the run, and above all its
end, has to be the same to the last bit.

A run has many kills. `FAIRLEAD_KILL_POINTS` says how many there are in all.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control.judged_world import CAPTURE, JUDGED_PLAN, samples_of
from control.simulated_world import DIRECT, PLAN, World
from fairlead.control.judging import judging as judging_module
from fairlead.control.judging.asking import Reply
from fairlead.control.judging.judging import Judging
from fairlead.control.judging.queue import JudgeQueue
from fairlead.control.outside import looks as looks_module
from fairlead.control.outside.looks import Looks
from fairlead.control.outside.prometheus import Series
from fairlead.control.shipping import facts as facts_module
from fairlead.control.shipping.stored import read_rollout
from fairlead.domain.release import RemoteModel
from fairlead.evaluation.judge_model import Exchange, JudgeModel, Verdict
from fairlead.registry import Registry
from fairlead.rollout.declared import DeclaredMetric
from fairlead.rollout.machine import Rollout
from fairlead.rollout.plan import Plan, Ramp, ShadowRule, Step
from fairlead.rollout.prometheus import Count, Guard, Prometheus
from fairlead.rollout.ramp import grid
from fairlead.store import open_store
from fairlead.store.interface import Store
from fairlead.store.rows import FeedbackRow, RequestRow, SpoolCursor

POINTS = int(os.environ.get("FAIRLEAD_KILL_POINTS", "1000"))
KILLS_PER_RUN = 20
TURNS_MAX = 400
TICKS_MAX = 30
METRICS = (
    DeclaredMetric("latency", "duration_ms", margin=1.0, tolerance=0.2),
    DeclaredMetric("cost", "cost", margin=1.0),
    DeclaredMetric("refusal", "refusal", margin=0.2, budget=0.5),
)
SLOWER = "slower only"
JUDGE = JudgeModel(provider=RemoteModel("http://judge", "grader"), concurrency=16)
SCENARIOS: dict[str, tuple[str, Plan, str]] = {
    "better": ("b", PLAN, "promoted"),
    "worse": ("c", PLAN, "rolled_back"),
    "worse by its copies": (
        "c",
        msgspec.structs.replace(PLAN, shadow=ShadowRule(0.5, requests=200, timeout_s=1.0)),
        "failed",
    ),
    "shadowed and watched": (
        "b",
        msgspec.structs.replace(
            PLAN,
            shadow=ShadowRule(0.5, requests=20, seconds=3.0, timeout_s=1.0),
            warm_s=10.0,
            holdback=0.2,
        ),
        "promoted",
    ),
    "a ramp": (
        "b",
        msgspec.structs.replace(PLAN, steps=grid(0.02, 0.5), ramp=Ramp(requests=18.0)),
        "promoted",
    ),
    "more violations": (
        "b",
        msgspec.structs.replace(
            PLAN,
            steps=(Step(0.3, 15, 2.0), Step(0.6, 15, 120.0)),
            prometheus=Prometheus(
                "http://prometheus",
                guards=(Guard("load", "load", at_most=1.0, every_s=2.0, failures=2),),
                counts=(Count("violations", "{{release}}", every_s=2.0, lag_s=1.0),),
            ),
        ),
        "rolled_back",
    ),
    "not worse by any metric": (
        "b",
        msgspec.structs.replace(PLAN, metrics=METRICS, warm_up_s=2.0),
        "promoted",
    ),
    "a judge model promotes": ("b", JUDGED_PLAN, "promoted"),
    "a judge model rolls back": ("c", JUDGED_PLAN, "rolled_back"),
    SLOWER: (
        "b",
        msgspec.structs.replace(PLAN, metrics=METRICS, warm_up_s=2.0),
        "rolled_back",
    ),
}


class Killed(Exception):
    """A process is no more."""


class MortalStore:
    """A store whose caller is killed before or after some of its calls.

    Attributes:
        calls: How many there were so far.
        kills: Numbers of the calls at which the caller is killed; True for after the call.
        killed: How many were.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls = 0
        self.kills: dict[int, bool] = {}
        self.killed = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            after = self.kills.pop(self.calls, None)
            if after is False:
                self._kill(name)
            result = method(*arguments, **named)
            if after:
                self._kill(name)
            return result

        return call

    def _kill(self, name: str) -> None:
        self.killed += 1
        raise Killed(name)


class MortalWorld(World):
    """Each second control turns until nothing changes any more, however often it is killed."""

    def __init__(self, store: Store, registry: Registry, digests: dict[str, str]) -> None:
        super().__init__(store, registry, digests)
        self.mortal = self.control_s_store = MortalStore(store)  # type: ignore[assignment]
        self.worker_kills: set[int] = set()
        self.turns = 0
        self.judged = False
        self.url = ""
        self.counters: dict[str, list[tuple[float, float]]] = {}

    def ingest(
        self, records: list[RequestRow], feedback: list[FeedbackRow], cursor: SpoolCursor
    ) -> None:
        """The observer reads its spool from where the store says, after a kill as before."""
        captured = samples_of(self, records, feedback)
        if captured:
            feedback = []  # A model says it, and nobody else does.
        for _ in range(KILLS_PER_RUN):
            try:
                self.mortal.ingest("the-workers", records, feedback, cursor, (), captured)
            except Killed:
                continue
            return

    def _traffic(self) -> None:
        """Each release has a counter that begins anew from time to time."""
        super()._traffic()
        for name, digest in self.digests.items():
            bad = self.served.get(name, 0) // (2 if name == "b" else 10) % 40
            self.counters.setdefault(digest, []).append((self.now, float(bad)))

    async def second(self) -> None:
        """Time goes on by a second."""
        self.now += 1.0
        self.turns += 1
        self.target.step()
        if self.turns in self.worker_kills:
            self._kill_worker(self.workers[self.turns % 2])
        self._traffic()
        before = None
        for _ in range(TICKS_MAX):
            await self.acknowledge()
            killed = self.mortal.killed
            await self.alive(self.plane.tick)
            self.judged = True
            await self.alive(self._judge)
            after = [(row.id, row.version) for row in self.rollouts()], len(self.published)
            if after == before and self.mortal.killed == killed and not self.judged:
                break
            before = after
        self.check()

    async def _judge(self) -> None:
        """A turn of the judge models, which control makes by itself otherwise."""
        self.judged = await self.plane.judging.turn()

    async def alive(self, step: Callable[[], Any]) -> None:
        """Take a step of control; if control is killed in it, another one is started."""
        try:
            await step()
        except Killed:
            await self._started_again()

    async def _started_again(self) -> None:
        for _ in range(KILLS_PER_RUN + 1):
            self._bury()
            try:
                await self.start()
            except Killed:
                continue
            await self.acknowledge()
            return

    def _bury(self) -> None:
        """The tasks of a killed control end with it."""
        if self.plane._task is not None:
            self.plane._task.cancel()

    def _kill_worker(self, worker: Any) -> None:
        """Another process in its place runs on the snapshot that is on the disk."""
        self.dead_pids.add(worker.pid)
        worker.pid += 1_000
        worker.boot += "'"

    async def ship_alive(self, release: str, plan: Plan, rollout: str) -> None:
        """Ship a release; who ships it asks again when control was killed."""
        more = {"capture": CAPTURE, "judge": JUDGE} if plan.awaits_judge else {}
        while self.store.rollout(rollout) is None:
            await self.alive(lambda: self.ship(release, plan=plan, **more))


class SimulatedAsker:
    """A judge model that grades by the rule, at once."""

    def __init__(self, judge: JudgeModel, _seat: object) -> None:
        self.judge = judge

    def most_usd(self, _exchange: Exchange) -> float:
        return 0.0

    async def __call__(self, exchange: Exchange) -> Reply:
        return Reply(Verdict(5.0 if exchange.answer == "right" else 1.0, "by the rule"))


async def _not_by_itself(_judging: Judging, _queue: JudgeQueue) -> None:
    """The world says when judge models are asked: a kill has to have the same place each time."""


class SimulatedPrometheus:
    """What a Prometheus would say in this world."""

    def __init__(self, world: MortalWorld) -> None:
        self._world = world

    async def instant(self, _query: str, at: float) -> list[float]:
        return [2.0 if at % 7 == 0 else 0.5]

    async def samples(self, selector: str, at: float, seconds: int) -> list[Series]:
        known = self._world.counters[selector]
        return [Series({}, tuple(one for one in known if at - seconds <= one[0] <= at))]


Make = Callable[[str], MortalWorld]


@pytest.fixture
def make(
    tmp_path: Path,
    built: tuple[Path, dict[str, str]],
    empty_database: Path,
) -> Make:
    """Makes a world with a store of its own."""

    def made(name: str) -> MortalWorld:
        path = tmp_path / f"{name}.db"
        shutil.copy(empty_database, path)
        world = MortalWorld(open_store(f"sqlite:///{path}"), Registry(built[0]), built[1])
        world.url = f"sqlite:///{path}"
        return world

    return made


async def run(
    world: MortalWorld, scenario: str, kills: dict[int, bool], worker_kills: set[int]
) -> Rollout:
    """The rollout at its end."""
    release, plan, expected_state = SCENARIOS[scenario]

    def reader(_asked: Prometheus) -> Any:
        return SimulatedPrometheus(world)

    names = iter(["ro-first"] + ["ro-second"] * 1_000)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(looks_module, "GRACE_S", 30.0)
        patched.setattr(judging_module, "Asker", SimulatedAsker)
        patched.setattr(Judging, "_run", _not_by_itself)
        patched.setattr(facts_module, "Looks", partial(Looks, reader=reader))
        current = next(names)
        world.new_id = lambda _prefix: current
        await world.start()
        world.mortal.calls = 0
        world.mortal.kills, world.worker_kills = dict(kills), worker_kills
        await world.ship_alive("a", DIRECT, current)
        while world.row(current).state != "promoted":
            await world.second()
        current = next(names)
        world.users_per_turn = 15
        if scenario == SLOWER:
            world.slower[release] = 2.5
        await world.ship_alive(release, plan, current)
        while world.row(current).active:
            await world.second()
            assert world.turns < TURNS_MAX
    ended = read_rollout(world.row(current)).document.rollout
    served = world.store.count_served(world.digests[release], current)
    assert (served > 0) == (expected_state != "failed"), (
        "a release that failed its copies met users"
    )
    await world.stop()
    world.store.close()
    return ended


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_kill_at_any_moment_changes_neither_verdict_nor_evidence(
    make: Make, scenario: str
) -> None:
    """Nor anything else that is kept of the rollout: times, steps, phases, reasons."""
    plan = SCENARIOS[scenario][1]
    world = make("alive")
    expected = await run(world, scenario, {}, set())
    assert expected.state.value == SCENARIOS[scenario][2]
    if plan.awaits_judge:
        assert expected.judge.canary.unsampled > 0
        assert expected.judge.canary.feedback > 5, "the judge model has spoken"
    if plan.metrics:
        assert expected.verdict is not None
        assert ("latency" in expected.verdict.reason) == (scenario == SLOWER)
        assert len(expected.judge.figures) == 2 + len(METRICS), "each has been kept"
    if expected.plan.ramp is not None:
        assert expected.phase > 3, "it has changed its share more than once"
    calls, turns, events = world.mortal.calls, world.turns, _events(world)
    assert (expected.verdict is None) == (expected.state.value == "failed")
    if plan.shadow is not None:
        assert expected.shadowed.copies > 10
    killed = 0
    dice = random.Random(scenario)
    share = POINTS // len(SCENARIOS)
    while killed < share:
        world = make(f"mortal-{killed}")
        points = dice.sample(range(1, calls + 1), min(KILLS_PER_RUN - 2, calls))
        kills = {point: dice.random() < 0.5 for point in points}
        workers = set(dice.sample(range(1, turns), 2))
        ended = await run(world, scenario, kills, workers)
        assert world.mortal.killed > 10, "so many calls come again, or are made once more"
        killed += world.mortal.killed + len(workers)
        assert ended == expected, f"kills {kills}, workers {workers}"
        assert _events(world) == events


def _differences(one: Rollout, other: Rollout) -> list[str]:
    """Every field in which the two differ, with both values."""
    mine, theirs = msgspec.structs.asdict(one), msgspec.structs.asdict(other)
    return [f"{key}: {mine[key]} | {theirs[key]}" for key in mine if mine[key] != theirs[key]]


def _events(world: MortalWorld) -> list[tuple[float, str, str]]:
    """What people were told, each thing once."""
    store = open_store(world.url)
    try:
        return [(e.at, e.kind, e.message) for e in store.events(limit=10_000)]
    finally:
        store.close()
