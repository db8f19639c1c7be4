"""What a monitor holds what it sees against: what it saw first."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Compared(StrEnum):
    """Whose doing it is that is compared with what it was at first."""

    ASKED = "asked"
    """What users ask, whoever answers it."""
    ANSWERED = "answered"
    """What they are answered, how well and how fast."""


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What came first, with which what comes now is compared.

    Attributes:
        since: Unix time from which on it was learnt; None where that is not known.
        is_remote: Whether a provider answers, of whose changes nothing need be known here.
    """

    of: Compared
    since: float | None = None
    is_remote: bool = False
