"""Verdicts have names and reasons."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

NEW_CASES_MIN = 10
"""Fewer new cases, of what people ask, let no release pass."""


class GateOutcome(enum.StrEnum):
    """What a gate says of a release."""

    PASS = "pass"  # noqa: S105 - the word, not a secret
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class GateVerdict(msgspec.Struct, frozen=True):
    """One gate's verdict with the reason a person can read and the numbers behind it."""

    gate: str
    outcome: GateOutcome
    reason: str
    numbers: dict[str, Any] = {}


class RolloutOutcome(enum.StrEnum):
    """What the judge says of a canary at one moment."""

    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    WAIT = "wait"
    INCONCLUSIVE = "inconclusive"
    INVALID = "invalid"


class RolloutVerdict(msgspec.Struct, frozen=True):
    """The judge's verdict with the reason a person can read and the numbers behind it."""

    outcome: RolloutOutcome
    reason: str
    numbers: dict[str, Any] = {}
