"""Times as conditions say them."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(at: float) -> str:
    """Of a Unix time: `2026-11-26 08:52 UTC`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def to_second(at: float) -> str:
    """The same to the second: `2026-11-26 08:52:07 UTC`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
