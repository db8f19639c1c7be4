"""Times as conditions say them."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(at: float) -> str:
    """Of a Unix time: `2026-11-26 08:52 UTC`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
