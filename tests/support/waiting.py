"""Waiting for something to come about, with a limit: never for a fixed time, which is too long on a
fast machine and too short on a busy one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

WITHIN_S = 60.0
"""Much longer than anything takes; a test that waits for so long has failed."""


async def until(
    condition: Callable[[], object], what: object = "", *, within_s: float = WITHIN_S
) -> None:
    """Wait in a test that runs in the event loop.

    Args:
        what: What is waited for, in words; shown if it does not come.
    """
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not come about: {what}"
        await asyncio.sleep(0.005)


def wait_until(
    condition: Callable[[], object], what: object = "", *, within_s: float = WITHIN_S
) -> None:
    """The same for a test without an event loop."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not come about: {what}"
        time.sleep(0.02)
