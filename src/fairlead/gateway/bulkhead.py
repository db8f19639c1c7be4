"""Keeps a defect inside the request on which it shows.

One turn of the event loop serves many requests: what ends one lets another go on, and the other's
failure would come back up through the first. A request therefore answers for its own defects.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType


class Bulkhead:
    """A context that hands an unexpected exception to its owner, and goes on after the block.

    Cancellation and the end of the process pass through: they are no `Exception`.

    Args:
        on_defect: Logs the error and ends what it belongs to.
    """

    def __init__(self, on_defect: Callable[[Exception], None]) -> None:
        self._on_defect = on_defect

    def __enter__(self) -> None:
        """Nothing is set up."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self._on_defect(error)
        return True
