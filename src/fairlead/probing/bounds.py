"""What bounds all asking of releases: values of settings, what a day may cost, when to retry."""

from __future__ import annotations

from typing import Protocol

from fairlead.domain.errors import InvalidInput

DAY_S = 86_400.0
INTERVAL_S = (1.0, 7 * DAY_S)
"""From one time at which a release is asked to the next."""
RETRY_S = 60.0
"""Who did not answer is asked again after so long, or after the interval if that is shorter."""


class Spending(Protocol):
    """What was spent on a (UTC) day since 1970."""

    @property
    def day(self) -> int: ...

    @property
    def spent_usd(self) -> float: ...


def within(where: str, name: str, value: float, least: float, most: float) -> None:
    """Refuse a setting that is out of its bounds, NaN too; raises InvalidInput."""
    if not least <= value <= most:
        raise InvalidInput(f"{where}: {name} is {value:g}, not within {least:g} to {most:g}")


def day_of(now: float) -> int:
    """The (UTC) day of a Unix time, since 1970."""
    return int(now // DAY_S)


def held_by_cost(asked: str, usd_per_day: float | None, so_far: Spending, now: float) -> str:
    """Why no more of these are asked today: what they have cost; empty when they may be."""
    if usd_per_day is None or day_of(now) != so_far.day or so_far.spent_usd < usd_per_day:
        return ""
    return f"today's {asked} have cost {so_far.spent_usd:.4f} of {usd_per_day:g} USD"
