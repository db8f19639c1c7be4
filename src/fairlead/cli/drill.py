"""`fairlead drill`: is a bad release caught?"""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.text import Text

from fairlead.cli.api import ControlClient
from fairlead.cli.options import (
    STATE_DEFAULT,
    JsonOption,
    ServiceOption,
    StateOption,
    ago,
    client,
    console,
    print_json,
    say,
    stderr,
    table,
)
from fairlead.control.drill.drill_views import DrillRequest, DrillsView, DrillView
from fairlead.control.views import StatusView
from fairlead.domain.errors import InvalidInput, Unavailable
from fairlead.domain.fault import KINDS
from fairlead.domain.wording import count_of

app = typer.Typer(
    help="Ship a release that is bad on purpose, and see whether it is caught.",
    invoke_without_command=True,
)

POLL_S = 0.5
AWAY_S_MAX = 60.0
EXIT_CODES = {"caught": 0, "missed": 1, "ended": 10}
COLOURS = {"caught": "bold green", "missed": "bold red", "ended": "yellow", "running": "cyan"}


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="drill")


@app.callback()
def drill(
    ctx: typer.Context,
    fault: Annotated[
        str | None, typer.Option("--fault", help=f"What is bad: {', '.join(KINDS)}.")
    ] = None,
    service: ServiceOption = None,
    share: Annotated[
        str | None,
        typer.Option("--share", help="Share of the units that may meet it. [default: 5%]"),
    ] = None,
    harm: Annotated[
        int, typer.Option("--harm", help="Requests that may be served badly at most.")
    ] = 20,
    rate: Annotated[
        float, typer.Option("--rate", help="Probability with which an answer is met.")
    ] = 1.0,
    delay_ms: Annotated[
        float, typer.Option("--delay-ms", help="How much later a slow answer begins.")
    ] = 2_000.0,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Copies of requests meet it, and no client.")
    ] = False,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Ship a release that is bad on purpose, follow it, and report how it was caught.

    The release is the champion with a fault that the gateway puts into its answers. It takes no
    replica, and is never promoted. Exit code 0: caught; 1: missed; 10: ended for another reason.
    """
    if ctx.invoked_subcommand is not None:
        return
    kind = next((known for known in KINDS if known == fault), None)
    if kind is None:
        raise InvalidInput(f"--fault: must be one of {', '.join(KINDS)}, not {fault!r}")
    control = client(state)
    request = DrillRequest(kind, rate, delay_ms, _share(share), harm, shadow)
    view = control.post(DrillView, "services", _service(control, service), "drills", body=request)
    if not as_json:
        say(f"drill {view.id}: ", (view.fault.kind, "bold"), f" on {view.service}")
        for note in view.notes:
            say((f"  {note}", "yellow"))
    view = _follow(control, view)
    if as_json:
        print_json(view)
    else:
        report(view)
    raise typer.Exit(EXIT_CODES[view.result])


@app.command("history")
def history(
    service: ServiceOption = None, state: StateOption = STATE_DEFAULT, as_json: JsonOption = False
) -> None:
    """Show the drills of before, the newest first."""
    query = {} if service is None else {"service": service}
    views = client(state).get(list[DrillView], "drills", **query)
    if as_json:
        print_json(views)
        return
    shown = table("drill", "service", "fault", "result", "by", ">requests", ">users", ">s", "when")
    for view in views:
        shown.add_row(
            view.id,
            view.service,
            f"{view.fault.kind}{' (shadow)' if view.shadow else ''}",
            Text(view.result, style=COLOURS[view.result]),
            view.by,
            f"{view.copies if view.shadow else view.requests:,}",
            f"{view.users:,}",
            "" if view.seconds is None else f"{view.seconds:,.0f}",
            ago(view.created_at),
        )
    console.print(shown)


def report(view: DrillView) -> None:
    """What became of a drill."""
    by = f" by {view.by}" if view.by else ""
    took = "" if view.seconds is None else f" after {view.seconds:,.1f} s"
    say((view.result, COLOURS[view.result]), f"{by}{took}")
    if view.shadow:
        say(f"  {view.copies:,} copies met it, and no client")
    else:
        expected = "none" if view.expected_requests is None else f"{view.expected_requests:,}"
        requests, users = count_of(view.requests, "request"), count_of(view.users, "user")
        say(
            f"  {requests} of {users} met it, of {view.harm:,} allowed; the forecast for a release "
            f"worse by two margins is {expected}"
        )
    say((f"  {view.reason}", "dim"))
    if view.advice:
        say("  what to do: ", view.advice)


def drill_lines(view: DrillsView) -> list[Text]:
    """A service's drills in its status."""
    lines = [Text(f"  ALARM: {said}", style="bold red") for said in view.missed.values()]
    if view.running is not None:
        lines.append(Text(f"  drill {view.running.id}: {view.running.fault.kind}, under way"))
    elif view.last and view.last not in view.missed.values():
        lines.append(Text(f"  {view.last}", style="dim"))
    if view.next_at is not None:
        due = time.strftime("%Y-%m-%d %H:%M", time.gmtime(view.next_at))
        lines.append(Text(f"  next drill {due} UTC", style="dim"))
    return lines


def _share(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise InvalidInput(f"--share: {text!r} is no share such as 5% or 0.05") from None
    return share


def _service(control: ControlClient, name: str | None) -> str:
    if name is not None:
        return name
    served = [s.name for s in control.get(StatusView, "status").services if s.champion]
    if len(served) == 1:
        return served[0]
    raise InvalidInput(
        f"--service: which one? {', '.join(served) or 'no service has a champion'}",
    )


def _follow(control: ControlClient, view: DrillView) -> DrillView:
    """Wait until it has ended; survives a restart of control."""
    ended = ("rolled_back", "failed", "aborted")
    try:
        while view.state not in ended:
            time.sleep(POLL_S)
            view = _poll(control, view.id)
    except KeyboardInterrupt:
        say(f"{view.id} goes on; see `fairlead drill history`", to=stderr)
        raise
    return view


def _poll(control: ControlClient, drill: str) -> DrillView:
    until = time.monotonic() + AWAY_S_MAX
    while True:
        try:
            return control.get(DrillView, "drills", drill)
        except Unavailable:
            if time.monotonic() > until:
                raise
            time.sleep(POLL_S)
