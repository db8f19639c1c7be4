"""Follows a rollout in the terminal: gates, split, evidence, verdict."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.live_render import VerticalOverflowMethod
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fairlead.cli.api import ControlClient
from fairlead.cli.options import STATE_DEFAULT, console, say, state_words, stderr
from fairlead.cli.queries import query_line
from fairlead.control.views import RolloutView, ShadowView
from fairlead.domain.errors import Unavailable
from fairlead.domain.release import short
from fairlead.domain.verdicts import GateOutcome, RolloutVerdict
from fairlead.rollout.plan import percent

POLL_S = 0.3
CONTROL_AWAY_S_MAX = 60.0

EXIT_CODES = {
    "promoted": 0,
    "gates_passed": 0,
    "gate_failed": 3,
    "rolled_back": 4,
    "aborted": 10,
    "failed": 10,
}
OUTCOME_STYLES = {
    "promoted": "bold green",
    "gates_passed": "bold green",
    "rolled_back": "bold yellow",
    "gate_failed": "bold red",
    "aborted": "bold red",
    "failed": "bold red",
}


def exit_code_of(view: RolloutView) -> int:
    """The exit code that says how a finished rollout ended."""
    return EXIT_CODES.get(view.outcome, 1)


def follow(
    control: ControlClient, rollout: str, *, quiet: bool = False, state: Path = STATE_DEFAULT
) -> RolloutView:
    """Show a rollout live (unless `quiet`) until it has ended; survives a restart of control.

    Ctrl-C ends the following alone: it is said that the rollout goes on, and what to type.
    """
    try:
        return _follow(control, rollout, quiet=quiet)
    except KeyboardInterrupt:
        say(f"{rollout} goes on without this terminal", to=stderr)
        for command, what in (("follow", "follow it again"), ("abort", "give it up")):
            typed = f"fairlead rollout {command} {rollout}{state_words(state)}"
            say((f"  {what}: ", "dim"), typed, to=stderr, whole=True)
        raise


def _follow(control: ControlClient, rollout: str, *, quiet: bool) -> RolloutView:
    view = control.get(RolloutView, "rollouts", rollout)
    if quiet:
        while view.outcome == "running":
            time.sleep(POLL_S)
            view = poll(control, rollout)
        return view
    with live(panel(view), refresh_per_second=6) as shown:
        while view.outcome == "running":
            time.sleep(POLL_S)
            view = poll(control, rollout)
            shown.update(panel(view))
    return view


@contextmanager
def live(
    renderable: RenderableType,
    *,
    refresh_per_second: float,
    overflow: VerticalOverflowMethod = "ellipsis",
) -> Iterator[Live]:
    """Rich's live display, which outside a terminal leaves its last line without an end."""
    try:
        with Live(
            renderable,
            console=console,
            refresh_per_second=refresh_per_second,
            vertical_overflow=overflow,
        ) as shown:
            yield shown
    finally:
        if not console.is_terminal:
            console.line()


def poll(control: ControlClient, rollout: str) -> RolloutView:
    """The rollout as control has it now; a control that is away for a while is waited for."""
    deadline = time.monotonic() + CONTROL_AWAY_S_MAX
    while True:
        try:
            return control.get(RolloutView, "rollouts", rollout)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)


def panel(view: RolloutView, *, is_brief: bool = False) -> RenderableType:
    """A rollout as a few lines of text and bars; `is_brief` where reasons are told elsewhere."""
    lines: list[RenderableType] = [_headline(view)]
    names = dict.fromkeys([g.gate for g in view.gates] + [v.gate for v in view.gate_verdicts])
    lines += [gate_line(view, name, is_brief=is_brief) for name in names]
    if view.shadow is not None and (view.shadow.copies or view.state == "shadowing"):
        lines.append(shadow_line(view.shadow))
    if view.verdict is not None:
        lines.append(evidence(view))
    lines += [Text.assemble(f"  {query.kind} ", query_line(query)) for query in view.queries]
    if view.awaits:
        lines.append(Text(f"  waits for {view.awaits}", style="yellow"))
    if view.held:
        lines.append(Text(f"  held by the freeze {view.held!r}", style="yellow"))
    if view.waiting and view.outcome == "running":
        lines.append(Text(f"  {view.waiting}", style="yellow"))
    if view.outcome != "running":
        style = OUTCOME_STYLES.get(view.outcome, "bold")
        why = brief(_unsaid(view)) if is_brief else _unsaid(view)
        lines.append(Text(f"  {view.outcome.replace('_', ' ')}: {why}", style=style))
        if view.advice and not is_brief:
            lines.append(Text(f"  what to do: {view.advice}", style="dim"))
    return Group(*lines)


def brief(reason: str) -> str:
    """The first thing that a reason says, without what it says in brackets."""
    return re.sub(r" \([^()]*\)", "", reason.partition(";")[0])


def _unsaid(view: RolloutView) -> str:
    """Why it ended, without what its gates' lines say already."""
    reason = view.reason
    for verdict in view.gate_verdicts:
        reason = reason.removesuffix(f": {verdict.reason}")
    return reason


def _headline(view: RolloutView) -> Text:
    line = Text.assemble(
        ("release ", "dim"), (view.name, "bold"), f" {short(view.release)}", ("  of  ", "dim"),
        view.service, ("   ", ""), (view.state + (" (paused)" if view.paused else ""), "cyan"),
    )  # fmt: skip
    if view.share > 0:
        if view.steps and view.state not in ("switching", "watching"):
            line.append(f"   step {min(view.step + 1, view.steps)}/{view.steps}")
        line.append(f"   canary {percent(view.share)}", style="yellow")
        line.append(f"  champion {percent(1 - view.share)}", style="green")
        if view.served is not None:
            line.append(f"   {view.served:,} requests served")
    return line


def gate_line(view: RolloutView, name: str, *, is_brief: bool = False) -> RenderableType:
    """A gate's bar while it runs, its verdict when it is there."""
    done = next((g for g in view.gate_verdicts if g.gate == name), None)
    if done is not None:
        good = done.outcome is GateOutcome.PASS
        return Text.assemble(
            "  gate ", (name, "bold"), " ",
            (done.outcome.value, "bold green" if good else "bold red"),
            f"  {brief(done.reason) if is_brief else done.reason}",
        )  # fmt: skip
    progress = next(g for g in view.gates if g.gate == name)
    row = Table.grid(padding=(0, 1))
    row.add_row(
        Text.assemble("  gate ", (name, "bold")),
        ProgressBar(total=max(1, progress.total), completed=progress.done, width=30),
        Text(f"{progress.done}/{progress.total} cases, mean {progress.mean:.3f}"),
    )
    return row


def shadow_line(shadow: ShadowView) -> Text:
    """What became of the copies of requests, each beside its live request, and what that shows."""
    text = Text.assemble(
        "  shadow ", (f"{shadow.share:.0%} of the requests copied", "dim"),
        f"  {shadow.copies:,} pairs from {shadow.units:,} units of {shadow.requests:,}; failed: ",
        (f"{shadow.failed:,} only the copy", "red" if shadow.failed else "green"),
        f", {shadow.live_failed:,} only the live request",
    )  # fmt: skip
    if shadow.late:
        text.append(f"; {shadow.late:,} not counted, both too late", style="yellow")
    if shadow.unknown:
        text.append(f"; {shadow.unknown:,} given up on a side", style="yellow")
    text.append(
        f"\n  evidence worse {_e(shadow.e_worse)} of {shadow.e_worse_at:g}, "
        f"not worse {_e(shadow.e_not_worse)} of {shadow.e_not_worse_at:g}",
        style="red" if shadow.e_worse >= shadow.e_not_worse_at else "",
    )
    if shadow.timed:
        text.append(
            f"\n  the copy was slower in {shadow.slower / shadow.timed:.0%} of {shadow.timed:,} "
            "pairs (not judged: its replicas carry another load)",
            style="dim",
        )
    return text


def evidence(view: RolloutView) -> RenderableType:
    """The judge's numbers: failure rates by arm, and both kinds of evidence as bars."""
    assert view.verdict is not None
    numbers = view.verdict.numbers
    grid = Table.grid(padding=(0, 1))
    for arm, style in (("champion", "green"), ("canary", "yellow")):
        counts: dict[str, Any] = numbers.get(arm, {})
        units = counts.get("units", 0)
        rate = counts.get("rate")
        grid.add_row(
            Text(f"  {arm}", style=style),
            Text(f"{units:,} units" + ("" if rate is None else f", {rate:.1%} failed")),
        )
    for label, key, style in (
        ("worse", "rollback", "red"), ("not worse", "promote", "green"),
    ):  # fmt: skip
        value = numbers.get(f"e_{key}")
        threshold = numbers.get(f"threshold_{key}")
        if value is None or not threshold:
            continue
        grid.add_row(
            Text(f"  {label}"),
            Group(evidence_bar(value, threshold, style)),
            Text(f"evidence {_e(value)} of {threshold:g}"),
        )
    return grid


def evidence_bar(value: float, threshold: float, style: str, width: int = 30) -> ProgressBar:
    """Evidence on a logarithmic scale: empty at E <= 1, full at the threshold."""
    share = math.log(max(value, 1.0)) / math.log(threshold) if threshold > 1 else 1.0
    return ProgressBar(
        total=1.0, completed=min(1.0, share), width=width, complete_style=style,
        finished_style=f"bold {style}",
    )  # fmt: skip


def verdict_text(verdict: RolloutVerdict) -> Text:
    """The verdict in words with its difference and interval."""
    numbers = verdict.numbers
    text = Text(f"verdict {verdict.outcome.value}: {verdict.reason}")
    difference, low, high = (numbers.get(key) for key in ("difference", "ci_low", "ci_high"))
    if difference is not None and low is not None and high is not None:
        text.append(
            f"\n  difference canary - champion {difference:+.1%}, "
            f"between {low:+.1%} and {high:+.1%} with "
            f"{numbers.get('ci_confidence', 0.95):.0%} confidence",
            style="dim",
        )
    return text


def _e(value: float) -> str:
    return f"{value:,.2f}" if value < 1000 else f"{value:.1e}"
