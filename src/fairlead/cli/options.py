"""Options and output that the commands share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fairlead.app.state import DEFAULT_STATE, STATE_VARIABLE, StatePaths
from fairlead.cli.api import ControlClient, as_json

StateOption = Annotated[
    Path,
    typer.Option(
        "--state", envvar=STATE_VARIABLE, help="Folder in which this installation keeps its state."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ManifestOption = Annotated[
    Path, typer.Option("--file", "-f", help="The manifest.", show_default=True)
]
ServiceOption = Annotated[str | None, typer.Option("--service", "-s", help="Only this service.")]

STATE_DEFAULT = DEFAULT_STATE
MANIFEST_DEFAULT = Path("fairlead.yaml")

console = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


def client(state: Path) -> ControlClient:
    """The control client of the installation on this state folder."""
    return ControlClient.of(StatePaths(state))


def print_json(value: object) -> None:
    """JSON to standard output, never wrapped or coloured."""
    typer.echo(as_json(value))


def table(*columns: str, title: str | None = None) -> Table:
    """A plain table; columns that begin with `>` are right-aligned."""
    made = Table(title=title, box=None, header_style="bold", pad_edge=False, title_justify="left")
    for column in columns:
        if column.startswith(">"):
            made.add_column(column[1:], justify="right")
        else:
            made.add_column(column, overflow="fold")
    return made


def ago(at: float) -> str:
    """How long ago a Unix time was, in one unit."""
    seconds = max(0.0, time.time() - at)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def size(count: float) -> str:
    """Bytes, readable."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return ""


def number(value: float | None, digits: int = 1) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"
