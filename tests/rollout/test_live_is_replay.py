"""The judge of a live rollout and the replay of its export are one.

The same verdict at the same unit, and the same evidence at every point of the way to it, to the
last bit; through files, and with a control that is started again at any moment.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from fairlead.cli.exporting import write_export
from fairlead.cli.replay import read_recording
from fairlead.domain.judging import JUDGED, UNJUDGED
from fairlead.domain.outcomes import GIVEN_UP
from fairlead.domain.strata import Strata
from fairlead.domain.verdicts import RolloutOutcome, RolloutVerdict
from fairlead.rollout import replay as replaying
from fairlead.rollout import replayed_suites
from fairlead.rollout.assessment import assess
from fairlead.rollout.declared import DeclaredMetric
from fairlead.rollout.evidence import evidence
from fairlead.rollout.export import Recorded, recorded, with_suites
from fairlead.rollout.judge import Gathering, Instruments, Judge, metrics_of, new_judge, observe
from fairlead.rollout.model import new_rollout
from fairlead.rollout.observation import Observation
from fairlead.rollout.plan import FeedbackRule, Plan, Step
from fairlead.rollout.replay import ReplayResult, replay
from fairlead.rollout.states import State
from fairlead.rollout.suite_standing import stopped_by_suites
from fairlead.rollout.suites import (
    SuiteMetric,
    SuiteReading,
    SuiteState,
    take_in_suites,
)
from fairlead.rollout.suites import (
    tests_of as bets_of,
)
from fairlead.rollout.units import ArmCounts

METRICS = (
    DeclaredMetric("ttft", "ttft_ms", margin=0.25, tolerance=0.1),
    DeclaredMetric("spent", "cost", margin=0.5, weight=0.1),
    DeclaredMetric("short", "completion_tokens", margin=0.5, worse="lower", promotes=False),
    DeclaredMetric("refused", "refusal", margin=0.05, budget=0.3),
    DeclaredMetric("broken", "format", margin=0.05, weight=1 / 3),
    DeclaredMetric("solved", "feedback", margin=0.1, feedback=FeedbackRule("good")),
    DeclaredMetric("graded", "feedback", 0.1, feedback=FeedbackRule(JUDGED, 4.0, sampled=True)),
)
FEEDBACK = (
    None,
    FeedbackRule("good"),
    FeedbackRule("good", required=True),
    FeedbackRule(JUDGED, 4.0, sampled=True),
    FeedbackRule(JUDGED, 4.0, required=True, sampled=True),
)
STRATA = (None, Strata("size"), Strata("tools"), Strata("header", ('h"ard', "easy: yes")))
SUITES = (
    SuiteMetric("answers", "quality", margin=0.1, tolerance=0.02),
    SuiteMetric("format", "format", margin=0.2, promotes=False),
)
UNSURE = (RolloutOutcome.INCONCLUSIVE, RolloutOutcome.INVALID)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """What a rollout may be judged by."""
    declared = draw(st.lists(st.sampled_from(METRICS), max_size=3, unique_by=lambda m: m.name))
    return Plan(
        steps=(Step(0.5, 1),),
        settle_s=2.0,
        feedback=draw(st.sampled_from(FEEDBACK)),
        tolerance=draw(st.sampled_from((0.0, 0.02))),
        margin=draw(st.sampled_from((0.1, 0.3))),
        alpha=draw(st.sampled_from((1e-5, 0.01, 0.3))),
        beta=draw(st.sampled_from((0.05, 0.3))),
        expected_failure_rate=draw(st.sampled_from((0.0, 1e-5, 0.05))),
        expected_units=draw(st.sampled_from((7.0, 100.0))),
        metrics=tuple(declared),
        warm_up_s=draw(st.sampled_from((0.0, 3.0))),
        strata=draw(st.sampled_from(STRATA)),
        suites=draw(st.sampled_from(((), SUITES))),
    )


@st.composite
def worlds(draw: st.DrawFn) -> list[Observation]:
    """Requests of users who come back, over three shares, in the order in which they began."""
    return requests(
        draw(st.sampled_from((60, 250, 450))),
        seed=draw(st.integers(0, 10**6)),
        worse=draw(st.sampled_from((1.0, 4.0, 12.0))),
        speaks=draw(st.sampled_from((0.0, 0.3, 0.9))),
        lost=draw(st.sampled_from((0.0, 0.1, 0.7))),
        unfair=draw(st.sampled_from((1.0, 1.0, 1.0, 1.6))),
    )


def requests(
    units: int, *, seed: int, worse: float, speaks: float, lost: float, unfair: float
) -> list[Observation]:
    """Some strata are rare, some never come, some are not known; values get lost; some come late.

    Args:
        worse: How much worse the canary is, in all.
        speaks: Probability of feedback.
        lost: Probability that a value is not recorded.
        unfair: By how much more the canary gets than is logged.
    """
    dice = random.Random(seed)
    arms: dict[tuple[str, int], bool] = {}
    made: list[Observation] = []
    at = 0.0
    for number in range(units):
        phase = 1 + 3 * number // units
        rho = (0.1, 0.4, 0.7)[phase - 1]
        at += 0.0 if dice.random() < 0.03 else dice.uniform(0.05, 0.3)
        unit = f"u{dice.randrange(number)}" if dice.random() < 0.1 and number else f"u{number}"
        canary = arms.setdefault((unit, phase), dice.random() < rho * unfair)
        stratum = dice.choices((0, 1, 2, 4, -1, 99), (40, 30, 20, 0.5, 5, 2))[0]
        bad = min(0.9, 0.03 * (1 + stratum % 5) * (worse if canary else 1.0))
        for _ in range(dice.choice((1, 1, 1, 3))):
            began = at if not made or made[-1].unit != unit else at + dice.uniform(0, 3)
            said = [("good", float(dice.random() >= bad), began + dice.uniform(0, 4))]
            if dice.random() >= speaks:
                said = []
            if hash((seed, number % 3)) % 2:
                score = 1.0 if dice.random() < bad else 5.0
                is_judged = dice.random() < 0.8
                verdict = (JUDGED, score) if is_judged else (UNJUDGED, 0.0)
                said.append((*verdict, began))
            made.append(
                Observation(
                    id=f"r{len(made):05}",
                    unit=unit,
                    canary=canary,
                    rho=rho,
                    phase=phase,
                    failed_by_error=dice.random() < bad / 2,
                    started_at=began,
                    feedback=tuple(said),
                    status=GIVEN_UP if dice.random() < 0.02 else 200,
                    ttft_ms=_or_lost(dice, lost, dice.lognormvariate(5, 0.5) * (1 + canary * bad)),
                    duration_ms=dice.lognormvariate(6, 0.5),
                    completion_tokens=int(_or_lost(dice, lost, dice.randrange(300))),
                    cost_usd=_or_lost(dice, lost, dice.choice((0.0, 1e-7, 0.3))),
                    refused=int(_or_lost(dice, lost, dice.random() < bad)),
                    malformed=int(_or_lost(dice, lost, dice.random() < bad)),
                    stratum=stratum,
                )
            )
    return sorted(made, key=lambda request: (request.started_at, request.id))


def _or_lost(dice: random.Random, lost: float, value: float) -> float:
    return -1.0 if dice.random() < lost else float(value)


class Live:
    """A live rollout's judge, which is started again from what was stored before each look."""

    def __init__(self, plan: Plan, world: Sequence[Observation]) -> None:
        self.judge = new_judge(plan)
        self._plan = plan
        self._world = world

    def look(self, watermark: float) -> RolloutVerdict:
        """Take in what is known for certain at this time: feedback of later is not."""
        known = [
            msgspec.structs.replace(r, feedback=tuple(f for f in r.feedback if f[2] < watermark))
            for r in self._world
            if r.started_at < watermark and (r.started_at, r.id) > self.judge.cursor
        ]
        judge = observe(self.judge, self._plan, known, watermark)
        self.judge = msgspec.json.decode(msgspec.json.encode(judge), type=Judge)
        return assess(self.judge, self._plan)

    @property
    def tests(self) -> Instruments:
        made = Instruments(self._plan)
        made.restore(self.judge)
        return made

    @property
    def evidence(self) -> tuple[float, float, float]:
        tests = self.tests
        logs = (tests.rollback.log_e, tests.promote.log_e, tests.guard.log_e_max)
        return tuple(map(evidence, logs))  # type: ignore[return-value]


def settling(plan: Plan, world: Sequence[Observation]) -> list[float]:
    """The first watermark at which each unit has settled, in their order."""
    gathering = Gathering(new_judge(plan), plan, math.inf)
    gathering.add(world)
    return [
        math.nextafter(unit.enrolled_at + plan.settle_s, math.inf) for unit in gathering.units()[0]
    ]


def replays(plan: Plan, world: Sequence[Observation], units: int) -> list[ReplayResult]:
    """Of the export of so many units: to its first verdict, and to the end with all its points."""
    pages = [world[at : at + 97] for at in range(0, len(world), 97)]
    with TemporaryDirectory() as folder:
        files = write_export("ro-1", recorded(plan, pages, units), Path(folder))
        declared, recording, _ = read_recording(*files)
    assert declared.judged_at == units
    judged = partial(replay, recording, alpha=declared.alpha, beta=declared.beta)
    first = judged()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(replaying, "PATH_EVERY", 1)
        return [first, judged(judged_at=units)]


def assert_same(verdict: RolloutVerdict, again: ReplayResult, live: Live) -> None:
    """What is said of a moment, and every number beside it."""
    if verdict.outcome is RolloutOutcome.WAIT:
        assert again.verdict in UNSURE
        assert again.missing
    else:
        assert again.verdict is verdict.outcome, (again.reason, verdict.reason)
        assert not again.missing
    last, numbers, tests = again.path[-1], verdict.numbers, live.tests
    assert last.units == again.at == live.judge.units
    assert (last.e_rollback, last.e_promote, last.e_sample_ratio) == live.evidence
    assert last.e_promote == numbers["e_promote"]
    assert again.canary_units == numbers["canary"]["units"]
    for metric, part in zip(again.metrics, tests.rollback.parts, strict=True):
        assert metric.e_rollback == evidence(part.log_e)
        assert metric.e_promote == numbers["by_outcome"][metric.name]["e_promote"]


@settings(max_examples=60, deadline=None)
@given(plans(), worlds(), st.lists(st.integers(1, 450), max_size=6))
def test_a_replay_is_the_live_judge_to_the_last_bit(
    plan: Plan, world: list[Observation], cuts: list[int]
) -> None:
    """Control looks, and is killed, at some moments: among these each fiftieth unit, and those just
    before and at the verdict."""
    settles = settling(plan, world)
    first, whole = replays(plan, world, len(settles))
    counts = {first.at - 1, first.at, *range(50, len(settles), 50), *cuts, len(settles)}
    event(f"{first.verdict}")
    live, seen = Live(plan, world), {}
    for count in sorted(counts & set(range(1, len(settles) + 1))):
        verdict = live.look(settles[count - 1])
        at = live.judge.units  # later ones may have been enrolled at the same moment
        assert at >= count
        seen[at] = live.evidence
        if at < first.at:
            assert verdict.outcome is RolloutOutcome.WAIT
        elif at == first.at:
            assert_same(verdict, first, live)
    assert_same(verdict, whole, live)
    points = {p.units: (p.e_rollback, p.e_promote, p.e_sample_ratio) for p in whole.path}
    assert seen == {count: points[count] for count in seen}
    early = {p.units: (p.e_rollback, p.e_promote, p.e_sample_ratio) for p in first.path}
    assert early == {count: points[count] for count in early}


@pytest.mark.parametrize("strata", STRATA[:2])
@pytest.mark.parametrize(
    ("worse", "unfair", "margin", "outcome"),
    [
        (8.0, 1.0, 0.3, RolloutOutcome.ROLL_BACK),
        (1.0, 1.0, 0.3, RolloutOutcome.PROMOTE),
        (1.0, 3.0, 0.005, RolloutOutcome.INVALID),
    ],
)
def test_each_verdict_falls_at_the_same_unit(
    strata: Strata | None, worse: float, unfair: float, margin: float, outcome: RolloutOutcome
) -> None:
    """With a look after each unit, and control killed after each."""
    plan = Plan(steps=(Step(0.5, 1),), settle_s=2.0, margin=margin, strata=strata)
    world = requests(300, seed=3, worse=worse, speaks=0.5, lost=0.1, unfair=unfair)
    settles = settling(plan, world)
    first, _ = replays(plan, world, len(settles))
    assert first.verdict is outcome
    live = Live(plan, world)
    for moment in settles:
        verdict = live.look(moment)
        if verdict.outcome is not RolloutOutcome.WAIT:
            break
    assert_same(verdict, first, live)


ANSWERS = st.tuples(*[st.sampled_from((0.0, 0.0, 1.0, 0.25, 1 / 3))] * 2)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(ANSWERS, max_size=30)), max_size=8), plans())
def test_a_replay_of_suites_is_what_stops_a_rollout_live(
    runs: list[tuple[bool, list[tuple[float, float]]]], plan: Plan
) -> None:
    """Run by run, of two suites, from what was stored after each."""
    plan = msgspec.structs.replace(plan, suites=SUITES)
    rollout = new_rollout(
        id="ro-1", service="bank", release="sha256:b", name="b", champion="sha256:a", plan=plan,
        gates=0, now=0.0,
    )  # fmt: skip
    rollout = msgspec.structs.replace(rollout, state=State.JUDGING, phase=1)
    states: dict[str, SuiteState] = {}
    path: dict[tuple[str, int], tuple[float, float]] = {}
    stopped = False
    for at, (is_other, pairs) in enumerate(runs):
        metric = SUITES[is_other]
        after = states[metric.name].pairs if metric.name in states else 0
        run = SuiteReading(metric.name, after, 1, tuple(pairs), 500, float(at), at + 0.5)
        states = take_in_suites(states, (run,), SUITES)
        states = msgspec.json.decode(msgspec.json.encode(states), type=dict[str, SuiteState])
        state = states[metric.name]
        worse, not_worse = bets_of(metric)
        worse.restore(state.worse)
        not_worse.restore(state.not_worse)
        path[metric.name, state.pairs] = evidence(worse.log_e), evidence(not_worse.log_e)
        now = msgspec.structs.replace(rollout, suites=states)
        stopped = stopped or stopped_by_suites(now) is not None
    found = Recorded(metrics_of(plan), plan.judge_alpha, plan.beta, 0, [])
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(replayed_suites, "PATH_EVERY", 1)
        files = write_export("ro-1", with_suites(found, SUITES, states), Path(folder))
        declared, recording, suites = read_recording(*files)
        again = replay(recording, alpha=declared.alpha, beta=declared.beta, suites=suites)
    assert any(suite.at is not None for suite in again.suites) is stopped
    assert (again.verdict is RolloutOutcome.ROLL_BACK) is stopped
    points = {
        (suite.name, p.pairs): (p.e_rollback, p.e_promote)
        for suite in again.suites
        for p in suite.path
    }
    assert {k: v for k, v in path.items() if k[1]} == {k: points[k] for k in path if k[1]}


def test_live_too_waits_for_a_judged_answer_of_each_side() -> None:
    """Though feedback is not required: units outside the sample say nothing of what was judged."""
    plan = Plan(
        steps=(Step(0.5, 1),), settle_s=2.0, margin=0.3, beta=0.3,
        feedback=FeedbackRule("judge", good_at_least=4.0, sampled=True),
    )  # fmt: skip
    world = [
        msgspec.structs.replace(one, feedback=() if one.canary and number < 250 else one.feedback)
        for number, one in enumerate(
            requests(300, seed=3, worse=1.0, speaks=0.0, lost=0.0, unfair=1.0)
        )
    ]
    settles = settling(plan, world)
    first, _ = replays(plan, world, len(settles))
    assert first.verdict is RolloutOutcome.PROMOTE
    live, waited = Live(plan, world), 0
    for moment in settles:
        verdict = live.look(moment)
        if verdict.outcome is not RolloutOutcome.WAIT:
            break
        if not live.judge.canary.in_sample:
            waited += "no sampled answer of one side has been judged yet" in verdict.reason
    assert waited
    assert_same(verdict, first, live)


def test_counts_of_an_older_build_wait_for_a_judged_answer_as_well() -> None:
    """They know of the sample where feedback is required, and how many requests it has."""
    older = msgspec.json.encode(ArmCounts(units=50, unsampled=50, outside=50))
    counts = msgspec.json.decode(older.replace(b'"outside":50', b'"older":0'), type=ArmCounts)
    assert (counts.outside, counts.in_sample, counts.sampled_requests) == (0, 0, 0)
