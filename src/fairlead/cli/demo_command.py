"""`fairlead demo`."""

from __future__ import annotations

import asyncio
import io
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from fairlead.app.signals import heeded
from fairlead.cli.follow import live
from fairlead.cli.options import console, plain_console
from fairlead.domain.errors import InvalidInput, StorageFailed, Unavailable

if TYPE_CHECKING:
    from fairlead.cli.demo.report import Report

PICTURE_COLUMNS = 118
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the report to this file as JSON.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Banking77 folder: use real customers' test questions.", exists=True),
    ] = None,
    rate: Annotated[float, typer.Option(min=1, max=200, help="Questions a second.")] = 30.0,
    picture: Annotated[
        Path | None, typer.Option(help="Save the rollback and the summary as an SVG picture.")
    ] = None,
) -> None:
    """Ship four releases of an example service under live traffic, and watch."""
    try:
        import openai  # noqa: F401
    except ImportError:
        raise Unavailable(
            "the demo's client, the openai package, is not installed",
            hint='pip install "fairlead[demo]"',
        ) from None
    for path in (json_file, picture):
        if path is not None:
            _check_writable(path)
    report = _play(data, rate, picture)
    if json_file is not None:
        _write(json_file, msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    raise typer.Exit(0 if as_told(report) else 1)


def _check_writable(path: Path) -> None:
    """Say before the demo begins that its result could not be written at its end."""
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise InvalidInput(f"{path}: {what}", hint="name a file in a folder that exists")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise StorageFailed(f"{path}: cannot be written", hint="name another file")


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise StorageFailed(f"{path}: {error.strerror}") from None


def as_told(report: Report) -> bool:
    """Whether everything came as the demo says it does."""
    outcomes = [release.outcome for release in report.releases]
    return (
        outcomes == ["promoted", "promoted", "rolled_back", "gate_failed"]
        and report.releases[-1].requests_served == 0
        and report.requests.failed == 0
        and report.kill is not None
    )


def _typed() -> str:
    """How this program can be typed again: by name if it is on the PATH, else by its path."""
    found = shutil.which("fairlead")
    if found is not None and Path(found).samefile(sys.argv[0]):
        return "fairlead"
    return os.path.relpath(sys.argv[0]) if Path(sys.argv[0]).name == "fairlead" else "fairlead"


def _play(data: Path | None, rate: float, picture: Path | None) -> Report:
    from fairlead.cli.demo.example import Example
    from fairlead.cli.demo.scenario import Scenario
    from fairlead.cli.demo.view import DemoView, summary

    view = DemoView()
    if picture is not None:
        view.picture = plain_console(record=True, file=io.StringIO(), width=PICTURE_COLUMNS)
    # Its name is known before it exists, so that no interrupt can come between the two.
    root = Path(tempfile.gettempdir()) / f"fairlead-demo-{secrets.token_hex(8)}"
    scenario = Scenario(root, Example(data), rate, view)
    # A closed terminal and SIGTERM end the demo as Ctrl-C does: with nothing left behind.
    ending = heeded(ENDING)
    for number in ending:
        signal.signal(number, signal.default_int_handler)
    try:
        scenario.start()  # Makes the folder.
        with live(view, refresh_per_second=8, overflow="visible"):
            report = asyncio.run(scenario.play())
        console.print(summary(report, _typed()))
    finally:
        for number in ending:
            signal.signal(number, signal.SIG_IGN)
        scenario.stop()
        shutil.rmtree(root, ignore_errors=True)
        if signal.SIGINT in ending:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if picture is not None and view.picture is not None:
        view.picture.print(summary(report, "fairlead"))
        svg = view.picture.export_svg(title="make demo")
        # The viewer's own monospaced font will do: a picture must load nothing from elsewhere.
        _write(picture, re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).encode())
    return report
