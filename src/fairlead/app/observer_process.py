"""The observer process: `python -m fairlead.app.observer_process SETTINGS_JSON`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from fairlead.app.state import StatePaths
from fairlead.domain.errors import FairleadError
from fairlead.observer.service import ObserverSettings, run
from fairlead.store import open_store


class Settings(msgspec.Struct, frozen=True):
    """What the supervisor tells the observer."""

    state: str


def main() -> None:
    """Run until SIGTERM."""
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    paths = StatePaths(Path(settings.state))
    try:
        _observe(paths)
    except FairleadError as error:
        sys.exit(f"observer cannot run: {error.one_line}")


def _observe(paths: StatePaths) -> None:
    store = open_store(paths.store_url)
    try:
        run(
            ObserverSettings(
                spool_dir=str(paths.spool), store_url=paths.store_url, parent_pid=os.getppid()
            ),
            store,
        )
    finally:
        store.close()


if __name__ == "__main__":
    main()
