"""How processes share the tests (`-n`, pytest-xdist): who takes which, and which run alone.

The tests of a file run one after the other in one process, the files side by side. Those of
files in `ALONE` are about the whole machine: nothing runs beside them.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ALONE = (
    "tests/live/test_soak.py", "tests/live/test_faults.py", "tests/live/test_chaos.py",
    "tests/live/test_slow_replica.py", "tests/live/test_newer_faults.py",
)  # fmt: skip
"""What these find out they would find out wrongly while something else takes processor time: how
much is answered meanwhile, what is slow, whether anything comes about between two kills."""
TOGETHER = "tests/vllm/"
"""Its files share servers that take long to start: one process runs all of them."""
LARGE = ("tests/live/", TOGETHER)
"""Each of these is a number of processes: two of them side by side come last."""


def share_of(test: str) -> str:
    """Which tests one process runs together: those of a file, or of `TOGETHER`."""
    return TOGETHER if test.startswith(TOGETHER) else test.partition("::")[0]


def next_share(waiting: Iterable[str], *, large_first: bool) -> str:
    """What a process takes next of what waits: the first of the largest, or of the smallest."""

    def size(share: str) -> int:
        return 2 if share.startswith(ALONE) else int(share.startswith(LARGE))

    return max(waiting, key=size) if large_first else min(waiting, key=size)


class Turns:
    """Lets tests of several processes run at the same time, or one alone.

    Args:
        folder: The same for all processes.
    """

    def __init__(self, folder: Path) -> None:
        self._door = (folder / "door").open("w")
        self._room = (folder / "room").open("w")

    @contextmanager
    def take(self, *, alone: bool) -> Iterator[None]:
        """Wait for one's turn, and have it as long as the block lasts."""
        # Who waits to be alone keeps the door shut, so that nobody overtakes it.
        fcntl.flock(self._door, fcntl.LOCK_EX)
        fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of both files."""
        self._door.close()
        self._room.close()
