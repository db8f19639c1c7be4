"""How much may be used in how long: declared limits, their windows, and prices. Pure.

A window is a calendar one (a minute, a UTC day, a UTC month), so that everybody names it alike by
where it begins, and a client can be told when it ends. All amounts are whole numbers; money is
counted in picodollars (1e-12 USD), in which every price per million tokens is exact.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import IntEnum, StrEnum

import msgspec

from fairlead.domain.bounds import check_between

PICO = 10**12
COUNT_MAX = 10**15
USD_MAX = 1_000_000.0
PRICE_MAX = 1_000_000.0
MINUTE_S = 60
DAY_S = 86_400


class Measure(IntEnum):
    """What is counted; also the place in a `Cost`."""

    REQUESTS = 0
    TOKENS = 1
    USD = 2


class Period(StrEnum):
    """How long a window is."""

    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"


Cost = tuple[int, int, int]
"""Requests, tokens and picodollars."""


class Quota(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """What may be used of a key, a tenant or a service; None where nothing is declared."""

    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    requests_per_month: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    usd_per_minute: float | None = None
    usd_per_day: float | None = None
    usd_per_month: float | None = None

    @property
    def has_budget(self) -> bool:
        """Whether it limits money, for which prices have to be known."""
        return any(
            getattr(self, name) is not None
            for name, (measure, _) in _KINDS.items()
            if measure is Measure.USD
        )


NO_QUOTA = Quota()


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a release's tokens cost, in USD per million; 0 where it is not known."""

    input_per_million: float = 0.0
    output_per_million: float = 0.0

    def cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Picodollars of so many tokens."""
        return prompt_tokens * round(self.input_per_million * 1e6) + completion_tokens * round(
            self.output_per_million * 1e6
        )


class Limit(msgspec.Struct, frozen=True):
    """One declared limit of one thing.

    Attributes:
        scope: `key`, `tenant` or `service`.
        subject: Id of the key, or name of the tenant or service.
        amount: In units of the measure.
    """

    scope: str
    subject: str
    name: str
    measure: Measure
    period: Period
    amount: int

    @property
    def id(self) -> str:
        """The same on every worker and in control."""
        return f"{self.scope}:{self.subject}:{self.name}"


class UseRow(msgspec.Struct, frozen=True):
    """What one seat (a gateway worker, through its lives) has used of one window of a limit.

    Attributes:
        start, ends_at: Unix times at which the window begins and ends.
        used: In units of the limit, since the window began.
    """

    limit: str
    start: int
    seat: str
    used: int
    ends_at: float


_KINDS = {
    f"{measure.name.lower()}_per_{period}": (measure, period)
    for measure in Measure
    for period in Period
}


def limits_of(quota: Quota, scope: str, subject: str) -> tuple[Limit, ...]:
    """The limits that are declared."""
    found = []
    for name, (measure, period) in _KINDS.items():
        value = getattr(quota, name)
        if value is not None:
            amount = round(value * PICO) if measure is Measure.USD else value
            found.append(Limit(scope, subject, name, measure, period, amount))
    return tuple(found)


def check_quota(where: str, quota: Quota) -> None:
    """Raises InvalidInput with the place of what cannot be a limit."""
    for name, (measure, _) in _KINDS.items():
        value = getattr(quota, name)
        most = USD_MAX if measure is Measure.USD else COUNT_MAX
        if value is not None:
            check_between(f"{where}{name}", value, 0, most, above=True)


def check_price(where: str, price: Price) -> None:
    """Raises InvalidInput with the place of what cannot be a price."""
    for name in Price.__struct_fields__:
        check_between(f"{where}{name}", getattr(price, name), 0, PRICE_MAX)


def changed(quota: Quota, change: Quota) -> Quota:
    """The quota with what the change names; 0 takes a limit away."""
    given = {name: getattr(change, name) for name in _KINDS}
    return msgspec.structs.replace(
        quota, **{name: value or None for name, value in given.items() if value is not None}
    )


def window_of(period: Period, at: float) -> tuple[int, int]:
    """The window that a moment is in: Unix times of its first second, and of the one after it."""
    if period is not Period.MONTH:
        length = MINUTE_S if period is Period.MINUTE else DAY_S
        start = int(at // length) * length
        return start, start + length
    moment = datetime.fromtimestamp(at, UTC)
    first = datetime(moment.year, moment.month, 1, tzinfo=UTC)
    following = datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=UTC)
    return int(first.timestamp()), int(following.timestamp())


def share_of(amount: int, workers: int, number: int) -> int:
    """The part with which worker `number` of so many begins each window; all parts add up."""
    if number >= workers:
        return 0
    return amount // workers + (1 if number < amount % workers else 0)
