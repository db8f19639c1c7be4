"""Freeze windows: the times at which no traffic may move to a new release. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from fairlead.domain.errors import InvalidInput

WINDOWS_MAX = 50
DAY_MINUTES = 24 * 60
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Freeze(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One window: a time of the week, a span of time, or a time of the week within a span.

    Attributes:
        name: What people call it.
        days: Days on which it begins (0 is Monday); empty for every day.
        begins_min, ends_min: Minutes since midnight. A window that ends no later than it begins
            goes on past midnight.
        zone: IANA name of the time zone of days and minutes.
        since, until: Unix times in seconds before and from which it is not in force; None for ever.
    """

    name: str
    days: tuple[int, ...] = ()
    begins_min: int = 0
    ends_min: int = DAY_MINUTES
    zone: str = "UTC"
    since: float | None = None
    until: float | None = None


def frozen_by(windows: Sequence[Freeze], now: float) -> str:
    """The name of the first window in force; empty when there is none.

    A window whose time zone is not known here is in force, and says so: when it ends, nobody knows.
    """
    for window in windows:
        try:
            if _holds(window, now):
                return window.name
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return f"{window.name} (there is no time zone {ascii(window.zone)[:60]} here)"
    return ""


def check_freeze(where: str, window: Freeze) -> None:
    """Raises InvalidInput when the window does not make sense."""
    if not 0 < len(window.name) <= 64:
        raise InvalidInput(f"{where}.name: must have 1 to 64 characters")
    if any(day not in range(len(DAYS)) for day in window.days):
        raise InvalidInput(f"{where}.days: {window.days} are not all from 0 to {len(DAYS) - 1}")
    for name in ("begins_min", "ends_min"):
        if not 0 <= getattr(window, name) <= DAY_MINUTES:
            raise InvalidInput(f"{where}.{name}: is not between 0 and {DAY_MINUTES}")
    if None not in (window.since, window.until) and window.until <= window.since:  # type: ignore[operator]
        raise InvalidInput(f"{where}.until: is not after `since`")
    try:
        ZoneInfo(window.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput(
            f"{where}.zone: there is no time zone {ascii(window.zone)[:60]}",
            hint="an IANA name such as Europe/Berlin; minimal systems need the package tzdata",
        ) from None


def _holds(window: Freeze, now: float) -> bool:
    if window.since is not None and now < window.since:
        return False
    if window.until is not None and now >= window.until:
        return False
    local = datetime.fromtimestamp(now, ZoneInfo(window.zone))
    minute, today = local.hour * 60 + local.minute, local.weekday()
    days = window.days or range(len(DAYS))
    if window.begins_min < window.ends_min:
        return today in days and window.begins_min <= minute < window.ends_min
    began_today = today in days and minute >= window.begins_min
    began_yesterday = (today - 1) % len(DAYS) in days and minute < window.ends_min
    return began_today or began_yesterday
