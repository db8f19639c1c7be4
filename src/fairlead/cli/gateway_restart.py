"""`fairlead gateway restart`: new worker processes without a broken connection."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import typer

from fairlead.app.standalone.folder import find_running, is_running
from fairlead.app.state import StatePaths, write_private
from fairlead.app.turnover import (
    COME_UP_S,
    DRAIN_S,
    RestartReport,
    RestartRequest,
    RestartState,
    draining,
    report_path,
    request_path,
)
from fairlead.cli.options import STATE_DEFAULT, StateOption, say
from fairlead.domain.decoding import decode_json
from fairlead.domain.errors import Conflict, Unavailable

HEARD_S = 30.0
"""Within so long the supervisor says that it has begun."""
LOOK_S = 0.05


def register(gateway: typer.Typer) -> None:
    """Add the command to `fairlead gateway`."""
    gateway.command("restart")(restart)


class _Gateway(NamedTuple):
    """A gateway that runs.

    Attributes:
        pid: The process of its supervisor.
        run: Folder for the request and the report.
        is_running: Whether it still does.
        output: Where to look for what went wrong.
    """

    pid: int
    run: Path
    is_running: Callable[[], bool]
    output: str


def restart(
    state: StateOption = STATE_DEFAULT,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Restart the gateway that runs alone on this file."),
    ] = None,
    drain_seconds: Annotated[
        float, typer.Option(min=0.0, help="Time for what is open in an old worker to end.")
    ] = DRAIN_S,
) -> None:
    """Restart the gateway of `fairlead up`, or one that runs alone, on the code installed now.

    One worker after the other: the old one goes on until the new one serves, and ends when its
    last client has left. No connection or stream is broken.
    """
    gateway = _of_state(StatePaths(state)) if config is None else _of_file(config)
    request = RestartRequest(id=secrets.token_hex(8), drain_s=drain_seconds)
    write_private(request_path(gateway.run, request.id), msgspec.json.encode(request))
    report = report_path(gateway.run, request.id)
    try:
        os.kill(gateway.pid, signal.SIGUSR2)
        _tell(_follow(gateway, report))
    finally:
        for path in (report, request_path(gateway.run, request.id)):
            with contextlib.suppress(OSError):
                path.unlink()


def _of_state(paths: StatePaths) -> _Gateway:
    info = paths.require_up()
    output = f"see what `fairlead up` prints, and {paths.logs}"
    return _Gateway(info.pid, paths.run, paths.is_locked, output)


def _of_file(config: Path) -> _Gateway:
    folder, info = find_running(config)
    output = "see what `fairlead gateway run` prints"
    return _Gateway(info.pid, folder, lambda: is_running(folder), output)


def _follow(gateway: _Gateway, path: Path) -> RestartReport:
    """Wait until the restart has ended."""
    deadline = time.monotonic() + HEARD_S
    shown = -1
    while True:
        report = _read(path)
        if report is not None:
            if len(report.replaced) != shown:
                shown = len(report.replaced)
                deadline = time.monotonic() + HEARD_S + COME_UP_S
                if shown:
                    say(f"new worker serves: {shown} of {report.workers}")
            if report.state is not RestartState.UNDER_WAY:
                return report
        if not gateway.is_running():
            raise Unavailable("the gateway has ended", hint=gateway.output)
        if time.monotonic() > deadline:
            raise Unavailable(
                f"the gateway (pid {gateway.pid}) does not say how the restart goes",
                hint=gateway.output,
            )
        time.sleep(LOOK_S)


def _read(path: Path) -> RestartReport | None:
    try:
        return decode_json(path.read_bytes(), RestartReport)
    except (OSError, msgspec.MsgspecError):
        return None


def _tell(report: RestartReport) -> None:
    if report.state is RestartState.REFUSED:
        raise Conflict(report.trouble, hint="wait until it has ended")
    if report.state is RestartState.FAILED:
        raise Unavailable(
            f"the restart has failed at {report.trouble}",
            hint=f"{len(report.replaced)} of {report.workers} workers are new; "
            "restart again when it is mended",
        )
    say(("restarted", "bold"), f"; {draining(report.draining)}")
