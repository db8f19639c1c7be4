"""Keeps the snapshot up to date where there is no control: watches the file that it is in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fairlead.gateway.limits import FILE_LOOK_S
from fairlead.gateway.snapshot_file import SnapshotFile
from fairlead.wire.snapshot import Snapshot


class FileSync:
    """Takes each newer snapshot that somebody puts in the file's place.

    Args:
        take: Called with it, to run on it.
    """

    def __init__(self, file: SnapshotFile, *, take: Callable[[Snapshot], None]) -> None:
        self._file = file
        self._take = take
        self._seen: object = None
        self._version = 0
        self.has_reported = asyncio.Event()
        self.has_reported.set()  # There is nobody to report to.

    def hurry(self) -> None:
        """There is nobody to tell."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(FILE_LOOK_S)

    def look(self) -> None:
        """Take the file's snapshot if it is newer than the last one."""
        mark = self._file.mark()
        if mark is None or mark == self._seen:
            return
        self._seen = mark
        snapshot = self._file.load()
        if snapshot is not None and snapshot.version > self._version:
            self._version = snapshot.version
            self._take(snapshot)
