"""Silences: alerts of which nobody is told for a time, by whose word, and why.

A silenced alert still fires, is shown, and is part of its incident; only its sending waits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.matching import MATCHERS_MAX, Matcher, Op, all_match, check_matchers

DAYS_MAX = 90
TEXT_MAX = 500
_NONCE = "zq7-Xv.k3_J/w9"
"""A value that no label has: what matches it matches about everything."""


class Silence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One silence.

    Attributes:
        matchers: Which alerts: those whose labels all of them match.
        since, until: Unix times in seconds between which it holds.
        by, why: Who wants it, and the reason.
    """

    id: str
    matchers: tuple[Matcher, ...]
    since: float
    until: float
    by: str
    why: str

    def holds(self, now: float) -> bool:
        """Whether it is in force."""
        return self.since <= now < self.until

    def ended(self, now: float) -> Silence:
        """The same, over from now on."""
        return msgspec.structs.replace(self, until=max(self.since, min(self.until, now)))


def check_silence(silence: Silence) -> None:
    """Raises InvalidInput unless it is about something, ends, and says by whom and why."""
    if not 0 < len(silence.matchers) <= MATCHERS_MAX:
        raise InvalidInput(f"a silence needs 1 to {MATCHERS_MAX} matchers")
    check_matchers(silence.matchers)
    if not any(_is_narrow(matcher) for matcher in silence.matchers):
        raise InvalidInput(
            "a silence of everything is none",
            hint="name at least one label that its alerts have, such as service=NAME",
        )
    if not (math.isfinite(silence.since) and silence.since < silence.until):
        raise InvalidInput("a silence has to end after it begins")
    if silence.until - silence.since > DAYS_MAX * 86_400:
        raise InvalidInput(
            f"a silence of more than {DAYS_MAX} days hides what nobody looks at any more",
            hint="mend the cause, or change the promise",
        )
    for name, text in (("by", silence.by), ("why", silence.why)):
        if not 0 < len(text.strip()) <= TEXT_MAX:
            raise InvalidInput(f"a silence needs `{name}`, of 1 to {TEXT_MAX} characters")


def _is_narrow(matcher: Matcher) -> bool:
    """Whether it is about some values of a label: neither about its absence nor about any value."""
    is_positive = matcher.op in (Op.IS, Op.LIKE)
    values = ("", _NONCE, _NONCE.swapcase()[::-1])
    return is_positive and not any(matcher.matches({matcher.name: value}) for value in values)


def silenced_by(alert: Alert, silences: Iterable[Silence], now: float) -> Silence | None:
    """The first silence in force that means this alert."""
    labels = {**alert.of, "severity": alert.severity.value}
    for silence in silences:
        if silence.holds(now) and all_match(silence.matchers, labels):
            return silence
    return None
