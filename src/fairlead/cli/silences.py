"""`fairlead silences`: of which alerts nobody is told for a time, by whose word, and why."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fairlead.cli.listing import Listing
from fairlead.cli.options import (
    STATE_DEFAULT,
    ByOption,
    JsonOption,
    StateOption,
    client,
    print_found,
    print_json,
    say,
    table,
    who,
)
from fairlead.cli.spans import moment, seconds_of
from fairlead.control.watching.watch_views import SilenceRequest, SilenceView

app = typer.Typer(
    help="Tell nobody of some alerts for a time; they are shown all the same.",
    invoke_without_command=True,
)
COLOURS = {"active": "yellow", "pending": "cyan", "over": "dim"}


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="silences")


@app.callback()
def silences(
    ctx: typer.Context, state: StateOption = STATE_DEFAULT, as_json: JsonOption = False
) -> None:
    """Show the silences of now, of the future, and of the last day."""
    if ctx.invoked_subcommand is None:
        _list(state, as_json)


@app.command("list")
def list_silences(state: StateOption = STATE_DEFAULT, as_json: JsonOption = False) -> None:
    """Show the silences of now, of the future, and of the last day."""
    _list(state, as_json)


@app.command("add")
def add(
    matchers: Annotated[
        list[str],
        typer.Argument(
            help='Which alerts: service=bank, slo!=cost, replica=~"r[12]"; all must match.'
        ),
    ],
    lasts: Annotated[str, typer.Option("--for", help="For how long: 30min, 2h, 7d.")],
    why: Annotated[str, typer.Option("--why", help="The reason, for those who wonder.")],
    by: ByOption = None,
    begins: Annotated[
        str | None, typer.Option("--in", help="Begin after so long; now if not given.")
    ] = None,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Tell nobody of some alerts for a time."""
    since = None if begins is None else time.time() + seconds_of(begins, "--in")
    asked = SilenceRequest(list(matchers), who(by), why, seconds_of(lasts, "--for"), since)
    made = client(state).post(SilenceView, "silences", body=asked)
    if as_json:
        print_json(made)
        return
    say((made.id, "bold"), f" until {moment(made.until)} UTC: {' '.join(made.matchers)}")
    count = f"{made.alerts} alert{'' if made.alerts == 1 else 's'}"
    told = f"nobody is told of {count} now" if made.alerts else "it means no alert that fires now"
    say((f"  {told}; end it with: fairlead silences end {made.id}", "dim"))


@app.command("end")
def end(
    silence: Annotated[str, typer.Argument(help="Id of the silence.")],
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """End a silence now; what still fires is told."""
    ended = client(state).delete(SilenceView, "silences", silence)
    if as_json:
        print_json(ended)
        return
    say(f"{ended.id} is over: {' '.join(ended.matchers)}")


def _list(state: Path, as_json: bool) -> None:
    found = client(state).get(list[SilenceView], "silences")
    print_found(found, listing, as_json=as_json, nothing="there is no silence")


def listing(found: list[SilenceView]) -> Listing:
    """One line for each."""
    shown = table(
        "=silence", "=state", "alerts of", "=until (UTC)", "by", "~why", ">mutes",
        gives_way=("mutes", "by"),
    )  # fmt: skip
    for one in found:
        shown.add_row(
            one.id,
            Text(one.state, style=COLOURS.get(one.state, "")),
            " ".join(one.matchers),
            moment(one.until),
            one.by,
            one.why,
            str(one.alerts),
        )
    return shown
