"""Strata of risk in a live rollout: as sure as without, sooner, exact, and checkable afterwards."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from fairlead.cli.exporting import metrics_file
from fairlead.cli.replay import recording_of
from fairlead.domain.errors import InvalidInput
from fairlead.domain.strata import Strata
from fairlead.domain.verdicts import RolloutOutcome
from fairlead.manifest.metrics import load_metrics
from fairlead.rollout.assessment import assess, numbers_of
from fairlead.rollout.declared import DeclaredMetric
from fairlead.rollout.export import Recorded, recorded
from fairlead.rollout.judge import Instruments, Judge, new_judge, observe
from fairlead.rollout.metrics import Metric, MetricTests, Reading
from fairlead.rollout.observation import Observation
from fairlead.rollout.plan import FeedbackRule, Plan, Step
from fairlead.rollout.recording import Recording, ReplayedObservation
from fairlead.rollout.replay import ReplayResult, replay
from fairlead.stats.intervals import clopper_pearson

SIZES = Strata("size")
RATES = (0.01, 0.08, 0.3)
MIX = (6, 3, 1)
PLAN = Plan(steps=(Step(0.5, 1),), settle_s=1.0, margin=0.1, strata=SIZES)
BLIND = msgspec.structs.replace(PLAN, strata=None)


def odds(rate: float, times: float) -> float:
    """The rate whose odds are so many times as high."""
    return times * rate / (1 - rate + times * rate)


def traffic(
    units: int,
    canary: Sequence[float],
    seed: int,
    champion: Sequence[float] = RATES,
    rho: float = 0.3,
) -> Iterator[Observation]:
    """Units of one request, whose stratum says how often they fail on each arm."""
    dice = random.Random(seed)
    for number in range(units):
        stratum = dice.choices((0, 1, 2), MIX)[0]
        arm = dice.random() < rho
        fails = dice.random() < (canary if arm else champion)[stratum]
        yield Observation(
            f"r{number:06}", f"u{number}", arm, rho, 1, fails, number / 10, stratum=stratum
        )


def judged(plan: Plan, world: Sequence[Observation]) -> Judge:
    return observe(new_judge(plan), plan, world, 1e9)


def test_a_canary_that_is_worse_for_easy_requests_goes_back_and_it_is_said_for_which() -> None:
    """It is as good on all others."""
    world = list(traffic(3_000, (0.12, 0.2, 0.3), 1, champion=(0.01, 0.2, 0.3)))
    judge = judged(PLAN, world)
    verdict = assess(judge, PLAN)
    assert verdict.outcome is RolloutOutcome.ROLL_BACK
    assert "it shows most in 'below 256 B': the canary failed 1" in verdict.reason
    assert "no worse than the champion in any stratum would" in verdict.reason
    shown = {one["name"]: one for one in verdict.numbers["by_stratum"]}
    assert list(shown) == ["below 256 B", "256 B to 1 KiB", "1 to 4 KiB"]
    assert shown["below 256 B"]["canary_rate"] > 0.05 > shown["below 256 B"]["champion_rate"]
    assert sum(one["canary_units"] for one in shown.values()) == judge.canary.units
    assert numbers_of(judged(BLIND, world), BLIND)["by_stratum"] == []


def test_a_canary_that_goes_back_for_its_latency_has_no_stratum_blamed_for_it() -> None:
    """Its failures are the champion's, and by chance more of them are in some stratum."""
    plan = msgspec.structs.replace(PLAN, metrics=(DeclaredMetric("slow", "duration_ms", 0.1),))
    world = [
        msgspec.structs.replace(r, duration_ms=(300.0 if r.canary else 100.0) * (1 + n % 20 / 20))
        for n, r in enumerate(traffic(3_000, RATES, 2))
    ]
    verdict = assess(judged(plan, world), plan)
    assert verdict.outcome is RolloutOutcome.ROLL_BACK
    assert verdict.reason.startswith("slow: canary slower")
    assert len(verdict.numbers["by_stratum"]) == 3
    assert "strat" not in verdict.reason
    assert "stratum" not in verdict.numbers["by_outcome"]["slow"]


def test_another_rate_names_the_stratum_of_its_own_evidence_and_no_failures_of_it() -> None:
    """Refusals, worse for the hardest requests alone: by failures another stratum would seem so."""
    plan = msgspec.structs.replace(PLAN, metrics=(DeclaredMetric("refused", "refusal", 0.1),))
    dice = random.Random(3)
    world = [
        msgspec.structs.replace(
            r, refused=int(dice.random() < (0.6 if r.canary and r.stratum == 2 else 0.05))
        )
        for r in traffic(3_000, RATES, 2)
    ]
    verdict = assess(judged(plan, world), plan)
    assert verdict.outcome is RolloutOutcome.ROLL_BACK
    assert verdict.reason.startswith("refused: canary ")
    assert verdict.reason.endswith("; it shows most in '1 to 4 KiB'")
    assert " in any stratum would" in verdict.reason


def test_fewer_canary_requests_are_needed_where_risk_varies_much() -> None:
    """Odds twice as high in each stratum, and nobody has said how they differ beforehand."""
    needed = {True: 0, False: 0}
    for seed in range(16):
        tests = {tells: MetricTests([Metric("failed")], 0.01, 0.05, 8 * tells) for tells in needed}
        waiting = list(tests)
        world = traffic(20_000, [odds(rate, 2.0) for rate in RATES], seed)
        for number, unit in enumerate(world):
            if number % 50 == 0:
                waiting = [k for k in waiting if tests[k].rollback.log_e_max < math.log(100)]
            if not waiting:
                break
            y = float(unit.failed_by_error)
            for tells in waiting:
                needed[tells] += unit.canary
                tests[tells].update(unit.canary, 0.3, [Reading(y, y)], unit.stratum)
    assert needed[True] < 0.95 * needed[False], needed


def test_an_equal_canary_goes_back_no_more_often() -> None:
    """The mix of strata drifts, the share ramps, and users of many requests fail as one."""
    wrong = 0
    for rollout in range(60):
        dice = random.Random(1_000 + rollout)
        tests = MetricTests([Metric("failed")], 0.05, 0.05, 4)
        for number in range(900):
            rho = (0.1, 0.3, 0.5)[number // 300]
            stratum = dice.choices((0, 1, 2), MIX if number < 450 else MIX[::-1])[0]
            # Some users fail always, others hardly ever: a unit's outcome is a share.
            rate = dice.choice((0.0, 2 * RATES[stratum]))
            y = sum(dice.random() < rate for _ in range(4)) / 4
            tests.update(dice.random() < rho, rho, [Reading(y, y)], stratum)
        wrong += tests.rollback.log_e_max >= math.log(20)
        assert tests.guard.log_e_max < math.log(1_000)
    assert clopper_pearson(wrong, 60, 0.98)[0] <= 0.05


def test_a_canary_that_is_worse_by_the_margin_is_promoted_no_more_often() -> None:
    """Promotion asks for all strata together, whatever the mix does."""
    wrong = 0
    for rollout in range(60):
        dice = random.Random(rollout)
        tests = MetricTests([Metric("failed", margin=0.08)], 0.05, 0.05, 4)
        promoted = False
        for number in range(1_000):
            stratum = dice.choices((0, 1, 2), MIX if number < 500 else MIX[::-1])[0]
            canary = dice.random() < 0.5
            y = float(dice.random() < RATES[stratum] + 0.08 * canary)
            tests.update(canary, 0.5, [Reading(y, y)], stratum)
            promoted = promoted or tests.promote.log_e >= math.log(20)
        wrong += promoted
    assert clopper_pearson(wrong, 60, 0.98)[0] <= 0.05


def test_any_batches_and_kills_give_the_same_state() -> None:
    """Through JSON after each look, whatever part of a unit's requests it ends in."""
    dice = random.Random(4)
    plan = msgspec.structs.replace(PLAN, feedback=FeedbackRule("good"))
    world = []
    for request in traffic(700, RATES, 5):
        world.append(request)
        if dice.random() < 0.3:
            more = {"id": request.id + "b", "started_at": request.started_at + 0.4, "stratum": 5}
            world.append(msgspec.structs.replace(request, **more))
    world.sort(key=lambda request: (request.started_at, request.id))
    whole = judged(plan, world)
    judge = new_judge(plan)
    for moment in [*sorted(dice.uniform(0, 71) for _ in range(25)), 1e9]:
        batch = [r for r in world if r.started_at < moment and (r.started_at, r.id) > judge.cursor]
        judge = observe(judge, plan, batch, moment)
        judge = msgspec.json.decode(msgspec.json.encode(judge), type=Judge)
    assert judge == whole
    assert len(judge.strata) == 3, "a unit is of the stratum of its first request"


def test_requests_of_an_older_gateway_are_of_a_stratum_of_their_own() -> None:
    """And a number that no stratum has is not trusted."""
    world = [
        msgspec.structs.replace(request, stratum=(-1, 99, request.stratum)[number % 3])
        for number, request in enumerate(traffic(300, RATES, 6))
    ]
    shown = numbers_of(judged(PLAN, world), PLAN)["by_stratum"]
    assert shown[-1]["name"] == "unknown"
    assert shown[-1]["canary_units"] + shown[-1]["champion_units"] == 200


def test_a_judge_without_strata_is_what_it_was() -> None:
    """What requests say of their stratum changes nothing where the plan tells none apart."""
    world = list(traffic(400, RATES, 7))
    untold = [msgspec.structs.replace(request, stratum=-1) for request in world]
    assert judged(BLIND, world) == judged(BLIND, untold)
    assert judged(BLIND, world).strata == ()


def test_strata_that_depend_on_the_release_are_no_basis_for_a_verdict(tmp_path: Path) -> None:
    """Such as tokens, of which a release's prompt makes more: the gateway cannot record that, but
    somebody else may."""
    dice = random.Random(8)
    world = [
        msgspec.structs.replace(r, stratum=dice.choices((0, 1), (1, 2) if r.canary else (2, 1))[0])
        for r in traffic(2_500, RATES, 8)
    ]
    verdict = assess(judged(PLAN, world), PLAN)
    assert verdict.outcome is RolloutOutcome.INVALID
    assert "in the stratum" in verdict.reason
    assert "must not depend on the release" in verdict.reason
    again = replayed(recorded(PLAN, [world], 2_500), tmp_path)
    assert again.verdict is RolloutOutcome.INVALID
    (named,) = re.findall("in the stratum '[^']+': what tells", verdict.reason)
    assert named in again.reason


def replayed(found: Recorded, folder: Path) -> ReplayResult:
    """The verdict of an export that was written and read again."""
    file = folder / "metrics.yaml"
    file.write_bytes(metrics_file(found))
    declared = load_metrics(file)
    assert declared.strata == SIZES.names
    recording = recording_of(declared)
    for line in found.observations:
        recording.add(msgspec.json.decode(msgspec.json.encode(line), type=ReplayedObservation))
    return replay(recording, alpha=declared.alpha, beta=declared.beta, judged_at=found.judged_at)


@pytest.mark.parametrize("times", [1.0, 4.0])
def test_a_replay_of_an_export_is_the_live_verdict(times: float, tmp_path: Path) -> None:
    """The same evidence, to the last bit; some requests are of no stratum that is known."""
    canary = [odds(rate, times) for rate in RATES]
    world = [
        msgspec.structs.replace(r, stratum=-1 if number % 40 == 0 else r.stratum)
        for number, r in enumerate(traffic(1_500, canary, 9))
    ]
    judge = judged(PLAN, world)
    live = assess(judge, PLAN)
    found = recorded(PLAN, [world], judge.units)
    again = replayed(found, tmp_path)
    expected = RolloutOutcome.PROMOTE if times == 1.0 else RolloutOutcome.ROLL_BACK
    assert again.verdict is live.outcome is expected
    assert again.path[-1].e_promote == live.numbers["e_promote"]
    assert again.path[-1].e_sample_ratio == live.numbers["e_sample_ratio"]
    tests = Instruments(PLAN)
    tests.restore(judge)
    assert again.path[-1].e_rollback == math.exp(tests.rollback.log_e)


def line(unit: str, **changes: object) -> ReplayedObservation:
    made = ReplayedObservation(unit, "canary", 0.5, "failed", 1.0, 1.0, stratum="hard")
    return msgspec.structs.replace(made, **changes)


def test_a_recording_says_of_each_unit_one_stratum_that_is_declared() -> None:
    metrics = [Metric("failed"), Metric("refused")]
    recording = Recording(metrics, strata=("easy", "hard"))
    recording.add(line("u1"))
    recording.add(line("u2", stratum=None))
    with pytest.raises(InvalidInput, match="in two strata"):
        recording.add(line("u1", metric="refused", stratum="easy"))
    with pytest.raises(InvalidInput, match="stratum 'soft' is not declared"):
        recording.add(line("u3", stratum="soft"))
    with pytest.raises(InvalidInput, match="stratum 'hard' is not declared"):
        Recording(metrics).add(line("u1"))
    with pytest.raises(InvalidInput, match="two strata have the same name"):
        Recording(metrics, strata=("easy", "easy"))
    assert [unit.stratum for unit in recording.units()] == [1, 2]


@pytest.mark.parametrize(
    ("by", "values", "message"),
    [
        ("size", ("a",), "risk has values with by: size"),
        ("key", (), "needs values with by: key, 1 to 30 of them, not 0"),
        ("key", tuple(map(str, range(31))), "1 to 30 of them, not 31"),
        ("header", ("a", "h\u00e9"), r"risk.values\[1\] must be printable ASCII"),
        ("header", (" a",), "without space around it, as it is sent: ' a'"),
        ("header", ("a\n",), "printable ASCII"),
        ("header", ("a", "a"), "is there twice"),
        ("header", ("others",), "is the name of another stratum"),
        ("header", ("x" * 65,), "1 to 64 characters"),
    ],
)
def test_strata_that_make_no_sense_are_refused(
    by: str, values: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        Strata(by, values)  # type: ignore[arg-type]
