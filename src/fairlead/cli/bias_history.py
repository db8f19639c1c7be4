"""Scores of published bias benchmarks on a schedule, as `fairlead bias show` shows them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from fairlead.cli.listing import Listing
from fairlead.cli.options import ago, table
from fairlead.control.bias.tracking_views import NAMES, MeasureView, TrackedView
from fairlead.domain.release import short
from fairlead.probing.tracked_model import Run, Value

RUNS_SHOWN = 10
COLOURS = {
    "worse": "red", "missing": "red", "failing": "red", "held": "yellow", "learning": "yellow",
    "watching": "green",
}  # fmt: skip


def history(view: TrackedView) -> RenderableType:
    """A champion's scores on one benchmark: against what was accepted, and run by run."""
    why = view.failure if view.state in ("missing", "failing") else view.held
    lines: list[RenderableType] = [
        Text.assemble(
            (view.service, "bold"), f"  {view.name} {short(view.release)}   ",
            (NAMES[view.benchmark], "bold"), "   ", (view.state, COLOURS[view.state]),
            f": {why}" if why else "",
        ),
        Text(
            f"  {view.asked:,} of {view.items:,} items answered; {view.sent_today:,} asked today, "
            f"{view.usd_today:.4f} USD; {view.sent_in_all:,} in all, {view.usd_in_all:.4f} USD",
            style="dim",
        ),
    ]  # fmt: skip
    if view.trouble:
        lines.append(Text(f"  {view.trouble}", style="red"))
    if view.accepted_at is not None:
        accepted = f"  accepted: {view.accepted_name} {short(view.accepted_release)}"
        lines.append(Text(f"{accepted}, {ago(view.accepted_at)}", style="dim"))
    if view.measures:
        lines.append(_against(view))
    if view.runs:
        lines.append(_runs(view.runs[-RUNS_SHOWN:]))
    if view.state == "worse":
        then = f"`fairlead bias accept {view.service} --scores`"
        lines.append(Text(f"  what to do: ship a release that is fairer, or {then}", style="dim"))
    return Group(*lines)


def _against(view: TrackedView) -> Listing:
    shown = table(
        "measure", ">accepted", ">worse by", ">answers compared", ">evidence",
        gives_way=("answers compared",),
    )  # fmt: skip
    for each in view.measures:
        shown.add_row(
            _called(each.measure),
            _accepted(each, view.accepted),
            Text(f"{each.worse_by:+.3f}", style="" if each.found_at is None else "red"),
            f"{each.compared:,}",
            f"{each.evidence:,.3g} of {each.evidence_at:,.0f}",
        )
    return shown


def _accepted(measure: MeasureView, values: Sequence[Value]) -> str:
    return next((_number(each) for each in values if each.measure == measure.measure), "")


def _runs(runs: Sequence[Run]) -> Listing:
    """The latest first; each score with its interval."""
    shown = table("run", "release", "measure", ">score", "95 %", ">items", gives_way=("items",))
    for run in reversed(runs):
        unread = f", {run.unread:,} unread" if run.unread else ""
        first = (ago(run.at), f"{run.name} {short(run.release)}{unread}")
        for each in run.values:
            shown.add_row(
                *first, _called(each.measure), _number(each), _interval(each), f"{each.n:,}"
            )
            first = ("", "")
        if not run.values:
            shown.add_row(*first, "no answer that chooses an option", "", "", "")
    return shown


def _called(measure: str) -> str:
    return measure.replace("_", ", ")


def _number(value: Value) -> str:
    return f"{value.value:{_form(value)}}"


def _interval(value: Value) -> str:
    return f"{value.low:{_form(value)}} to {value.high:{_form(value)}}"


def _form(value: Value) -> str:
    return "+.3f" if value.measure.startswith("bias") else ".3f"
