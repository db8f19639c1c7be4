"""What is said of metrics: which one decided, in which stratum of risk, which one is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fairlead.rollout.figures import ArmFigures, MetricFigures
from fairlead.rollout.judge import Judge, metrics_of
from fairlead.rollout.plan import OUTCOMES, Plan

if TYPE_CHECKING:
    from fairlead.rollout.metrics import Metric

_WORSE = {"latency": "slower", "tokens": "longer", "cost": "dearer"}


def leading_of(numbers: dict[str, Any]) -> str:
    """Which of `by_outcome` most of the evidence to roll back comes from; empty without any.

    Each counts by its weight in the average; in what an older build kept, all alike.
    """
    outcomes: dict[str, dict[str, Any]] = numbers.get("by_outcome", {})
    parts = {name: one["e_rollback"] * one.get("weight", 1.0) for name, one in outcomes.items()}
    return max(parts, key=parts.__getitem__, default="")


def led_by(numbers: dict[str, Any]) -> str:
    """The declared metric that most of the evidence comes from, with its figures; else empty."""
    leading = leading_of(numbers)
    if not leading or leading in OUTCOMES:
        return ""
    one = numbers["by_outcome"][leading]
    return f"{leading}: {told(one)}, evidence {e_words(one['e_rollback'])}; "


def told(one: dict[str, Any]) -> str:
    """The figures of a declared metric, of its entry in `by_outcome`."""
    if one["kind"] == "binary":
        canary, champion = (percent(one[f"{arm}_rate"]) for arm in ("canary", "champion"))
        return f"canary {canary}, champion {champion}"
    unit = one.get("unit", "")
    canary, champion = (one[f"{arm}_median"] for arm in ("canary", "champion"))
    how = ""
    if canary is not None and champion is not None and (canary > champion) != one["inverse"]:
        how = "shorter, " if one["inverse"] else f"{_WORSE[one['kind']]}, "
    return f"canary {how}median {_amount(canary, unit)} against {_amount(champion, unit)}"


def is_stratified(numbers: dict[str, Any]) -> bool:
    """Whether the outcome that most of the evidence comes from is bet on in each stratum."""
    return "stratum" in numbers.get("by_outcome", {}).get(leading_of(numbers), {})


def shows_most(numbers: dict[str, Any]) -> str:
    """In which stratum the evidence of what leads is the highest, in words; empty for none.

    For the eye: which stratum the evidence comes from is not tested by itself.
    """
    leading, shown = leading_of(numbers), numbers.get("by_stratum", [])
    name = numbers.get("by_outcome", {}).get(leading, {}).get("stratum")
    one = next((one for one in shown if one["name"] == name), None)
    if one is None or len(shown) < 2:
        return ""
    # The counts of strata are of failures, and no other metric's.
    return _of_stratum(one) if leading in OUTCOMES else f"{name!r}"


def lacking(judge: Judge, plan: Plan) -> str | None:
    """The first metric that a promotion needs and most units of an arm lack, in words."""
    for k, metric in enumerate(metrics_of(plan)):
        if metric.name in OUTCOMES or not metric.promotes:
            continue
        kept = judge.figures[k] if k < len(judge.figures) else MetricFigures()
        for name, arm in (("canary", kept.canary), ("champion", kept.champion)):
            if arm.is_lacking:
                return _lacks(metric, name, arm)
    return None


def _lacks(metric: Metric, name: str, arm: ArmFigures) -> str:
    known = f"{arm.units:,} have it, {arm.missing:,} lack it" if arm.missing else "none has it"
    return f"metric {metric.name!r} is missing: of the {name}'s units {known}"


def _of_stratum(one: dict[str, Any]) -> str:
    canary, champion = (
        f"failed {100 * one[f'{arm}_rate']:.1f} % of {one[f'{arm}_units']:,} units"
        if one[f"{arm}_units"]
        else "had no unit"
        for arm in ("canary", "champion")
    )
    return f"{one['name']!r}: the canary {canary}, the champion {champion}"


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return "nothing"
    number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{number} {unit}".strip()


def percent(rate: float | None) -> str:
    """A rate, or a dash where there is none."""
    return "–" if rate is None else f"{100 * rate:.1f} %"


def e_words(value: float) -> str:
    """Evidence with as many digits as it is worth."""
    return f"{value:.0e}" if value >= 1e6 else f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
