"""What is known of releases by their probes: what is kept, and the interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from fairlead.store.rows import EventRow


class ProbesRow(msgspec.Struct, frozen=True):
    """What is known of a release by its probes; `version` grows by one with each commit."""

    service: str
    release: str
    updated_at: float
    version: int
    document: bytes


class ProbeStore(Protocol):
    """What is known of releases by their probes."""

    def commit_probes(
        self, row: ProbesRow, *, expected_version: int, events: Sequence[EventRow] = ()
    ) -> None:
        """Keep it with version `expected_version + 1`, and the events; 0 makes a new one.

        Raises Conflict when the stored version is another one.
        """
        ...

    def probes(self) -> list[ProbesRow]:
        """All, by service, those that were changed last at the end."""
        ...
