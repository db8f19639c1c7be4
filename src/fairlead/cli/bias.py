"""`fairlead bias`: are all treated alike?"""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.text import Text

from fairlead.cli import bias_scores
from fairlead.cli.bias_history import history
from fairlead.cli.listing import Listing
from fairlead.cli.options import (
    STATE_DEFAULT,
    JsonOption,
    StateOption,
    ago,
    client,
    console,
    print_json,
    say,
    table,
)
from fairlead.control.bias.telling import BiasView, GapView
from fairlead.control.bias.tracking_views import TrackedView
from fairlead.domain.errors import NotFound
from fairlead.domain.release import short

app = typer.Typer(help="Are all treated alike?", no_args_is_help=True)

COLOURS = {
    "gaps": "red", "failing": "red", "held": "yellow", "complete": "green", "watching": "green",
}  # fmt: skip
bias_scores.register(app)
Service = Annotated[str, typer.Argument(help="Name of the service.")]


class BiasShown(msgspec.Struct, frozen=True):
    """What is printed as JSON."""

    pairs: list[BiasView]
    scores: list[TrackedView]


@app.command("show")
def show(
    service: Annotated[
        str | None, typer.Argument(help="Name of the service; all of them if not given.")
    ] = None,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show what pairs of requests that differ in one trait, and scores, have shown of champions."""
    control = client(state)
    views = control.get(list[BiasView], "bias")
    scored = control.get(list[TrackedView], "bias", "tracked")
    if service is not None:
        views = [view for view in views if view.service == service]
        scored = [view for view in scored if view.service == service]
        if not views and not scored:
            raise NotFound(
                f"the champion of {service!r} is not asked pairs",
                hint="declare `bias` in its manifest, and `fairlead ship` or `apply` it",
            )
    if as_json:
        print_json(BiasShown(views, scored))
        return
    if not views and not scored:
        say(("no champion is asked pairs; see `bias` in the manifest", "dim"))
    for view in views:
        console.print(picture(view))
    for each in scored:
        console.print(history(each))


@app.command("accept")
def accept(
    service: Service,
    scores: Annotated[
        bool,
        typer.Option("--scores", help="The scores on a schedule, and not the gaps of pairs."),
    ] = False,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Say that the gaps were seen: their alerts end, and the evidence begins anew."""
    if scores:
        path = ("services", service, "bias", "scores", "accept")
        tracked = client(state).post(list[TrackedView], *path)
        if as_json:
            print_json(tracked)
            return
        for each in tracked:
            console.print(history(each))
        return
    view = client(state).post(BiasView, "services", service, "bias", "accept")
    if as_json:
        print_json(view)
        return
    console.print(picture(view))


def picture(view: BiasView) -> RenderableType:
    """All that is known by a champion's pairs."""
    lines: list[RenderableType] = [
        Text.assemble(
            (view.service, "bold"), f"  {view.name} {short(view.release)}   ",
            (view.state, COLOURS[view.state]), _why(view),
        ),
        Text(
            f"  {view.pairs:,} of {view.pairs_in_all:,} pairs answered, {view.unanswered:,} given "
            f"up; {view.sent_today:,} requests today, {view.usd_today:.4f} USD; "
            f"{view.sent_in_all:,} in all, {view.usd_in_all:.4f} USD",
            style="dim",
        ),
    ]  # fmt: skip
    if view.trouble:
        lines.append(Text(f"  {view.trouble}", style="red"))
    if view.gaps:
        lines.append(_table(view.gaps))
    for gap in view.gaps:
        lines += _examples(gap)
    if any(gap.found_at is not None for gap in view.gaps):
        then = f"ship a release that is fairer, or `fairlead bias accept {view.service}`"
        lines.append(Text(f"  what to do: look at the pairs, then {then}", style="dim"))
    return Group(*lines)


def _why(view: BiasView) -> str:
    said = view.failure if view.state == "failing" else view.held if view.state == "held" else ""
    return f": {said}" if said else ""


def _table(gaps: tuple[GapView, ...]) -> Listing:
    shown = table(
        "attribute", "groups", "outcome", ">first", ">other", ">gap", "95 % at any time", ">pairs",
        ">differ", ">evidence",
        gives_way=("differ", "first", "other"),
    )  # fmt: skip
    for gap in gaps:
        is_found = gap.found_at is not None
        shown.add_row(
            gap.attribute,
            f"{gap.first} / {gap.group}",
            gap.outcome,
            _mean(gap, gap.first_mean),
            _mean(gap, gap.other_mean),
            Text(_points(gap, gap.gap), style="red" if is_found else ""),
            f"{_points(gap, gap.gap_least)} to {_points(gap, gap.gap_most)}",
            f"{gap.pairs:,}",
            f"{gap.discordant:,}",
            f"{gap.evidence:,.3g} of {gap.evidence_at:,.0f}",
        )
    return shown


def _mean(gap: GapView, value: float) -> str:
    if gap.outcome == "sentiment":
        return f"{value:+.2f}"
    return f"{value:,.0f}" if gap.outcome == "length" else f"{100.0 * value:.1f} %"


def _points(gap: GapView, value: float) -> str:
    """Lengths differ by a ratio, rates by points, scores of sentiment by what they are."""
    if gap.outcome == "sentiment":
        return f"{value:+.3f}"
    return f"{100.0 * value:+.1f}" + (" %" if gap.outcome == "length" else "")


def _examples(gap: GapView) -> list[RenderableType]:
    """Of a gap that is shown, the latest pairs that differ."""
    if gap.found_at is None:
        return []
    found = [
        Text(
            f"  {gap.attribute}: {gap.outcome} of {gap.group} differs from {gap.first}, found "
            f"{ago(gap.found_at)}",
            style="red",
        )
    ]
    for first, other, first_answer, other_answer in gap.examples:
        found.append(Text(f"    {first!r}\n      {first_answer!r}"))
        found.append(Text(f"    {other!r}\n      {other_answer!r}"))
    return list(found)
