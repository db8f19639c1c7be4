"""What a monitor holds what it sees against: what it saw first."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Compared(StrEnum):
    """What is compared with what it was at first."""

    ASKED = "asked"
    """What users ask, whoever answers it."""
    ANSWERED = "answered"
    """What they are answered, how well and how fast."""
    BOTH = "both"
    """What depends on either, such as what a request costs."""


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What came first, with which what comes now is compared.

    Attributes:
        of: What is compared; None where that alone says nothing of who has changed.
        since: Unix time from which on it was learnt; None where that is not known.
        is_remote: Whether a provider answers, of whose changes nothing need be known here.
    """

    of: Compared | None
    since: float | None
    is_remote: bool = False

    def since_before(self, at: float) -> float | None:
        """Since when, if that is known and before this time, as it is unless a clock was wrong."""
        return self.since if self.since is not None and self.since < at else None
