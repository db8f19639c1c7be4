"""Keeps a defect inside the request on which it shows.

One turn of the event loop serves many requests: what ends one lets another go on, and the other's
failure would come back up through the first. A request therefore answers for its own defects.
"""

from __future__ import annotations

from types import TracebackType


class Bulkhead:
    """What does its work inside `with self:`, and ends itself when that breaks.

    The block's unexpected exception goes to `on_defect`, and the program goes on after the block.
    Cancellation and the end of the process pass through: they are no `Exception`.
    """

    __slots__ = ()

    def on_defect(self, error: Exception) -> None:
        """Log the error and end what this is."""
        raise NotImplementedError

    def __enter__(self) -> None:
        """Nothing is set up."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        self.on_defect(error)
        return True
