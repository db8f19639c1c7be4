"""`fairlead alerts`: what is wrong now, by which figures, and what changed near it."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from fairlead.cli.listing import Listing
from fairlead.cli.options import (
    STATE_DEFAULT,
    JsonOption,
    ServiceOption,
    StateOption,
    client,
    console,
    print_found,
    print_json,
    table,
)
from fairlead.cli.spans import clock, moment
from fairlead.control.watching.watch_views import AlertView
from fairlead.domain.errors import InvalidInput
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Figure, readable
from fairlead.monitoring.course import sparkline
from fairlead.monitoring.plain import one_line
from fairlead.monitoring.postmortem import span
from fairlead.monitoring.runbooks import said

app = typer.Typer(help="What is wrong now, and why that is thought.", invoke_without_command=True)

NAME_SHOWN = 8
"""Digits of a fingerprint in lists; they are enough to name it."""

WIDTH = 32
"""Columns of a bar; the limit stands at two thirds, or the value where that is farther."""

STYLES = {Severity.PAGE: "bold red", Severity.TICKET: "yellow", Severity.INFO: "dim"}


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="alerts")


@app.callback()
def alerts(
    ctx: typer.Context,
    service: ServiceOption = None,
    severity: Annotated[
        str | None, typer.Option("--severity", help="Only page, ticket or info.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also what does not fire yet, and what is over.")
    ] = False,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show the alerts that fire, the gravest first."""
    if ctx.invoked_subcommand is not None:
        return
    if severity is not None and severity not in tuple(Severity):
        raise InvalidInput(f"--severity: must be one of {', '.join(Severity)}, not {severity!r}")
    found = client(state).get(
        list[AlertView], "alerts", service=service, severity=severity,
        state="all" if every else None,
    )  # fmt: skip
    print_found(
        found, lambda alerts: listing(alerts, time.time()), as_json=as_json,
        nothing="there is no alert" if every else "no alert fires", style="green",
    )  # fmt: skip


@app.command("show")
def show(
    alert: Annotated[str, typer.Argument(help="Its fingerprint, or the beginning of it.")],
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show one alert: its figures, their course, what changed near it, and its history."""
    found = client(state).get(AlertView, "alerts", alert)
    if as_json:
        print_json(found)
        return
    console.print(picture(found, time.time()))


def listing(found: list[AlertView], now: float) -> Listing:
    """One line for each."""
    shown = table(
        "=alert", "=severity", "=state", "~what", "=for", "=course", "=incident",
        gives_way=("course", "incident"),
    )  # fmt: skip
    for one in found:
        state = f"{one.state}, silenced" if one.silence is not None else one.state
        shown.add_row(
            one.fingerprint[:NAME_SHOWN],
            severity_text(one.severity),
            Text(state, style="" if one.state == "firing" else "dim"),
            one.summary,
            _lasted(one, now),
            sparkline(one.course, 12),
            "" if one.incident is None else str(one.incident),
        )
    return shown


def severity_text(severity: str) -> Text:
    """The severity in its colour."""
    return Text(
        severity, style=STYLES.get(Severity(severity), "") if severity in tuple(Severity) else ""
    )


def _lasted(alert: AlertView, now: float) -> str:
    return span((alert.entered_at if alert.state == "resolved" else now) - alert.first_seen)


def alert_line(alert: AlertView, now: float) -> Text:
    """It on one line, as the status has it."""
    return Text.assemble(
        severity_text(alert.severity), f" {alert.summary}", (f"  for {_lasted(alert, now)}", "dim"),
        *([(", silenced", "dim")] if alert.silence is not None else []),
        (f"  (fairlead alerts show {alert.fingerprint[:NAME_SHOWN]})", "dim"),
    )  # fmt: skip


def picture(alert: AlertView, now: float) -> RenderableType:
    """All that is known of it."""
    labels = ", ".join(f"{name} {value}" for name, value in sorted(alert.labels.items()))
    lines: list[RenderableType] = [
        Text.assemble(severity_text(alert.severity), "  ", (alert.summary, "bold")),
        Text(f"  {_state(alert, now)}"),
        Text(f"  alert {alert.fingerprint}: {labels}", style="dim"),
    ]
    if alert.incident is not None:
        lines.append(Text(f"  part of incident {alert.incident}: fairlead incidents show "
                          f"{alert.incident}", style="dim"))  # fmt: skip
    if alert.silence is not None:
        lines.append(Text(f"  silenced until {moment(alert.silence.until)} UTC by "
                          f"{alert.silence.by} ({alert.silence.id}): {alert.silence.why}",
                          style="yellow"))  # fmt: skip
    lines += _evidence(alert)
    lines += [Text("what it is about", style="bold"), *_quotes(alert)] if alert.quotes else []
    lines += [Text("what changed near it", style="bold"), *_causes(alert)]
    lines += [Text("history (UTC)", style="bold"), *_history(alert)]
    if alert.runbook:
        lines.append(Text.assemble(("runbook ", "bold"), said(alert.runbook)))
    return Group(*lines)


def _state(alert: AlertView, now: float) -> str:
    took = _lasted(alert, now)
    if alert.state == "resolved":
        return f"over since {moment(alert.entered_at)} UTC, after {took}"
    words = f"{alert.state}, first seen {moment(alert.first_seen)} UTC, {took} ago"
    if alert.away_since is not None:
        left = max(0.0, alert.keep_s - (now - alert.away_since))
        words += f"; its condition is away since {clock(alert.away_since)}, over in {span(left)}"
    if alert.returns:
        words += f"; it came back {alert.returns} time{'s' if alert.returns > 1 else ''}"
    return words


def _evidence(alert: AlertView) -> list[RenderableType]:
    """Each figure with its limit, and the course of the first one."""
    if not alert.evidence:
        return []
    grid = Listing("=evidence", "=", "", gives_way=("",))
    for figure in alert.evidence:
        grid.add_row(figure.name, bar(figure), _value(figure))
    lines: list[RenderableType] = [grid]
    if len(alert.course) > 1:
        values = [value for _, value in alert.course]
        lines.append(
            Text.assemble(
                (f"{alert.evidence[0].name}: ", "dim"), (sparkline(alert.course, 60), "cyan"),
                (f"  {clock(alert.course[0][0])} to {clock(alert.course[-1][0])} UTC, from "
                 f"{readable(min(values))} to {readable(max(values))}", "dim"),
            )
        )  # fmt: skip
    return lines


def _value(figure: Figure) -> str:
    return figure.words[len(figure.name) + 2 :]


def bar(figure: Figure) -> Text:
    """The value beside its limit, from 0; empty where there is no limit above 0."""
    limit = figure.limit
    if limit is None or limit <= 0.0 or figure.value < 0.0:
        return Text("")
    most = max(figure.value, limit * 1.5)
    filled, mark = (min(WIDTH - 1, int(part / most * WIDTH)) for part in (figure.value, limit))
    cells = ["█" if cell <= filled and figure.value > 0 else "░" for cell in range(WIDTH)]
    text = Text("".join(cells), style="cyan")
    text.plain = f"{text.plain[:mark]}┃{text.plain[mark + 1 :]}"
    text.stylize("bold yellow", mark, mark + 1)
    return text


def _quotes(alert: AlertView) -> list[Text]:
    return [Text(f"  {one_line(quote)}") for quote in alert.quotes]


def _causes(alert: AlertView) -> list[Text]:
    if not alert.causes:
        said = "nothing that could be its cause is known to have changed in the six hours before"
        return [Text(f"  {said}", style="dim")]
    return [Text(f"  {place}. {cause.words}") for place, cause in enumerate(alert.causes, 1)]


def _history(alert: AlertView) -> list[Text]:
    return [Text(f"  {moment(turn.at)}  {turn.to}: {turn.why}") for turn in alert.history]
