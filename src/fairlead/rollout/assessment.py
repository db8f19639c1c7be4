"""From what the judge has seen to a verdict with its reason and its numbers."""

from __future__ import annotations

import math
from typing import Any

from fairlead.domain.verdicts import RolloutOutcome, RolloutVerdict
from fairlead.rollout.evidence import RATIO_ALPHA, evidence, foreseen, threshold
from fairlead.rollout.figures import SILENCE_MAX, ArmFigures
from fairlead.rollout.judge import CONFIDENCE, OUTCOMES, ArmCounts, Instruments, Judge, metrics_of
from fairlead.rollout.metrics import Metric, MetricKind
from fairlead.rollout.plan import FeedbackRule, Plan
from fairlead.rollout.strata import by_stratum, suspected
from fairlead.rollout.telling import (
    e_words,
    is_stratified,
    lacking,
    led_by,
    percent,
    shows_most,
)
from fairlead.stats.rae import Rates
from fairlead.stats.risk import RiskRae

FEW_UNITS = 100
CROWDED = 20
"""With few units, requests per unit from which on there is something to say about it."""

_MINUTE_S = 60.0


def assess(judge: Judge, plan: Plan) -> RolloutVerdict:
    """What the evidence says now: roll back, promote, invalid (the split is not as logged) or wait.

    The evidence to roll back counts at its highest so far; that to promote as it is now, so that a
    canary that went bad after a good start is not promoted on its past.
    """
    numbers = numbers_of(judge, plan)
    ratio = numbers["e_sample_ratio"]
    if ratio >= threshold(RATIO_ALPHA):
        return RolloutVerdict(
            RolloutOutcome.INVALID,
            f"the split is not the one that was logged: {judge.canary.units:,} canary and "
            f"{judge.champion.units:,} champion units (evidence {e_words(ratio)} against a "
            f"threshold of {threshold(RATIO_ALPHA):g}){_in_stratum(judge, plan)}; a comparison "
            "would not be fair",
            numbers,
        )
    rates = _rates(judge, plan)
    if numbers["e_rollback"] >= numbers["threshold_rollback"]:
        return RolloutVerdict(
            RolloutOutcome.ROLL_BACK,
            f"{led_by(numbers)}{rates}; evidence {e_words(numbers['e_rollback'])}"
            f"{_led_by(numbers, plan)} against a "
            f"threshold of {numbers['threshold_rollback']:g}; a release no worse than the champion"
            f"{_by(plan.tolerance)}{_anywhere(numbers)} would show this in fewer than "
            f"{_one_in(plan.judge_alpha)} rollouts{_worst(numbers)}",
            numbers,
        )
    missing = _missing(judge, plan)
    if numbers["e_promote"] >= numbers["threshold_promote"] and missing is None:
        return RolloutVerdict(
            RolloutOutcome.PROMOTE,
            f"{rates}; evidence {e_words(numbers['e_promote'])} against a threshold of "
            f"{numbers['threshold_promote']:g} that it is not worse by {_points(plan.margin)}; a "
            f"release that is would show this in fewer than {_one_in(plan.beta)} rollouts",
            numbers,
        )
    crowding = crowding_of(judge)
    reason = (missing or _waiting(rates, numbers)) + (f"; {crowding}" if crowding else "")
    return RolloutVerdict(RolloutOutcome.WAIT, reason, numbers)


def numbers_of(judge: Judge, plan: Plan) -> dict[str, Any]:
    """The numbers behind a verdict, in JSON's types."""
    tests = Instruments(plan)
    tests.restore(judge)
    low, high = tests.interval.bounds
    threshold_rollback, threshold_promote = threshold(plan.judge_alpha), threshold(plan.beta)
    outcomes = _outcomes(tests, judge, plan)
    more = _expected_more(tests, judge, outcomes, threshold_rollback, threshold_promote)
    pace = judge.seconds_per_unit
    return {
        "canary": _arm(judge.canary),
        "champion": _arm(judge.champion),
        "e_rollback": evidence(tests.rollback.log_e_max),
        "threshold_rollback": threshold_rollback,
        "e_promote": evidence(tests.promote.log_e),
        "threshold_promote": threshold_promote,
        "e_sample_ratio": evidence(tests.guard.log_e_max),
        "difference": _difference(judge),
        "ci_low": low,
        "ci_high": high,
        "ci_confidence": CONFIDENCE,
        "expected_more_units": more,
        "expected_more_seconds": None if more is None or pace is None else round(more * pace, 1),
        "by_outcome": outcomes,
        "by_stratum": by_stratum(plan.strata, judge.strata),
        "requests_seen": judge.requests,
    }


def _anywhere(numbers: dict[str, Any]) -> str:
    return " in any stratum" if is_stratified(numbers) else ""


def _worst(numbers: dict[str, Any]) -> str:
    """In which stratum of risk it shows most, where what leads is bet on by strata."""
    most = shows_most(numbers)
    return f"; it shows most in {most}" if most else ""


def _in_stratum(judge: Judge, plan: Plan) -> str:
    """Which stratum has units that are not on the arms as was logged, if it is one by itself."""
    tests = Instruments(plan)
    tests.restore(judge)
    suspect = tests.guard.suspect
    if plan.strata is None or suspect is None:
        return ""
    return suspected(plan.strata.name(suspect))


def crowding_of(judge: Judge) -> str | None:
    """That few units carry many requests, if they do: more requests of them tell nothing more."""
    if judge.units >= FEW_UNITS:
        return None
    units = judge.distinct_units
    if not units or judge.requests < CROWDED * units:
        return None
    came = "1 unit" if units == 1 else f"{units:,} units"
    return (
        f"{judge.requests:,} requests came from {came} (a unit is a session, else a user, else an "
        f"API key): send `x-session-id` or the `user` field, so that there are more units to "
        f"compare"
    )


def _missing(judge: Judge, plan: Plan) -> str | None:
    """What must be there before any evidence can promote."""
    if judge.canary.units == 0:
        return "no canary unit has settled yet"
    if judge.champion.units == 0:
        return "no champion unit has settled yet"
    sampled = min(judge.canary.sampled_requests, judge.champion.sampled_requests)
    if plan.samples_feedback and not sampled:
        return "no sampled answer of one side has been judged yet"
    if plan.feedback is not None and plan.feedback.required:
        missing = _feedback_missing(judge, plan.feedback)
        if missing is not None:
            return missing
    return lacking(judge, plan)


def _feedback_missing(judge: Judge, rule: FeedbackRule) -> str | None:
    if rule.sampled and max(judge.canary.silence, judge.champion.silence) > SILENCE_MAX:
        return (
            f"{_silence(judge, rule)}: for a promotion at most {percent(SILENCE_MAX)} of each "
            "side's sample may be without"
        )
    if judge.canary.feedback == 0:
        return (
            f"no feedback {rule.name!r} on any of the canary's {judge.canary.requests:,} requests, "
            f"and the plan requires it"
        )
    if max(judge.canary.silence, judge.champion.silence) > SILENCE_MAX:
        return (
            f"{_silence(judge, rule)}, and the plan requires it: for a promotion at most "
            f"{percent(SILENCE_MAX)} of each side may be without (it has to come within "
            f"settle_seconds of a unit's first request)"
        )
    return None


def _waiting(rates: str, numbers: dict[str, Any]) -> str:
    more = numbers["expected_more_units"]
    ahead = ""
    if more is not None:
        ahead = f"; about {more:,} more units to a verdict{_duration(numbers)}"
    return (
        f"{rates}; evidence that it is worse {e_words(numbers['e_rollback'])} of "
        f"{numbers['threshold_rollback']:g}, that it is not {e_words(numbers['e_promote'])} of "
        f"{numbers['threshold_promote']:g}{ahead}"
    )


def _duration(numbers: dict[str, Any]) -> str:
    """How long that takes at the present pace, from a minute on."""
    seconds = numbers["expected_more_seconds"]
    if seconds is None or seconds < _MINUTE_S:
        return ""
    minutes = seconds / _MINUTE_S
    return f", in {minutes:,.0f} min" if minutes < 120 else f", in {minutes / 60:,.0f} h"


def _expected_more(
    tests: Instruments,
    judge: Judge,
    outcomes: dict[str, Any],
    threshold_rollback: float,
    threshold_promote: float,
) -> int | None:
    """Units of both arms until the nearer verdict, if the rates go on as they are."""
    if not judge.canary.units or not judge.champion.units:
        return None
    rates: list[Rates] = [
        (
            _guess(one["canary_rate"], judge.canary.units),
            _guess(one["champion_rate"], judge.champion.units),
        )
        for one in outcomes.values()
    ]
    told = [_told(judge, name, k) for k, name in enumerate(outcomes)]
    needed = tests.tests.needed
    guesses = [
        tests.rollback.expected_more(rates, judge.rho, threshold_rollback, told),
        tests.promote.expected_more(
            [rates[k] for k in needed], judge.rho, threshold_promote, [told[k] for k in needed]
        ),
    ]
    known = [guess for guess in map(foreseen, guesses) if guess is not None]
    return math.ceil(min(known)) if known else None


def _told(judge: Judge, name: str, k: int) -> float:
    """The share of the units that have an outcome: of what a judge model says, its sample."""
    if name == OUTCOMES[0]:
        return 1.0
    if name == OUTCOMES[1]:
        return (judge.canary.in_sample + judge.champion.in_sample) / judge.units
    if k >= len(judge.figures):
        return 1.0
    arms = (judge.figures[k].canary, judge.figures[k].champion)
    return min(1.0, sum(arm.units + arm.missing for arm in arms) / judge.units)


def _guess(rate: float | None, units: int) -> float:
    """A rate that is neither 0 nor 1, however few units there are; of amounts nobody uses it."""
    return 0.5 if rate is None else (rate * units + 0.5) / (units + 1.0)


def _outcomes(tests: Instruments, judge: Judge, plan: Plan) -> dict[str, Any]:
    """The evidence from each test by itself, and the arms' figures of it."""
    found: dict[str, Any] = {}
    for k, metric in enumerate(metrics_of(plan)):
        e_promote = tests.tests.log_e_promote(k)
        found[metric.name] = {
            **_figures(judge, metric, k),
            "e_rollback": evidence(tests.rollback.parts[k].log_e_max),
            "e_promote": None if e_promote is None else evidence(e_promote),
            "weight": metric.weight,
            "margin": metric.margin,
            "tolerance": metric.tolerance,
            **tests.intervals.numbers(k),
        }
        part = tests.rollback.parts[k]
        if plan.strata is not None and isinstance(part, RiskRae):
            most = part.foremost
            found[metric.name]["stratum"] = None if most is None else plan.strata.name(most)
    for declared in plan.metrics:
        source = declared.from_gateway
        if source is not None and source.unit:
            found[declared.name]["unit"] = source.unit
    return found


def _figures(judge: Judge, metric: Metric, k: int) -> dict[str, Any]:
    """What is shown of one test: rates by their own counts, the others by their figures."""
    if metric.name in OUTCOMES:
        arms = (("canary", judge.canary), ("champion", judge.champion))
        has_all = metric.name == OUTCOMES[0]
        units = {name: arm.units if has_all else arm.in_sample for name, arm in arms}
        return {
            f"{name}_rate": getattr(arm, metric.name) / units[name] if units[name] else None
            for name, arm in arms
        }
    kept = judge.figures[k] if k < len(judge.figures) else None
    shown: dict[str, Any] = {}
    for name in ("canary", "champion"):
        arm = ArmFigures() if kept is None else getattr(kept, name)
        is_rate = metric.kind is MetricKind.BINARY
        shown[f"{name}_rate"] = arm.mean if is_rate else None
        shown[f"{name}_units"] = arm.units
        shown[f"{name}_missing"] = arm.missing
        if not is_rate:
            shown[f"{name}_mean"] = arm.mean
            shown[f"{name}_median"] = arm.median
    return shown | {
        "kind": metric.kind.value,
        "promotes": metric.promotes,
        "inverse": metric.inverse,
    }


def _difference(judge: Judge) -> float | None:
    """Canary rate minus champion rate, each unit weighted by the probability of the other arm.

    With these overlap weights (Li, Morgan, Zaslavsky 2018) every share contributes equally to both
    arms, so a ramp during a drift does not show as a difference.
    """
    if judge.canary.weight <= 0 or judge.champion.weight <= 0:
        return None
    canary = judge.canary.weighted_failures / judge.canary.weight
    return canary - judge.champion.weighted_failures / judge.champion.weight


def _arm(arm: ArmCounts) -> dict[str, Any]:
    return {
        "units": arm.units,
        "failures": arm.failures,
        "rate": arm.rate,
        "requests": arm.requests,
        "errors": arm.errors,
        "feedback": arm.feedback,
        "silent": arm.silent,
        "judged_units": arm.judged,
    }


def _rates(judge: Judge, plan: Plan) -> str:
    canary, champion = judge.canary, judge.champion
    sampled = "sampled " if plan.samples_feedback and plan.requires_feedback else ""
    rates = (
        f"canary fails {percent(canary.rate)} of {canary.judged:,} {sampled}units, champion "
        f"{percent(champion.rate)} of {champion.judged:,}"
    )
    if plan.feedback is None or canary.silent + champion.silent == 0:
        return rates
    counts = ", which counts as failed" if plan.feedback.required else ""
    return f"{rates}; {_silence(judge, plan.feedback)}{counts}"


def _silence(judge: Judge, rule: FeedbackRule) -> str:
    if rule.sampled:
        return (
            f"no verdict of the judge model on {percent(judge.canary.silence)} of the canary's "
            f"sampled requests and {percent(judge.champion.silence)} of the champion's"
        )
    return (
        f"no feedback {rule.name!r} on {percent(judge.canary.silence)} of the canary's requests "
        f"and {percent(judge.champion.silence)} of the champion's"
    )


def _led_by(numbers: dict[str, Any], plan: Plan) -> str:
    """Which outcome the evidence comes from, where it is not the one whose rates are given."""
    outcomes = {k: v for k, v in numbers["by_outcome"].items() if k in OUTCOMES}
    leading = max(outcomes, key=lambda name: float(outcomes[name]["e_rollback"]))
    silent = numbers["canary"]["silent"] + numbers["champion"]["silent"]
    if not silent or leading == OUTCOMES[plan.requires_feedback]:
        return ""
    what = "errors and bad feedback" if leading == "failed" else "without good feedback"
    canary, champion = (outcomes[leading][f"{arm}_rate"] for arm in ("canary", "champion"))
    return f" ({what}: canary {percent(canary)}, champion {percent(champion)})"


def _points(rate: float) -> str:
    return f"{100 * rate:g} percentage points"


def _by(tolerance: float) -> str:
    return f" by more than {_points(tolerance)}" if tolerance else ""


def _one_in(probability: float) -> str:
    return (
        f"{100 * probability:g} of 100" if probability >= 0.01 else f"1 of {1 / probability:,.0f}"
    )
