"""Whole rollouts in simulated time: a world, a gateway, a store, and a control that keeps crashing.

Users come with requests; two gateway workers, which take over a new split at different times, send
them by hash; facts reach the store late and out of order; control ticks at random times, and now
and then dies: before it has stored a decision (which is then lost), or after (it starts again from
the stored JSON). Every invariant is checked after every step.
"""

import hashlib
import random

import msgspec
import pytest

from fairlead.domain.strata import Strata
from fairlead.domain.verdicts import GateOutcome, GateVerdict
from fairlead.rollout import units as units_module
from fairlead.rollout.invariants import validate
from fairlead.rollout.judge import Observation, new_judge, observe
from fairlead.rollout.machine import (
    Desired,
    Facts,
    Rollout,
    advance,
    desired,
    is_terminal,
    new_rollout,
    outcome,
)
from fairlead.rollout.plan import FeedbackRule, Plan, Step
from fairlead.rollout.states import State

PLAN = Plan(
    steps=(Step(0.2, 20, 5.0), Step(0.5, 40, 5.0)),
    settle_s=2.0,
    feedback=FeedbackRule("correct", required=True),
    margin=0.1,
    deadline_s=300.0,
    expected_failure_rate=0.1,
    champion_replicas=2,
)
LAG_S = 1.5
"""Facts are known to the store after this long at most."""


class Worker:
    """A gateway worker: runs on the split that it last saw."""

    def __init__(self) -> None:
        self.want = Desired(champion="a")

    def arm(self, unit: str) -> tuple[bool, float, int]:
        hashed = hashlib.blake2b(f"{self.want.salt}{unit}".encode(), digest_size=8).digest()
        share = self.want.share if self.want.canary else 0.0
        return int.from_bytes(hashed, "big") / 2**64 < share, share, self.want.phase


class World:
    """Traffic with its outcomes, and a store that learns of them late."""

    def __init__(self, seed: int, champion_fails: float, canary_fails: float, rate: float) -> None:
        self.source = random.Random(seed)
        self.fails = {False: champion_fails, True: canary_fails}
        self.rate = rate
        self.workers = [Worker(), Worker()]
        self.requests: list[tuple[float, Observation]] = []
        self.served_by_canary = 0
        self.now = 0.0
        self._count = 0

    def run_until(self, now: float) -> None:
        while self.rate and self.now < now:
            self.now += self.source.expovariate(self.rate)
            unit = f"user{self.source.randrange(100_000)}"
            for _ in range(self.source.choice((1, 1, 2))):
                self._request(unit, self.now + self.source.random() / 10)
        self.now = max(self.now, now)

    def _request(self, unit: str, at: float) -> None:
        canary, rho, phase = self.source.choice(self.workers).arm(unit)
        self._count += 1
        self.served_by_canary += canary
        good = self.source.random() >= self.fails[canary]
        said = ()
        if self.source.random() < 0.9:
            said = (("correct", float(good), at + self.source.random()),)
        made = Observation(
            f"r{self._count:07}", unit, canary, rho, phase, False, at, said,
            stratum=self._count % 3,
        )  # fmt: skip
        self.requests.append((at + LAG_S * self.source.random(), made))

    def known(self, after: tuple[float, str]) -> tuple[tuple[Observation, ...], float]:
        """What the store gives after a cursor, and the moment up to which it is complete."""
        watermark = self.now - LAG_S - 0.1
        told = [
            msgspec.structs.replace(r, feedback=tuple(f for f in r.feedback if f[2] < self.now))
            for arrived, r in self.requests
            if arrived <= self.now and (r.started_at, r.id) > after
        ]
        self.source.shuffle(told)
        return tuple(told), watermark


class Run:
    """One rollout in a world, with a control that crashes with some probability at each turn."""

    def __init__(self, world: World, crash: float, plan: Plan = PLAN, seed: int = 0) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.crash = crash
        self.rollout = new_rollout(
            id="ro-7", service="bank", release="b", name="b", champion="a", plan=plan, gates=1,
            now=0.0,
        )  # fmt: skip
        self.ready = 0
        self.last_watermark = 0.0
        self.shares: list[float] = []

    def to_the_end(self) -> Rollout:
        now = 0.0
        while not is_terminal(self.rollout):
            now += self.chance.uniform(0.3, 2.0)
            assert now < 2_000, "the rollout does not end"
            self.world.run_until(now)
            self._turn(now)
        return self.rollout

    def _turn(self, now: float) -> None:
        want = desired(self.rollout)
        self.ready += (want.candidate_replicas > self.ready) - (
            want.candidate_replicas < self.ready
        )
        for worker in self.world.workers:
            if self.chance.random() < 0.7:
                worker.want = want
        phases = {worker.want.phase for worker in self.world.workers}
        observations, watermark = self.world.known(self.rollout.judge.cursor)
        verdict = GateVerdict("accuracy", GateOutcome.PASS, "fine")
        facts = Facts(
            now=now,
            gate_verdicts=(verdict,) if now > 3 else None,
            candidate_ready=self.ready,
            workers_phase=phases.pop() if len(phases) == 1 else None,
            judge=observe(self.rollout.judge, self.rollout.plan, observations, watermark),
            observed_until=watermark,
        )
        after = advance(self.rollout, facts)
        if self.chance.random() < self.crash:
            return
        validate(after)
        if after.judge is not self.rollout.judge:
            self.last_watermark = watermark
        if self.chance.random() < self.crash:
            after = msgspec.json.decode(msgspec.json.encode(after), type=Rollout)
        self.rollout = after
        self.shares.append(desired(after).share)


@pytest.mark.parametrize(
    ("champion_fails", "canary_fails", "expected"),
    [(0.3, 0.1, "promoted"), (0.1, 0.1, "promoted"), (0.05, 0.45, "rolled_back")],
    ids=["better", "equal", "worse"],
)
@pytest.mark.parametrize("crash", [0.0, 0.3, 0.6])
def test_ends_in_the_right_verdict_however_often_control_crashes(
    champion_fails: float, canary_fails: float, expected: str, crash: float
) -> None:
    """The outcome is right, and what the judge knows is what one look at all facts would tell."""
    world = World(5, champion_fails, canary_fails, rate=20.0)
    run = Run(world, crash, seed=int(10 * crash))
    rollout = run.to_the_end()
    assert outcome(rollout) == expected, rollout.reason
    facts = [request for _, request in world.requests]
    assert rollout.judge == observe(new_judge(PLAN), PLAN, facts, run.last_watermark)
    assert rollout.verdict is not None
    assert set(run.shares) <= {0.0, 0.2, 0.5}
    before = world.served_by_canary
    world.run_until(world.now + 20)
    for worker in world.workers:
        worker.want = desired(rollout)
    assert desired(rollout).canary is None
    settled = world.served_by_canary
    world.run_until(world.now + 20)
    assert world.served_by_canary == settled >= before


@pytest.mark.parametrize(("canary_fails", "expected"), [(0.1, "promoted"), (0.45, "rolled_back")])
def test_strata_of_risk_come_to_the_same_verdict_however_often_control_crashes(
    canary_fails: float, expected: str
) -> None:
    """A unit's later requests, and its other stratum in another phase, change nothing of that."""
    plan = msgspec.structs.replace(PLAN, strata=Strata("size"))
    world = World(5, 0.1, canary_fails, rate=20.0)
    run = Run(world, 0.6, plan, seed=6)
    rollout = run.to_the_end()
    assert outcome(rollout) == expected, rollout.reason
    facts = [request for _, request in world.requests]
    assert rollout.judge == observe(new_judge(plan), plan, facts, run.last_watermark)
    assert len(rollout.judge.strata) == 3


def test_a_full_phase_gives_way_to_a_new_one_and_the_judge_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told, the split stays, everybody is assigned anew, and the verdict comes."""
    monkeypatch.setattr(units_module, "UNITS_PER_PHASE_MAX", 70)
    world = World(5, 0.1, 0.1, rate=20.0)
    plan = msgspec.structs.replace(PLAN, margin=0.06, steps=(Step(0.5, 50),), warm_s=30.0,
                                   holdback=0.3)  # fmt: skip
    run = Run(world, 0.3, plan)
    rollout = run.to_the_end()
    assert outcome(rollout) == "promoted", rollout.reason
    assert rollout.judge.units > 300
    renewed = [t for t in rollout.history if "70 units were judged in phase" in t.why]
    assert {t.to for t in renewed} >= {State.JUDGING, State.WATCHING}
    assert all(t.to is t.origin for t in renewed)
    assert len({p.phase for p in rollout.judge.phases}) > len(renewed)
    assert {0.5, 0.7} <= set(run.shares) <= {0.0, 0.5, 0.7}
    by_phase: dict[str, set[bool]] = {}
    for _, request in world.requests:
        if 0.0 < request.rho < 1.0:
            by_phase.setdefault(f"{request.unit} {request.phase}", set()).add(request.canary)
    assert all(len(arms) == 1 for arms in by_phase.values()), "sticky within a phase"


def test_a_worse_canary_is_caught_before_half_the_users_see_it() -> None:
    """Clearly worse: rolled back in the first step, after some dozen canary requests."""
    world = World(1, 0.05, 0.6, rate=20.0)
    run = Run(world, 0.2, seed=3)
    rollout = run.to_the_end()
    assert outcome(rollout) == "rolled_back"
    assert max(run.shares) == 0.2
    assert rollout.judge.canary.units < 60


def test_no_traffic_never_promotes() -> None:
    """Without a single request the deadline ends it, and says what was missing."""
    rollout = Run(World(1, 0.1, 0.1, rate=0.0), 0.2).to_the_end()
    assert outcome(rollout) == "rolled_back"
    assert rollout.reason.startswith("inconclusive: ")
    assert "no traffic" in rollout.reason


def test_silent_clients_never_promote_where_feedback_is_required() -> None:
    """Good answers that nobody vouches for are not enough when the plan asks for feedback."""
    plan = msgspec.structs.replace(
        PLAN, feedback=FeedbackRule("approved", required=True), deadline_s=120.0
    )
    rollout = Run(World(2, 0.1, 0.0, rate=15.0), 0.2, plan).to_the_end()
    assert outcome(rollout) == "rolled_back"
    assert "no feedback 'approved'" in rollout.reason


def test_equal_canaries_are_rarely_rolled_back() -> None:
    """Eight rollouts of a release that is the champion's equal, none of them found worse."""
    reasons = []
    for seed in range(8):
        rollout = Run(World(100 + seed, 0.15, 0.15, rate=15.0), 0.1, seed=seed).to_the_end()
        if outcome(rollout) != "promoted" and not rollout.reason.startswith("inconclusive"):
            reasons.append(rollout.reason)
    assert reasons == []
