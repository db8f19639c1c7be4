"""A rollout's live picture in the terminal: split, difference, evidence, what is missing, time.

Every line says in words what its bar shows, so that nothing has to be known beforehand.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fairlead.cli.api import ControlClient
from fairlead.cli.explain import explanation
from fairlead.cli.follow import gate_line, live, poll, shadow_line
from fairlead.cli.options import console, say, state_words, stderr
from fairlead.cli.queries import query_line
from fairlead.cli.status import judging_line
from fairlead.control.views import HarmView, RolloutView
from fairlead.domain.errors import NotFound
from fairlead.domain.release import short
from fairlead.rollout.plan import percent
from fairlead.rollout.telling import told

WATCH_S = 0.5
WIDTH = 48
"""Columns of a bar."""
SPAN_MIN = 0.02
"""What the scale of differences shows at least, to either side."""


def watch(control: ControlClient, target: str, *, state: Path) -> RolloutView:
    """Show a rollout until it has ended, and then explain its end.

    Args:
        target: Id of a rollout, or name of a service with one.
    """
    rollout = find(control, target)
    view = control.get(RolloutView, "rollouts", rollout)
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


def find(control: ControlClient, target: str) -> str:
    """The rollout that is meant; raises NotFound."""
    if target.startswith(("ro-", "ev-")):
        return target
    mine = control.get(list[RolloutView], "rollouts", service=target)
    running = [view.id for view in mine if view.outcome == "running" and view.state != "queued"]
    if not running:
        raise NotFound(
            f"there is no rollout under way of a service {target!r}",
            hint="see `fairlead rollout list`",
        )
    return running[0]


def picture(view: RolloutView, now: float) -> RenderableType:
    """The whole picture of one moment."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for label, what in _rows(view, now):
        grid.add_row(label, what)
    title = Text.assemble(
        (view.service, "bold"), ": release ", (view.name, "bold"), f" {short(view.release)}   ",
        (_state(view), "cyan"),
    )  # fmt: skip
    return Panel(grid, title=title, title_align="left", padding=(0, 1))


def _state(view: RolloutView) -> str:
    """Where it is, in words."""
    state = view.state.replace("_", " ")
    if view.steps and view.state in ("shifting", "judging"):
        state += f", step {min(view.step + 1, view.steps)} of {view.steps}"
    return f"{state} (paused)" if view.paused else state


def _rows(view: RolloutView, now: float) -> list[tuple[str, RenderableType]]:
    rows: list[tuple[str, RenderableType]] = []
    names = dict.fromkeys([g.gate for g in view.gates] + [v.gate for v in view.gate_verdicts])
    for name in names:
        rows.append(("gate", gate_line(view, name, is_brief=True)))
    if view.shadow is not None and (view.shadow.copies or view.state == "shadowing"):
        rows.append(("copies", shadow_line(view.shadow)))
    rows.append(("traffic", split_bar(view)))
    numbers = {} if view.verdict is None else view.verdict.numbers
    if numbers.get("canary", {}).get("units") or numbers.get("champion", {}).get("units"):
        rows.append(("failures", _failures(view)))
        if numbers.get("ci_low") is not None:
            rows.append(("difference", difference_bar(view)))
        rows += _metrics(numbers)
        rows += _evidence(view)
    rows += _early(numbers)
    if view.harm is not None:
        rows.append(("harm", harm_bar(view.harm)))
    if view.judging is not None:
        said = Group(Text(judging_line(view.judging)), Text(view.judging.error, style="dim"))
        rows.append(("judge", said))
    rows += [(query.kind, query_line(query)) for query in view.queries]
    if view.outcome == "running":
        rows.append(("missing", Text(view.missing or "–")))
        if view.waiting:
            rows.append(("replicas", Text(view.waiting, style="yellow")))
        rows += [("time" if not index else "", Text(line)) for index, line in _times(view, now)]
    return rows


def split_bar(view: RolloutView) -> RenderableType:
    """Who gets the traffic."""
    canary = round(view.share * WIDTH)
    champion = view.champion_name or "none"
    if view.champion is None:
        return Text("no champion: a first release, nobody is served before its promotion")
    bar = Text("█" * (WIDTH - canary), style="green")
    bar.append("▒" * canary, style="yellow")
    words = Text.assemble(
        (f"champion {champion} {percent(1 - view.share)}", "green"), "   ",
        (f"canary {view.name} {percent(view.share)}", "yellow"),
    )  # fmt: skip
    if view.served is not None:
        words.append(f"   it has answered {view.served:,} requests", style="dim")
    return Group(bar, words)


def harm_bar(harm: HarmView) -> RenderableType:
    """What the ramp has cost and may cost until the next look, as parts of its budget."""
    so_far, worst = (
        min(WIDTH, round(WIDTH * part / harm.budget)) for part in (harm.so_far, harm.at_worst)
    )
    bar = Text("█" * so_far, style="red")
    bar.append("▒" * max(0, worst - so_far), style="yellow")
    bar.append("░" * (WIDTH - max(so_far, worst)), style="dim")
    words = (
        f"about {harm.so_far:,.1f} requests may have failed because of it, by the next look at "
        f"most {harm.at_worst:,.1f}; the budget is {harm.budget:,.1f}"
    )
    return Group(bar, Text(words, style="dim"))


def _failures(view: RolloutView) -> RenderableType:
    assert view.verdict is not None
    text = Text()
    for arm, style in (("champion", "green"), ("canary", "yellow")):
        counts = view.verdict.numbers.get(arm, {})
        units, rate = counts.get("units", 0), counts.get("rate")
        failed = "–" if rate is None else f"{rate:.1%}"
        text.append(f"{arm} {failed} of {units:,} units", style=style)
        text.append("   " if arm == "champion" else "")
    text.append("  (a unit is a session, user or key)", style="dim")
    return text


def difference_bar(view: RolloutView) -> RenderableType:
    """The confidence sequence of the difference on a scale with 0 and the margin on it."""
    assert view.verdict is not None
    numbers = view.verdict.numbers
    low, high = float(numbers["ci_low"]), float(numbers["ci_high"])
    now = numbers.get("difference")
    span = max(SPAN_MIN, abs(low), abs(high), 1.5 * view.margin)
    cells = [" "] * WIDTH
    first, last = _cell(low, span), _cell(high, span)
    for cell in range(first, last + 1):
        cells[cell] = "━"
    for mark, at in (("│", 0.0), ("┊", view.margin)):
        cells[_cell(at, span)] = mark
    if now is not None:
        cells[_cell(float(now), span)] = "●"
    style = "red" if low > view.tolerance else "green" if high < view.margin else "yellow"
    bar = Text.assemble(("better ", "dim"), ("".join(cells), style), (" worse", "dim"))
    words = (
        "canary less champion: "
        + ("" if now is None else f"{_points(float(now))} now, ")
        + f"{_points(low)} to {_points(high)} with {numbers.get('ci_confidence', 0.95):.0%} "
        f"confidence (percentage points); │ is 0, ┊ the margin {_points(view.margin)}"
    )
    return Group(bar, Text(words, style="dim"))


def _cell(value: float, span: float) -> int:
    share = (max(-span, min(span, value)) + span) / (2 * span)
    return min(WIDTH - 1, int(share * WIDTH))


def _metrics(numbers: dict[str, Any]) -> list[tuple[str, RenderableType]]:
    """A line for each declared metric."""
    rows: list[tuple[str, RenderableType]] = []
    for name, one in numbers.get("by_outcome", {}).items():
        if "kind" not in one:
            continue
        words = Text(told(one))
        promotes = "" if one["e_promote"] is None else f", not worse {_e(one['e_promote'])}"
        words.append(f"   evidence: worse {_e(one['e_rollback'])}{promotes}", style="dim")
        rows.append((name, words))
    return rows


def _evidence(view: RolloutView) -> list[tuple[str, RenderableType]]:
    assert view.verdict is not None
    numbers = view.verdict.numbers
    rows: list[tuple[str, RenderableType]] = []
    for label, key, style, what, then in (
        ("worse?", "rollback", "red", "that it is worse", "it is rolled back at"),
        ("not worse?", "promote", "green", "that it is not", "a promotion needs"),
    ):
        value, threshold = numbers.get(f"e_{key}"), numbers.get(f"threshold_{key}")
        if value is None or not threshold:
            continue
        words = f"evidence {what}: {_e(float(value))} (1 is none); {then} {float(threshold):g}"
        bar = _evidence_bar(float(value), float(threshold), style)
        rows.append((label, Group(bar, Text(words, style="dim"))))
    return rows


def _early(numbers: dict[str, Any]) -> list[tuple[str, RenderableType]]:
    """What is known without the judge model."""
    early = numbers.get("early")
    if early is None:
        return []
    value, threshold = float(early["e_rollback"]), float(early["threshold_rollback"])
    words = (
        f"evidence without the judge model: {_e(value)} (1 is none); it is rolled back at "
        f"{threshold:g}"
    )
    bar = _evidence_bar(value, threshold, "red")
    return [("early: worse?", Group(bar, Text(words, style="dim")))]


def _evidence_bar(value: float, threshold: float, style: str) -> Text:
    """Evidence on a logarithmic scale: empty at 1, where it says nothing, full at the threshold."""
    share = math.log(max(value, 1.0)) / math.log(threshold) if threshold > 1 else 1.0
    filled = round(WIDTH * min(1.0, share))
    return Text.assemble(("█" * filled, style), ("░" * (WIDTH - filled), "dim"))


def _times(view: RolloutView, now: float) -> list[tuple[int, str]]:
    parts = [f"{_span(max(0.0, now - view.created_at))} since its beginning"]
    more = None if view.verdict is None else view.verdict.numbers.get("expected_more_units")
    if view.state in ("judging", "watching") and more is not None:
        parts.append(f"about {more:,} more units to a verdict{_at_rate(view, now, int(more))}")
    if view.time_left_s is not None:
        parts.append(f"{_span(view.time_left_s)} left until its deadline")
    return list(enumerate(parts))


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


def _points(rate: float) -> str:
    return f"{100 * rate:+.1f}"


def _e(value: float) -> str:
    return f"{value:,.2f}" if value < 1000 else f"{value:.1e}"
