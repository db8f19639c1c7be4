"""`fairlead probes`: do the providers still answer as they did?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from fairlead.cli.options import (
    STATE_DEFAULT,
    JsonOption,
    StateOption,
    ago,
    client,
    console,
    print_json,
    say,
)
from fairlead.control.probing.probe_views import ProbesView
from fairlead.domain.errors import NotFound
from fairlead.domain.release import short
from fairlead.probing.model import Change

app = typer.Typer(
    help="Do remote providers still answer as they did?", no_args_is_help=True,
)  # fmt: skip

COLOURS = {
    "changed": "red", "failing": "red", "held": "yellow", "reference": "dim", "watching": "green",
}  # fmt: skip
Service = Annotated[str, typer.Argument(help="Name of the service.")]


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="probes")


@app.command("show")
def show(
    service: Annotated[
        str | None, typer.Argument(help="Name of the service; all of them if not given.")
    ] = None,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show what the probes of the services' providers have found."""
    views = client(state).get(list[ProbesView], "probes")
    if service is not None:
        views = [view for view in views if view.service == service]
        if not views:
            raise NotFound(
                f"no release of {service!r} is probed",
                hint="declare `probes` in its manifest, and `fairlead ship` or `apply` it",
            )
    if as_json:
        print_json(views)
        return
    if not views:
        say(("no service is probed; see `probes` in the manifest", "dim"))
    for view in views:
        console.print(picture(view))


@app.command("accept")
def accept(
    service: Service, state: StateOption = STATE_DEFAULT, as_json: JsonOption = False
) -> None:
    """Take the answers that a provider gives now as the reference, and let it serve again."""
    _command(service, "accept", state, as_json)


@app.command("run")
def run(service: Service, state: StateOption = STATE_DEFAULT, as_json: JsonOption = False) -> None:
    """Begin the next round of probes now."""
    _command(service, "run", state, as_json)


def _command(service: str, command: str, state: Path, as_json: bool) -> None:
    view = client(state).post(ProbesView, "services", service, "probes", command)
    if as_json:
        print_json(view)
        return
    console.print(picture(view))


def probes_line(view: ProbesView) -> RenderableType:
    """What they show, on one line."""
    text = Text.assemble("  probes ", (view.state, COLOURS[view.state]))
    if view.change is not None:
        text.append(f": an unrequested release, found {ago(view.change.at)}", style="red")
        text.append("; its fallbacks answer" if view.is_diverted else "", style="red")
        text.append(f" (fairlead probes show {view.service})", style="dim")
    elif view.failing_since is not None:
        text.append(f": not answered, first {ago(view.failing_since)}: {view.failure}")
    elif view.held:
        text.append(f": {view.held}")
    else:
        text.append(
            f": {view.rounds:,} rounds of {view.cases}, evidence of a change "
            f"{view.evidence:,.2f} of {view.evidence_at:g}"
        )
    if view.trouble:
        text.append(f"\n  {view.trouble}", style="red")
    return text


def picture(view: ProbesView) -> RenderableType:
    """All that is known by a service's probes."""
    lines: list[RenderableType] = [
        Text.assemble(
            (view.service, "bold"), f"  {view.name} {short(view.release)}   ",
            ("candidate   " if view.role == "candidate" else "", "yellow"),
            (view.model, "cyan"), f" {view.fingerprint}".rstrip(),
        ),
        probes_line(view),
        Text(
            f"  asks {view.cases} cases of {short(view.suite)} every {view.interval_s:g} s; "
            f"{view.rounds:,} rounds, the first {view.reference_rounds} are the reference",
            style="dim",
        ),
        Text(_cost(view), style="dim"),
    ]  # fmt: skip
    lines += [Text(f"  {ago(note.at)}: {note.what}", style="yellow") for note in view.notes]
    if view.change is not None:
        lines += _change(view.change)
        lines.append(
            Text(
                f"  what to do: look at the answers; `fairlead probes accept {view.service}` takes "
                "them as the reference, or ship another release",
                style="dim",
            )
        )
    for change in view.accepted:
        lines.append(Text(f"  accepted: {ago(change.at)}: {change.why}", style="dim"))
    return Group(*lines)


def _cost(view: ProbesView) -> str:
    cap = "" if view.usd_per_day is None else f" of {view.usd_per_day:g}"
    return (
        f"  {view.sent_today:,} probes on their last day, {view.usd_today:.4f}{cap} USD; "
        f"{view.sent_in_all:,} in all, {view.usd_in_all:.4f} USD"
    )


def _change(change: Change) -> list[RenderableType]:
    lines: list[RenderableType] = [
        Text(f"  unrequested release {change.number}: {change.why}", style="red")
    ]
    if change.since is not None:
        lines.append(Text(f"    it came between {ago(change.since)} and {ago(change.at)}"))
    for each in change.differences:
        lines.append(Text(f"    {each.case}\n      was {each.before!r}\n      now {each.now!r}"))
    return lines
