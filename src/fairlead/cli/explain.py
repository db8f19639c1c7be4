"""How a rollout ended, for someone who has never seen one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from fairlead.cli.follow import OUTCOME_STYLES
from fairlead.cli.options import table
from fairlead.control.views import RolloutView
from fairlead.domain.release import short
from fairlead.rollout.telling import led_by, shows_most

_HEADLINES = {
    "promoted": "PROMOTED: {release} serves all traffic",
    "gates_passed": "PASSED: {release} has passed its gates",
    "rolled_back": "ROLLED BACK: all traffic goes to {champion} again",
    "gate_failed": "STOPPED AT ITS GATES: {release} has had no traffic",
    "aborted": "ABORTED: {release} has had no traffic",
    "failed": "FAILED: {release} serves nobody",
}


def explanation(view: RolloutView) -> RenderableType:
    """What happened, by what evidence, and what to do; a few short lines."""
    release = f"release {view.name} ({short(view.release)})"
    name = view.champion_name or (short(view.champion) if view.champion else "")
    champion = f"the champion {name}".strip()
    headline = _HEADLINES.get(view.outcome, "{release}: " + view.outcome)
    style = OUTCOME_STYLES.get(view.outcome, "bold")
    title = Text(headline.format(release=release, champion=champion), style=style)
    lines = _by_evidence(view, release, champion) or [_sentence(view.reason)]
    if view.advice:
        lines.append(f"What to do: {view.advice}.")
    return Group(title, *(Padding(Text(line), (0, 0, 0, 2), expand=False) for line in lines))


def strata_table(strata: Sequence[dict[str, Any]]) -> RenderableType:
    """The units of each stratum of risk, and how many of them failed."""
    shown = table("=stratum", "canary units", "canary failed", "champion units", "champion failed")
    for one in strata:
        cells = [one["name"]]
        for arm in ("canary", "champion"):
            rate = one[f"{arm}_rate"]
            cells += [f"{one[f'{arm}_units']:,}", "–" if rate is None else _percent(rate)]
        shown.add_row(*cells)
    return shown


def _by_evidence(view: RolloutView, release: str, champion: str) -> list[str]:
    """Of an end that the judge decided; empty for any other."""
    verdict = view.verdict
    is_worse = view.ending == "worse"
    if verdict is None or verdict.reason != view.reason or view.ending not in ("worse", "promoted"):
        return []
    numbers = verdict.numbers
    canary, other = numbers.get("canary", {}), numbers.get("champion", {})
    if canary.get("rate") is None or other.get("rate") is None:
        return []
    lines = [
        f"{_capital(release)} failed {_percent(canary['rate'])} of {_units(canary)}, {champion} "
        f"{_percent(other['rate'])} of {_units(other)} (a unit is a session, user or key)."
    ]
    leading = led_by(numbers) if is_worse and numbers.get("by_outcome") else ""
    if leading:
        lines.insert(0, f"Most of the evidence comes from {leading.removesuffix('; ')}.")
    most = shows_most(numbers) if is_worse and numbers.get("by_outcome") else ""
    if most:
        lines.append(f"It shows most among requests of the stratum {most}.")
    if numbers.get("ci_low") is not None and numbers.get("ci_high") is not None:
        confidence = numbers.get("ci_confidence", 0.95)
        lines.append(
            f"Chance left out, the release fails {_between(numbers['ci_low'], numbers['ci_high'])} "
            f"({confidence:.0%} confidence, however often one looks)."
        )
    key = "rollback" if is_worse else "promote"
    value, threshold = numbers.get(f"e_{key}"), numbers.get(f"threshold_{key}")
    if value is not None and threshold:
        lines.append(_meaning(float(value), float(threshold), view, is_worse=is_worse))
    return lines


def _between(low: float, high: float) -> str:
    """The bounds of a difference of failure rates, in words."""
    if high < 0.0:
        return f"between {_points(-high)} and {_points(-low)} percentage points less often"
    if low < 0.0:
        return f"between {_points(-low)} percentage points less often and {_points(high)} more"
    return f"between {_points(low)} and {_points(high)} percentage points more often"


def _meaning(value: float, threshold: float, view: RolloutView, *, is_worse: bool) -> str:
    """What the evidence says, as a frequency."""
    chance = _chance(threshold)
    reached = f"{value:,.0f}" if value < 1e6 else f"{value:.0e}"
    if is_worse:
        by = f" (by up to {_points(view.tolerance)} points)" if view.tolerance else ""
        return (
            f"The evidence that it is worse (1 is none) reached {reached}; {threshold:g} were "
            f"needed. A release as good as the champion{by} gets there in fewer than {chance} "
            "rollouts."
        )
    return (
        f"The evidence that it is not worse by {_points(view.margin)} points (1 is none) reached "
        f"{reached}; {threshold:g} were needed. A release that is so much worse gets there in "
        f"fewer than {chance} rollouts."
    )


def _chance(threshold: float) -> str:
    return f"{100 / threshold:g} of 100" if threshold <= 100 else f"1 of {threshold:,.0f}"


def _units(arm: dict[str, Any]) -> str:
    count = int(arm.get("units", 0))
    return "1 unit" if count == 1 else f"{count:,} units"


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def _points(rate: float) -> str:
    return f"{100 * rate:.1f}".removesuffix(".0")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(reason: str) -> str:
    return f"{_capital(reason)}." if reason else "No reason was given."
