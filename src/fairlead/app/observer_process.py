"""The observer process: `python -m fairlead.app.observer_process SETTINGS_JSON`."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fairlead.app.heap import keep_trimmed
from fairlead.app.state import StatePaths
from fairlead.domain.errors import FairleadError
from fairlead.observer.archive import Archive, ArchiveSettings, ArchiveThread
from fairlead.observer.service import ObserverSettings, run
from fairlead.store import open_store

if TYPE_CHECKING:
    from fairlead.observer.otlp import SpanSender

DAY_S = 86_400.0

_log = logging.getLogger(__name__)


class Settings(msgspec.Struct, frozen=True):
    """What the supervisor tells the observer.

    Attributes:
        telemetry_days: Days for which the telemetry store keeps records; 0 for no such store.
        telemetry_every_s: Seconds between two portions that it takes in.
        otlp: Address to which spans are sent; empty for none.
    """

    state: str
    telemetry_days: float = 0.0
    telemetry_every_s: float = 10.0
    otlp: str = ""


def main() -> None:
    """Run until SIGTERM."""
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    keep_trimmed()
    paths = StatePaths(Path(settings.state))
    try:
        _observe(paths, settings)
    except FairleadError as error:
        sys.exit(f"observer cannot run: {error.one_line}")


def _observe(paths: StatePaths, settings: Settings) -> None:
    archive = None
    if settings.telemetry_days:
        every = ArchiveSettings(every_s=settings.telemetry_every_s)
        archive = ArchiveThread(paths.spool, _archive(paths, settings.telemetry_days), every)
    spans = _spans(settings.otlp) if settings.otlp else None
    store = open_store(paths.store_url)
    try:
        run(
            ObserverSettings(
                spool_dir=str(paths.spool),
                store_url=paths.store_url,
                parent_pid=os.getppid(),
                standing_file=str(paths.observer),
            ),
            store,
            archive,
            spans,
        )
    finally:
        store.close()


def _spans(endpoint: str) -> SpanSender:
    # Only here: who traces nothing needs none of it in memory.
    from fairlead.observer.otlp import SpanSender, parse_endpoint

    return SpanSender(parse_endpoint(endpoint))


def _archive(paths: StatePaths, days: float) -> Callable[[], Archive]:
    def opened() -> Archive:
        # Only here, in the thread that needs it: control's records do not wait for the import.
        from fairlead.telemetry.store import TelemetryStore

        return TelemetryStore(
            paths.telemetry, keep_s=days * DAY_S, clock=time.time, warn=_log.warning
        )

    return opened


if __name__ == "__main__":
    main()
