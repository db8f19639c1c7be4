"""`fairlead monitor list`, `accept`, `cases`, `actions`: monitors, and what was decided."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fairlead.app.state import StatePaths
from fairlead.cli.listing import Listing
from fairlead.cli.options import (
    STATE_DEFAULT,
    JsonOption,
    ServiceOption,
    StateOption,
    ago,
    client,
    print_found,
    print_json,
    say,
    table,
)
from fairlead.cli.vectors import vectors_said
from fairlead.cli.writing import case_lines, write_file
from fairlead.control.views import Noted
from fairlead.control.watching.watch_views import ActionView, MonitorView
from fairlead.domain.release import short
from fairlead.monitoring.monitors.interface import SuggestedCase

VERDICTS = {"act": "bold red", "dry_run": "yellow"}


def register(app: typer.Typer) -> None:
    app.command("list")(list_monitors)
    app.command("accept")(accept)
    app.command("actions")(actions)
    app.command("cases")(cases)


def list_monitors(
    service: ServiceOption = None, state: StateOption = STATE_DEFAULT, as_json: JsonOption = False
) -> None:
    """Show the monitors, and how far each of them is."""
    found = client(state).get(list[MonitorView], "monitors", service=service)
    nothing = "nothing is monitored yet: no service has a champion"
    if print_found(found, monitors_listing, as_json=as_json, nothing=nothing):
        for line in vectors_said(found, StatePaths(state)):
            say((line, "dim"))


def accept(
    service: Annotated[str, typer.Argument(help="Name of the service.")],
    monitor: Annotated[str, typer.Argument(help="Name of the monitor.")],
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Take what a monitor tells now as what should be; most learn anew for that."""
    noted = client(state).post(Noted, "monitors", service, monitor, "accept")
    if as_json:
        print_json(noted)
    else:
        say(noted.said)


def actions(
    service: ServiceOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 50,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show what was decided to be done about alerts, and what came of it, the newest first."""
    found = client(state).get(list[ActionView], "actions", service=service, limit=limit)
    nothing = "nothing was decided within the last week"
    print_found(found, actions_listing, as_json=as_json, nothing=nothing)


def cases(
    service: Annotated[str, typer.Argument(help="Name of the service.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; standard output if not given.")
    ] = None,
    state: StateOption = STATE_DEFAULT,
) -> None:
    """Write what a service's suites lack, by what has drifted, as cases without an answer.

    Say in `expected` what the right answer is, add them to a gate's suite, and ship.
    """
    found = client(state).get(list[SuggestedCase], "monitors", service, "cases")
    lines = case_lines(found)
    if out is None:
        typer.echo(lines, nl=False)
        return
    write_file(out, lines)
    say(f"{out}: {len(found)} cases; say in `expected` what the right answers are")


def monitors_listing(found: list[MonitorView]) -> Listing:
    """One line for each."""
    shown = table(
        "=monitor", "service", "=release", "standing", ">requests", "=seen until", "=self-test",
        ">alerts", gives_way=("self-test", "requests", "release"),
    )  # fmt: skip
    for one in found:
        standing = Text(one.standing)
        if one.trouble:
            standing.append(f": {one.trouble}", style="red")
        shown.add_row(
            one.monitor,
            one.service,
            short(one.release) if one.release else "",
            standing,
            f"{one.requests:,}",
            ago(one.seen_until) if one.seen_until else "nothing yet",
            ago(one.self_tested_at) if one.self_tested_at else "none yet",
            Text(str(one.alerts), style="red" if one.alerts else "dim"),
        )
    return shown


def actions_listing(found: list[ActionView]) -> Listing:
    """One line for each."""
    shown = table(
        "=when", "service", "=action", "=verdict", "=alert", "why", "what came of it",
        gives_way=("alert",),
    )  # fmt: skip
    for one in found:
        outcome = one.outcome or ("not carried out yet" if one.verdict == "act" else "")
        shown.add_row(
            ago(one.at),
            one.service,
            one.kind,
            Text(one.verdict, style=VERDICTS.get(one.verdict, "dim")),
            one.alert[:8],
            one.reason,
            outcome,
        )
    return shown
