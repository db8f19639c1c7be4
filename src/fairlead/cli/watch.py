"""A rollout's live picture in the terminal: split, difference, evidence, what is missing, time.

Every line says in words what its bar shows, so that nothing has to be known beforehand. What
matters most stands at the top; where the terminal is too small for all of it, what matters least
becomes brief first and then goes (`fairlead.cli.fitting`).
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fairlead.cli.api import ControlClient
from fairlead.cli.bars import (
    WIDTH,
    Difference,
    difference_bar,
    difference_brief,
    e_value,
    evidence_bar,
    evidence_brief,
    harm_bar,
    harm_brief,
    one_line,
)
from fairlead.cli.explain import explanation
from fairlead.cli.fitting import Fitted, Row
from fairlead.cli.follow import gate_line, live, poll, shadow_line
from fairlead.cli.options import console, say, state_words, stderr
from fairlead.cli.queries import query_line
from fairlead.cli.status import judging_line
from fairlead.control.views import RolloutView
from fairlead.domain.errors import NotFound
from fairlead.domain.release import short
from fairlead.rollout.plan import percent
from fairlead.rollout.telling import told

WATCH_S = 0.5
_IDS = ("ro-", "ev-", "dr-")
"""What ids of rollouts, evaluations and drills begin with."""


def watch(control: ControlClient, target: str, *, state: Path) -> RolloutView:
    """Show a rollout until it has ended, and then explain its end.

    Args:
        target: Id of a rollout or drill, or name of a service with one.
    """
    view = find(control, target)
    rollout = view.id
    try:
        with live(picture(view, time.time()), refresh_per_second=4) as shown:
            while view.outcome == "running":
                time.sleep(WATCH_S)
                view = poll(control, rollout)
                shown.update(picture(view, time.time()))
    except KeyboardInterrupt:
        typed = f"fairlead rollout watch {rollout}{state_words(state)}"
        say(f"{rollout} goes on without this terminal; see it again with {typed}", to=stderr)
        raise
    console.print(explanation(view))
    return view


def find(control: ControlClient, target: str) -> RolloutView:
    """The rollout that is meant; raises NotFound."""
    if target.startswith(_IDS):
        with contextlib.suppress(NotFound):  # A service may be called so.
            return control.get(RolloutView, "rollouts", target)
    mine = control.get(list[RolloutView], "rollouts", service=target)
    running = [view.id for view in mine if view.outcome == "running" and view.state != "queued"]
    if not running:
        what = f"no rollout {target!r}, and none" if target.startswith(_IDS) else "no rollout"
        raise NotFound(
            f"there is {what} under way of a service {target!r}",
            hint="see `fairlead rollout list`",
        )
    return control.get(RolloutView, "rollouts", running[0])


def picture(view: RolloutView, now: float) -> RenderableType:
    """The whole picture of one moment, as much of it as the terminal has lines for."""
    title = Text.assemble(
        (view.service, "bold"), ": release ", (view.name, "bold"), f" {short(view.release)}   ",
        (_state(view), "cyan"),
    )  # fmt: skip
    return Fitted(title, _rows(view, now))


def _state(view: RolloutView) -> str:
    """Where it is, in words."""
    state = view.state.replace("_", " ")
    if view.steps and view.state in ("shifting", "judging"):
        state += f", step {min(view.step + 1, view.steps)} of {view.steps}"
    return f"{state} (paused)" if view.paused else state


def _rows(view: RolloutView, now: float) -> list[Row]:
    """What there is to show, by importance from top to bottom."""
    rows = [_traffic(view)]
    if view.outcome == "running":
        missing = Text(view.missing or "–")
        rows.append(Row("missing", missing, 0, one_line(missing)))
        if view.waiting:
            waiting = Text(view.waiting, style="yellow")
            rows.append(Row("replicas", waiting, 1, one_line(waiting)))
        times = _times(view, now)
        rows.append(Row("time", Text("\n".join(times)), 1, one_line(Text("; ".join(times[::-1])))))
    numbers = {} if view.verdict is None else view.verdict.numbers
    is_judged = any(numbers.get(arm, {}).get("units") for arm in ("canary", "champion"))
    if is_judged:
        rows += _judged(view)
    rows += _early(numbers)
    if view.harm is not None:
        rows.append(Row("harm", harm_bar(view.harm), 4, harm_brief(view.harm)))
    if is_judged:
        rows += _metrics(numbers)
    return rows + _besides(view)


def _besides(view: RolloutView) -> list[Row]:
    """What others say: gates, copies, the judge model, queries."""
    rows: list[Row] = []
    if view.shadow is not None and (view.shadow.copies or view.state == "shadowing"):
        copies = shadow_line(view.shadow)
        rows.append(Row("copies", copies, 2 if view.state == "shadowing" else 8, one_line(copies)))
    if view.judging is not None:
        judging = Text(judging_line(view.judging))
        said = Group(judging, Text(view.judging.error, style="dim"))
        rows.append(Row("judge", said, 7, one_line(judging)))
    for query in view.queries:
        line = query_line(query)
        rows.append(Row(query.kind, line, 4 if query.is_bad else 7, one_line(line)))
    done = [verdict.gate for verdict in view.gate_verdicts]
    for name in dict.fromkeys([gate.gate for gate in view.gates] + done):
        rows.append(Row("gate", gate_line(view, name, is_brief=True), 9 if name in done else 2))
    return rows


def _traffic(view: RolloutView) -> Row:
    """Who gets the traffic."""
    canary = round(view.share * WIDTH)
    champion = view.champion_name or "none"
    if view.champion is None:
        nobody = Text("no champion: a first release, nobody is served before its promotion")
        return Row("traffic", nobody, 5, one_line(nobody))
    bar = Text("█" * (WIDTH - canary), style="green")
    bar.append("▒" * canary, style="yellow")
    words = Text.assemble(
        (f"champion {champion} {percent(1 - view.share)}", "green"), "   ",
        (f"canary {view.name} {percent(view.share)}", "yellow"),
    )  # fmt: skip
    brief = one_line(words)
    if view.served is not None:
        words.append(f"   it has answered {view.served:,} requests", style="dim")
    return Row("traffic", Group(bar, words), 5, brief)


def _judged(view: RolloutView) -> list[Row]:
    """The failures, their difference, and the evidence of all that is judged."""
    assert view.verdict is not None
    numbers = view.verdict.numbers
    rows: list[Row] = []
    if numbers.get("ci_low") is not None:
        shown = _difference(numbers, view.margin, view.tolerance)
        rows.append(Row("difference", difference_bar(shown), 2, difference_brief(shown)))
    rows += _evidence(numbers)
    failures = _failures(numbers)
    brief = one_line(failures)
    failures.append("  (a unit is a session, user or key)", style="dim")
    return [*rows, Row("failures", failures, 4, brief)]


def _difference(numbers: dict[str, Any], margin: float, tolerance: float) -> Difference:
    now = numbers.get("difference")
    return Difference(
        float(numbers["ci_low"]), float(numbers["ci_high"]),
        None if now is None else float(now), margin, tolerance,
        float(numbers.get("ci_confidence", 0.95)),
    )  # fmt: skip


def _failures(numbers: dict[str, Any]) -> Text:
    text = Text()
    for arm, style in (("champion", "green"), ("canary", "yellow")):
        counts = numbers.get(arm, {})
        units, rate = counts.get("units", 0), counts.get("rate")
        failed = "–" if rate is None else f"{rate:.1%}"
        text.append(f"{arm} {failed} of {units:,} units", style=style)
        text.append("   " if arm == "champion" else "")
    return text


BACK_AT = "it is rolled back at"
_OTHER_OUTCOMES = {"failed": "bad or failed", "unconfirmed": "no good feedback"}
"""How the rows of outcomes are called that are judged beside those in `failures`."""


def _metrics(numbers: dict[str, Any]) -> list[Row]:
    """A row for each metric: a rate's difference against its margin, an amount's medians."""
    rows: list[Row] = []
    for name, one in numbers.get("by_outcome", {}).items():
        has_interval = one.get("ci_low") is not None
        if "kind" not in one and not has_interval:
            continue
        words = Text(told({"kind": "binary", **one}))
        brief: RenderableType = one_line(words)
        promotes = "" if one["e_promote"] is None else f", not worse {e_value(one['e_promote'])}"
        words.append(f"   evidence: worse {e_value(one['e_rollback'])}{promotes}", style="dim")
        what: RenderableType = words
        if has_interval:
            shown = _difference(one, float(one["margin"]), float(one["tolerance"]))
            what, brief = Group(words, difference_bar(shown)), difference_brief(shown)
        rows.append(Row(_OTHER_OUTCOMES.get(name, name), what, 6, brief))
    return rows


def _evidence(numbers: dict[str, Any]) -> list[Row]:
    rows: list[Row] = []
    for label, key, style, what, then in (
        ("worse?", "rollback", "red", "that it is worse", BACK_AT),
        ("not worse?", "promote", "green", "that it is not", "a promotion needs"),
    ):
        value, threshold = numbers.get(f"e_{key}"), numbers.get(f"threshold_{key}")
        if value is None or not threshold:
            continue
        bar = float(value), float(threshold), style
        brief = evidence_brief(*bar, then)
        rows.append(Row(label, evidence_bar(*bar, what, then), 3, brief))
    return rows


def _early(numbers: dict[str, Any]) -> list[Row]:
    """What is known without the judge model."""
    early = numbers.get("early")
    if early is None:
        return []
    value, threshold = float(early["e_rollback"]), float(early["threshold_rollback"])
    bar = evidence_bar(value, threshold, "red", "without the judge model", BACK_AT)
    brief = evidence_brief(value, threshold, "red", BACK_AT)
    return [Row("early: worse?", bar, 3, brief)]


def _times(view: RolloutView, now: float) -> list[str]:
    parts = [f"{_span(max(0.0, now - view.created_at))} since its beginning"]
    more = None if view.verdict is None else view.verdict.numbers.get("expected_more_units")
    if view.state in ("judging", "watching") and more is not None:
        parts.append(f"about {more:,} more units to a verdict{_at_rate(view, now, int(more))}")
    if view.time_left_s is not None:
        parts.append(f"{_span(view.time_left_s)} left until its deadline")
    return parts


def _at_rate(view: RolloutView, now: float, more: int) -> str:
    """How long these units take, if they come as they came so far."""
    assert view.verdict is not None
    arms = (view.verdict.numbers.get(arm, {}) for arm in ("canary", "champion"))
    units = sum(int(arm.get("units", 0)) for arm in arms)
    if view.traffic_since is None or units == 0 or now <= view.traffic_since:
        return ""
    return f", {_span(more * (now - view.traffic_since) / units)} at the present rate"


def _span(seconds: float) -> str:
    """A length of time in its two largest units."""
    whole = round(seconds)
    for size, unit, smaller, name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"),
                                      (60, "min", 1, "s")):  # fmt: skip
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {name}"
    return f"{whole} s"
