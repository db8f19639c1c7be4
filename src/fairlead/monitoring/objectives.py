"""Promises (SLOs): what a service promises, in numbers that can be counted.

An objective is about requests, of which each is good or bad: it failed, or came later than it may.
Its error budget is the share that may be bad, its `allowance`. Cost is the same with money: what is
spent takes the place of the bad requests, and what a request may cost that of the allowance, so
that in both cases

    burn rate = bad / (total * allowance)

is 1 where the budget lasts just as long as the period (Google, The Site Reliability Workbook,
chapter 5).
"""

from __future__ import annotations

import enum
import math

import msgspec

from fairlead.domain.errors import InvalidInput

AVAILABILITY_DEFAULT = 0.995
"""What is promised where nothing is declared. Over 30 days it allows 3.6 hours of outage, and pages
when 7.2 % of an hour's requests fail: bad enough for a person to get up, and more than one failed
request among a dozen. Most hosted models promise 99.5 to 99.9 %."""

PERIOD_DAYS_DEFAULT = 30.0
PERIOD_DAYS_MIN, PERIOD_DAYS_MAX = 7.0, 90.0

REQUESTS_MIN_DEFAULT = 10
BAD_MIN_DEFAULT = 3
"""A rate is no rate without a number of requests behind it. At 99.5 % one failure among 13 requests
burns 15 times as fast as allowed; one, or two that have the same cause, are no reason to wake
anybody. Three bad ones among ten are, so that a service with little traffic that is down is still
noticed (asking for enough requests to measure a small share would never say so)."""


class ObjectiveKind(enum.StrEnum):
    """What is promised."""

    AVAILABILITY = "availability"
    TTFT = "ttft"
    ITL = "itl"
    LATENCY = "latency"
    COST = "cost"
    QUALITY = "quality"


_WORDS = {
    ObjectiveKind.TTFT: "first token within {:g} ms",
    ObjectiveKind.ITL: "{:g} ms between tokens at most",
    ObjectiveKind.LATENCY: "whole answer within {:g} ms",
}
LATE = tuple(_WORDS)
"""Kinds whose threshold is in milliseconds."""


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One promise.

    Attributes:
        target: Share of the requests that are good; for cost it has no meaning and is 1.
        threshold: For times the most milliseconds, for cost the most USD per request on average;
            None for the others.
        period_days: Time over which the promise holds and its budget is counted.
        requests_min: No alert by fewer requests in the long window.
        bad_min: No alert by fewer bad ones in it (not for cost).
    """

    kind: ObjectiveKind
    target: float = 1.0
    threshold: float | None = None
    period_days: float = PERIOD_DAYS_DEFAULT
    requests_min: int = REQUESTS_MIN_DEFAULT
    bad_min: int = BAD_MIN_DEFAULT

    @property
    def allowance(self) -> float:
        """What one request may take of the budget: a share of it bad, or USD."""
        return self.threshold or 0.0 if self.kind is ObjectiveKind.COST else 1.0 - self.target

    @property
    def period_s(self) -> float:
        """The period in seconds."""
        return self.period_days * 86_400.0

    @property
    def words(self) -> str:
        """The promise as people say it."""
        if self.kind is ObjectiveKind.COST:
            return f"{self.threshold:g} USD per request at most"
        share = f"{self.target * 100:.6g}%"
        if self.kind is ObjectiveKind.AVAILABILITY:
            return f"{share} of requests answered"
        if self.kind is ObjectiveKind.QUALITY:
            return f"{share} of judged answers good"
        return f"{share} of requests: {_WORDS[self.kind].format(self.threshold)}"


def check_objective(objective: Objective) -> None:
    """Raises InvalidInput, with the place, unless it can be held and broken."""
    where = f"slos.{objective.kind}"
    if objective.kind is not ObjectiveKind.COST and not 0.0 < objective.target < 1.0:
        raise InvalidInput(
            f"{where}: a target of {objective.target:g} is not above 0% and below 100%",
            hint="what allows no failure at all has no budget, and is broken by the first one",
        )
    has_threshold = objective.kind is ObjectiveKind.COST or objective.kind in LATE
    value = objective.threshold
    if has_threshold and (value is None or not 0.0 < value < math.inf):
        raise InvalidInput(f"{where}: needs a threshold above 0, not {value}")
    if not PERIOD_DAYS_MIN <= objective.period_days <= PERIOD_DAYS_MAX:
        raise InvalidInput(
            f"{where}: a period of {objective.period_days:g} days is not between "
            f"{PERIOD_DAYS_MIN:g} and {PERIOD_DAYS_MAX:g}"
        )
    if objective.requests_min < 1 or objective.bad_min < 1:
        raise InvalidInput(f"{where}: the least numbers of requests must be 1 or more")
