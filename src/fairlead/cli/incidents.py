"""`fairlead incidents`: what went wrong, told from the first alert to the resolution."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fairlead.cli.alerts import severity_text
from fairlead.cli.listing import Listing
from fairlead.cli.options import (
    STATE_DEFAULT,
    ByOption,
    JsonOption,
    ServiceOption,
    StateOption,
    ago,
    client,
    console,
    print_found,
    print_json,
    say,
    table,
    who,
)
from fairlead.cli.writing import write_file
from fairlead.control.watching.watch_views import (
    CloseRequest,
    IncidentSummary,
    IncidentView,
    MergeRequest,
    NoteRequest,
)
from fairlead.monitoring.postmortem import named, span

app = typer.Typer(
    help="What went wrong, from the first alert to the resolution.", invoke_without_command=True
)
Number = Annotated[int, typer.Argument(min=0, help="Number of the incident.")]
COLOURS = {"open": "red", "quiet": "yellow", "closed": "green"}


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="incidents")


@app.callback()
def incidents(
    ctx: typer.Context,
    service: ServiceOption = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that are closed.")] = False,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show the incidents that go on, the newest first."""
    if ctx.invoked_subcommand is not None:
        return
    found = client(state).get(
        list[IncidentSummary], "incidents", service=service, all=1 if every else None
    )
    print_found(
        found, lambda incidents: listing(incidents, time.time()), as_json=as_json,
        nothing="there was no incident" if every else "no incident goes on", style="green",
    )  # fmt: skip


@app.command("show")
def show(number: Number, state: StateOption = STATE_DEFAULT, as_json: JsonOption = False) -> None:
    """Show one incident as a post-mortem."""
    _show(client(state).get(IncidentView, "incidents", str(number)), as_json)


@app.command("export")
def export(
    number: Number,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; standard output if not given.")
    ] = None,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Write one incident as a Markdown page, or as JSON."""
    from fairlead.cli.api import as_json as json_of

    found = client(state).get(IncidentView, "incidents", str(number))
    text = json_of(found) + "\n" if as_json else found.page
    if out is None:
        typer.echo(text, nl=False)
        return
    write_file(out, text.encode())
    say(f"{out}: incident {found.summary.number}")


@app.command("close")
def close(
    number: Number,
    words: Annotated[str, typer.Option("--words", help="What it was, and what helped.")],
    by: ByOption = None,
    force: Annotated[bool, typer.Option("--force", help="Also while its alerts fire.")] = False,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Close an incident."""
    asked = CloseRequest(who(by), words, force)
    _said(client(state).post(IncidentView, "incidents", str(number), "close", body=asked), as_json)


@app.command("note")
def note(
    number: Number,
    words: Annotated[str, typer.Option("--words", help="What should be in its timeline.")],
    by: ByOption = None,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Put words into an incident's timeline, also after its end."""
    asked = NoteRequest(who(by), words)
    _said(client(state).post(IncidentView, "incidents", str(number), "note", body=asked), as_json)


@app.command("merge")
def merge(
    number: Number,
    other: Annotated[int, typer.Argument(min=0, help="Number of the other incident.")],
    by: ByOption = None,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Make the younger of two incidents with one cause part of the older one."""
    asked = MergeRequest((number, other), who(by))
    _said(client(state).post(IncidentView, "incidents", "merge", body=asked), as_json)


def _show(view: IncidentView, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    from rich.markdown import Markdown

    console.print(Markdown(view.page))


def _said(view: IncidentView, as_json: bool) -> None:
    """What became of an incident by a person's word."""
    if as_json:
        print_json(view)
        return
    one = view.summary
    say(f"incident {one.number} is ", (one.state, COLOURS.get(one.state, "")), f": {one.title}")
    last = view.timeline[-1] if view.timeline else None
    if last is not None:
        say((f"  {last.what}{f' (by {last.by})' if last.by else ''}", "dim"))


def listing(found: list[IncidentSummary], now: float) -> Listing:
    """One line for each."""
    shown = table(
        ">incident", "=state", "=severity", "services", "~what", "=began", "=lasted", ">alerts",
        gives_way=("alerts", "lasted"),
    )  # fmt: skip
    for one in found:
        state = one.state if one.merged_into is None else f"part of {one.merged_into}"
        ended = now if one.ended_at is None else one.ended_at
        shown.add_row(
            str(one.number),
            Text(state, style=COLOURS.get(one.state, "")),
            severity_text(one.severity),
            named(one.services),
            one.title,
            ago(one.opened_at),
            span(ended - one.opened_at),
            f"{one.firing} of {one.alerts}" if one.state != "closed" else str(one.alerts),
        )
    return shown
