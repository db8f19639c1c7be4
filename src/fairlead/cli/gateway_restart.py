"""`fairlead gateway restart`: new worker processes without a broken connection."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fairlead.app.state import StatePaths, UpInfo, write_private
from fairlead.app.turnover import (
    COME_UP_S,
    DRAIN_S,
    RestartReport,
    RestartRequest,
    RestartState,
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


def restart(
    state: StateOption = STATE_DEFAULT,
    drain_seconds: Annotated[
        float, typer.Option(min=0.0, help="Time for what is open in an old worker to end.")
    ] = DRAIN_S,
) -> None:
    """Restart the gateway of `fairlead up`, on the code that is installed now.

    One worker after the other: the old one goes on until the new one serves, and ends when its
    last client has left. No connection or stream is broken.
    """
    paths = StatePaths(state)
    info = paths.require_up()
    request = RestartRequest(id=secrets.token_hex(8), drain_s=drain_seconds)
    write_private(request_path(paths, request.id), msgspec.json.encode(request))
    report = report_path(paths, request.id)
    try:
        os.kill(info.pid, signal.SIGUSR2)
        _tell(_follow(paths, info, report))
    finally:
        for path in (report, request_path(paths, request.id)):
            with contextlib.suppress(OSError):
                path.unlink()


def _follow(paths: StatePaths, info: UpInfo, path: Path) -> RestartReport:
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
        if not paths.is_locked():
            raise Unavailable("fairlead has ended", hint=f"see {paths.logs}")
        if time.monotonic() > deadline:
            raise Unavailable(
                f"fairlead (pid {info.pid}) does not say how the restart goes",
                hint=f"see what `fairlead up` prints, and {paths.logs}",
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
    say(("restarted", "bold"), f"; {report.draining} old workers end when their clients are done")
