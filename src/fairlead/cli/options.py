"""Options and output that the commands share."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from fairlead.app.state import DEFAULT_STATE, STATE_VARIABLE, StatePaths
from fairlead.cli.api import ControlClient, as_json
from fairlead.cli.listing import Listing
from fairlead.domain.errors import InvalidInput

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
ByOption = Annotated[
    str | None, typer.Option("--by", help="Who says so; the login name if not given.")
]
ServiceOption = Annotated[str | None, typer.Option("--service", "-s", help="Only this service.")]

Found = TypeVar("Found")
BY_MAX = 100
STATE_DEFAULT = DEFAULT_STATE
MANIFEST_DEFAULT = Path("fairlead.yaml")

plain_console = partial(Console, highlight=False, markup=False, emoji=False)
"""Makes a console that shows text as it is, whoever wrote it; what has a style is a `Text`."""

console = plain_console()
stderr = plain_console(stderr=True)


def client(state: Path) -> ControlClient:
    """The control client of the installation on this state folder."""
    return ControlClient.of(StatePaths(state))


def print_json(value: object) -> None:
    """JSON to standard output, never wrapped or coloured."""
    typer.echo(as_json(value))


def say(*parts: str | tuple[str, str], to: Console = console, whole: bool = False) -> None:
    """Print one message: text as it is, or text with a style; `whole` for what will be copied."""
    to.print(Text.assemble(*parts), soft_wrap=whole)


def print_found(
    found: list[Found],
    listing: Callable[[list[Found]], Listing],
    *,
    as_json: bool,
    nothing: str,
    style: str = "dim",
) -> bool:
    """Print what was found: as JSON, or as a table, or else that there is nothing.

    Args:
        nothing: What is said then, in `style`.

    Returns:
        Whether a table was printed, to which more can be said.
    """
    if as_json:
        print_json(found)
    elif not found:
        say((nothing, style))
    else:
        console.print(listing(found))
        return True
    return False


def table(*columns: str, gives_way: Sequence[str] = ()) -> Listing:
    """A plain table; see `Listing` for what headings begin with, and for what gives way."""
    return Listing(*columns, gives_way=gives_way)


def state_words(state: Path) -> str:
    """` --state FOLDER` for a command that is shown, where that command would need it."""
    if state == Path(os.environ.get(STATE_VARIABLE) or STATE_DEFAULT):
        return ""
    return f" --state {shlex.quote(str(state))}"


def who(by: str | None) -> str:
    """Who says something: as given, or the login name; raises InvalidInput where there is none."""
    import getpass

    if by is not None:
        return by
    try:
        return getpass.getuser()[:BY_MAX]
    except (OSError, KeyError, ImportError):
        raise InvalidInput("nobody is logged in here", hint="say who it is with --by") from None


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
