"""`fairlead suite`: suite versions that actions made of what people ask, and refusing them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fairlead.cli.listing import Listing
from fairlead.cli.options import (
    STATE_DEFAULT,
    ByOption,
    JsonOption,
    ServiceOption,
    StateOption,
    ago,
    client,
    print_found,
    print_json,
    say,
    table,
    who,
)
from fairlead.cli.writing import case_lines, write_file
from fairlead.control.acting.suite_versions import RefuseRequest, SuiteVersion
from fairlead.domain.release import short
from fairlead.domain.verdicts import GateOutcome

app = typer.Typer(
    help="Cases that the action `add_cases` made of what people ask.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(help="Id of the suite version.")]
COLOURS = {GateOutcome.PASS: "green", GateOutcome.FAIL: "red"}


@app.command("list")
def list_versions(
    service: ServiceOption = None, state: StateOption = STATE_DEFAULT, as_json: JsonOption = False
) -> None:
    """Show the suite versions and what came of them, the newest first."""
    found = client(state).get(list[SuiteVersion], "suites", service=service)
    print_found(found, _listing, as_json=as_json, nothing="no action has made cases yet")


@app.command("show")
def show(
    version: Name,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the cases to this file, as JSONL.")
    ] = None,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show a suite version with its cases, or write these for a gate's suite.

    That the prompts were read is noted as an event.
    """
    found = client(state).get(SuiteVersion, "suites", version)
    if as_json:
        print_json(found)
        return
    if out is not None:
        _write(found, out)
        return
    of = "" if found.incident is None else f", incident {found.incident}"
    say((found.id, "bold"), f"  {found.service} {short(found.release)}, {ago(found.at)}{of}")
    say(f"  by policy {found.policy}: {found.why}")
    for gate, digest in sorted(found.suites.items()):
        say(f"  suite {f'of {gate} with them' if gate else 'of them'}: {short(digest)}")
    for verdict in found.verdicts:
        colour = COLOURS.get(verdict.outcome, "yellow")
        say(f"  {verdict.gate}: ", (verdict.outcome.value, colour), f": {verdict.reason}")
    if not found.verdicts:
        say(f"  {found.outcome}")
    for note in found.refused:
        say(f"  refused: {note}")
    for case in found.cases:
        said = case.text or ("refused" if case.is_refused else "its sample is deleted")
        say((f"  {case.id}", "dim"), f" {case.topic}: ", said if case.text else (said, "dim"))


@app.command("refuse")
def refuse(
    version: Name,
    why: Annotated[str, typer.Option("--why", help="Why they are no cases of the service.")],
    case: Annotated[
        list[str] | None, typer.Option("--case", help="Id of a case; all if none is given.")
    ] = None,
    by: ByOption = None,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Take cases out for good: they are not asked again, and the rest is decided anew."""
    asked = RefuseRequest(who(by), why, tuple(case or ()))
    left = client(state).post(SuiteVersion, "suites", version, "refuse", body=asked)
    if as_json:
        print_json(left)
    else:
        count = sum(one.is_refused for one in left.cases)
        say(f"{left.id}: {count} of {len(left.cases)} cases are refused; {left.outcome}")


def _write(found: SuiteVersion, out: Path) -> None:
    cases = [one for one in found.cases if one.text]
    write_file(out, case_lines(cases))
    say(f"{out}: {len(cases)} cases; say in `expected` what the right answers are")


def _listing(found: list[SuiteVersion]) -> Listing:
    shown = table(
        "=version", "=when", "service", "=release", ">cases", ">refused", "what came of it",
        gives_way=("release",),
    )  # fmt: skip
    for one in found:
        worst = [v for v in one.verdicts if v.outcome is GateOutcome.FAIL]
        shown.add_row(
            one.id,
            ago(one.at),
            one.service,
            short(one.release),
            str(len(one.cases)),
            str(sum(case.is_refused for case in one.cases)),
            Text(one.outcome, style="red" if worst and one.holds else ""),
        )
    return shown
