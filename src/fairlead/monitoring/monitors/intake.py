"""What a monitor takes in, of what it could have: one that is given nothing finds nothing wrong.

Answers without counts of tokens, loads that were never learnt, users who say nothing any more: to
the monitor these are no requests at all. So it counts what it takes in, and it is said how many
requests could have given it something. It is blind where so many of these, over so long a time,
have given it nothing, and something came before; where that came seldom, many more are waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import msgspec

from fairlead.domain.outcomes import CLIENT_ERRORS, SHADOW
from fairlead.monitoring.monitors.interface import Seen

Of = Literal["requests", "answers", "streams"]
"""All requests but copies; those that were answered well, with a text; the streams among these."""

EMBEDDINGS = "embeddings"
"""The endpoint whose answers are no text."""

RARE = 20.0
"""So many times as many requests as one intake took on average have to bring nothing."""

PAUSE_S = 300.0
"""So many seconds a request count as traffic, at most: a weekend without any is none."""


class Expected(NamedTuple):
    """When it is no chance that a monitor takes in nothing.

    Attributes:
        of: Which requests could give it something.
        least: So many of them without anything,
        least_s: and over so many seconds of traffic.
        lacks: What does not come then; `{}` is the name of it, where there are several.
        had: So often something must have come before; 0 where it is declared that it does.
    """

    of: Of
    least: int
    least_s: float
    lacks: str
    had: int = 20


DAY_S = 86_400.0
TIMES = Expected("answers", 1_000, DAY_S, "times at loads that it has learnt")
"""A day has all loads that are usual: a night is not blind because only days were learnt."""
STREAM_TIMES = TIMES._replace(of="streams")
TOKENS = Expected("answers", 1_000, 3_600.0, "counts of tokens")
SPENT = Expected("answers", 1_000, 3_600.0, "counts of tokens, and no costs")
FEEDBACK = Expected("answers", 2_000, 3 * DAY_S, "feedback {}")
"""Over a weekend people may say nothing."""
SEGMENT = Expected(
    "requests", 5_000, 3 * DAY_S, "request of segment {}: has a key the name that it says?", had=0
)


@runtime_checkable
class TakesIn(Protocol):
    """A monitor that counts what it takes in."""

    @property
    def expects(self) -> Expected:
        """When it is no chance that there is nothing."""
        ...

    @property
    def taken(self) -> Mapping[str, int]:
        """How much it has taken in since it was made, or learns anew.

        By name where there are several things, else by the empty name.
        """
        ...


class Intake(msgspec.Struct, frozen=True):
    """What a monitor has taken in of one thing.

    Attributes:
        taken: How much.
        asked: Requests that could have given it something, until the last that did.
        missing: Those since then.
        for_s: Over how many seconds of traffic these came.
        at: Unix time of the last of all these.
    """

    taken: int = 0
    asked: int = 0
    missing: int = 0
    for_s: float = 0.0
    at: float = 0.0

    def after(self, taken: int, asked: int, at: float) -> Intake:
        """With so much more taken in of so many more requests, the last of them at a Unix time."""
        if taken > 0:
            return Intake(self.taken + taken, self.asked + self.missing + asked, 0, 0.0, at)
        if not asked:
            return self
        came_s = min(max(0.0, at - (self.at or at)), PAUSE_S * asked)
        return Intake(
            self.taken, self.asked, self.missing + asked, self.for_s + came_s, max(self.at, at)
        )

    def lacking(self, expected: Expected) -> int:
        """Requests in a row that gave it nothing, where that is no chance; else 0."""
        usual = RARE * self.asked / self.taken if self.taken else 0.0
        is_much = self.missing >= max(float(expected.least), usual)
        is_long = self.for_s >= expected.least_s
        return self.missing if self.taken >= expected.had and is_much and is_long else 0


def kinds_of(seen: Seen) -> tuple[Of, ...]:
    """What this request is one of."""
    request = seen.request
    if request.arm == SHADOW:
        return ()
    if seen.failed or request.status >= CLIENT_ERRORS or request.endpoint == EMBEDDINGS:
        return ("requests",)
    return ("requests", "answers", "streams") if request.stream else ("requests", "answers")
