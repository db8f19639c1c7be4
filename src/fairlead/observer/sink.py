"""What the observer needs of a store, and what it gives to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from fairlead.domain.recorded import Cursor
from fairlead.wire.record import FeedbackRecord, RequestRecord, SampleRecord


class SpoolCursor(msgspec.Struct, frozen=True):
    """How far a spool has been read.

    Attributes:
        segment, offset: The next byte to read.
        complete_until: Unix time in seconds; all that began before it has been read.
        closed: The worker is dead and the spool has been read to its end.
        broken: Frames lost to damage so far, a torn last one included.
    """

    segment: int = 1
    offset: int = 0
    complete_until: float = 0.0
    closed: bool = False
    broken: int = 0


class SpoolWarning(msgspec.Struct, frozen=True):
    """Damage that a person should know of. `at` is Unix time in seconds."""

    at: float
    message: str


class Sink(Protocol):
    """Where records go. Each call is one transaction.

    Raises `Unavailable` or `StorageFailed` when it cannot be done now; nothing was done then, or
    all of it: the observer does the same again, and by record id nothing is kept twice.
    """

    def open_spool(self, boot: str) -> Cursor:
        """The cursor of this spool, made when there is none yet."""
        ...

    def open_spools(self) -> Mapping[str, Cursor]:
        """Cursors of all spools that are not closed, by boot id."""
        ...

    def ingest(
        self,
        boot: str,
        records: Sequence[RequestRecord],
        feedback: Sequence[FeedbackRecord],
        cursor: SpoolCursor,
        warnings: Sequence[SpoolWarning] = (),
        samples: Sequence[SampleRecord] = (),
    ) -> object:
        """Keep what was read together with how far it was read."""
        ...

    def prune_samples(self, now: float) -> int:
        """Delete a bounded batch of the samples that must not be kept any more; how many."""
        ...

    def prune(self, before: float) -> int:
        """Delete a bounded batch of what is older; how much was deleted, 0 when nothing is left."""
        ...
