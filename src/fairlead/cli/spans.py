"""Spans of time as they are typed and shown."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from fairlead.domain.errors import InvalidInput

SPANS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def seconds_of(given: str, option: str) -> float:
    """`15min`, `6h` or `7d` in seconds; raises InvalidInput, naming the option."""
    number = given.rstrip("abcdefghijklmnopqrstuvwxyz")
    span = SPANS.get(given[len(number) :])
    if span is None or not _NUMBER.fullmatch(number):
        raise InvalidInput(f"{option} {given}: not a span of time", hint="such as 15min, 6h or 7d")
    return float(number) * span


def moment(at: float) -> str:
    """A Unix time in UTC, to the second: `2026-01-31 09:00:00`."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def clock(at: float) -> str:
    """Its time of day in UTC: `09:00:00`."""
    return moment(at)[-8:]
