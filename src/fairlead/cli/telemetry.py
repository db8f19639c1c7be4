"""`fairlead telemetry`: questions to the long-term store of request records."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
import typer

from fairlead.cli.lifecycle import installed_state
from fairlead.cli.options import (
    STATE_DEFAULT,
    JsonOption,
    StateOption,
    ago,
    console,
    print_json,
    say,
    size,
    stderr,
    table,
)
from fairlead.cli.spans import seconds_of

app = typer.Typer(help="Ask the long-term store of request records.", no_args_is_help=True)

SinceOption = Annotated[
    str | None,
    typer.Option(help="Only records that began so long ago at most: 15min, 6h, 7d."),
]
UntilOption = Annotated[
    str | None, typer.Option(help="Only records that began at least so long ago.")
]
ServicesOption = Annotated[
    list[str] | None, typer.Option("--service", "-s", help="Only this service; may be repeated.")
]


@app.command()
def query(
    sql: Annotated[
        str, typer.Argument(help="One SELECT over the tables `records` and `feedback` (DuckDB).")
    ],
    since: SinceOption = None,
    until: UntilOption = None,
    services: ServicesOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many rows.")] = 1_000,
    seconds: Annotated[float, typer.Option(min=0.1, help="Give up after so long.")] = 30.0,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Answer a question in SQL. It can read the store and nothing else."""
    from fairlead.telemetry.reader import Scope, TelemetryReader

    scope = Scope(_moment(since, "--since"), _moment(until, "--until"), tuple(services or ()))
    reader = TelemetryReader(installed_state(state).telemetry, time_limit_s=seconds)
    try:
        answer = reader.ask(sql, scope=scope, limit=limit)
    finally:
        reader.close()
    if as_json:
        print_json(answer)
        return
    # A bar would be read as markup of the column by `table`; names come from the question.
    shown = table(*(f"={name}" for name in answer.columns))
    for row in answer.rows:
        shown.add_row(*(_cell(value) for value in row))
    console.print(shown)
    _tell(answer.left_out)
    if answer.more:
        say((f"only the first {limit} rows; --limit gives more", "dim"), to=stderr)


@app.command()
def status(
    check: Annotated[
        bool, typer.Option("--check", help="Read every file and compare its checksum.")
    ] = False,
    state: StateOption = STATE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show what the store holds, what it needs on disk, and whether it is whole."""
    from fairlead.telemetry.standing import standing

    found = standing(installed_state(state).telemetry, check=check)
    if as_json:
        print_json(found)
        return
    shown = table("=", "=")
    per_million = "–" if found.bytes_per_million is None else size(found.bytes_per_million)
    for name, value in (
        ("records", f"{found.records:,}"),
        ("feedback", f"{found.feedback:,}"),
        ("on disk", f"{size(found.bytes)}, {per_million} per million records"),
        ("hours × services", f"{found.partitions} in {found.files} files"),
        ("oldest, newest", f"{_ago(found.oldest)}, {_ago(found.newest)}"),
        ("complete until", _ago(found.complete_until)),
        ("left out", f"{found.duplicates:,} duplicates, {found.expired:,} too old"),
        ("damaged files", str(found.damaged_files)),
    ):
        shown.add_row(name, value)
    console.print(shown)
    _tell(found.damaged)


def _tell(left_out: list[str]) -> None:
    for words in left_out:
        say(("missing: ", "red"), words, to=stderr)


def _moment(given: str | None, option: str) -> float | None:
    """Unix time of so long ago."""
    if given is None:
        return None
    return time.time() - seconds_of(given, option)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _ago(at: float | None) -> str:
    return "–" if at is None else ago(at)
