"""Which requests are traced, and as part of what: W3C Trace Context, level 1.

https://www.w3.org/TR/trace-context/ : a client's `traceparent` says which trace its request belongs
to, and whether that one is recorded; this decision is taken over. Without one (or with one that is
not valid) a share of requests begins a trace of its own, chosen by chance when they come. The
engine is told in the same form, so that its own spans become part of the trace: of a request that
is recorded the span of the attempt, which is a child of the request's; of another one that it is
not. `tracestate` is not passed on.
"""

from __future__ import annotations

import os
import random
import re

from fairlead.wire.record import Tried

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_SAMPLED = 1
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16


class Trace:
    """One request's place in a trace, and its attempts while it is recorded.

    Attributes:
        record: What its record says of it: trace, own span, and the client's span if there is one,
            joined by hyphens; empty where it is not recorded.
    """

    __slots__ = ("_attempts", "_chance", "_trace", "header", "record")

    def __init__(
        self, header: str, record: str = "", trace: str = "", chance: random.Random | None = None
    ) -> None:
        """
        Args:
            header: The `traceparent` of the request as a whole.
            trace, chance: Id of the trace, and where ids of spans come from; of one that is
                recorded.
        """
        self.header = header
        self.record = record
        self._trace = trace
        self._chance = chance
        self._attempts: list[_Attempt] = []

    def begin(self, now: float, replica: str, release: str, *, is_hedge: bool = False) -> None:
        """An attempt on this replica begins; `now` in monotonic seconds."""
        if self._chance is not None:
            span = f"{self._chance.getrandbits(64) or 1:016x}"
            self._attempts.append(_Attempt(span, replica, release, now, is_hedge=is_hedge))

    def end(self, now: float, replica: str, outcome: str = "") -> None:
        """The attempt on this replica is over; see `Tried` for the outcomes."""
        for attempt in reversed(self._attempts):
            if attempt.replica == replica and attempt.ended is None:
                attempt.ended, attempt.outcome = now, outcome
                return

    def header_for(self, replica: str) -> str:
        """The `traceparent` that the engine gets: of the attempt on its replica."""
        for attempt in reversed(self._attempts):
            if attempt.replica == replica:
                return f"00-{self._trace}-{attempt.span}-01"
        return self.header

    def tried(self, started: float, now: float, outcome: str) -> tuple[Tried, ...]:
        """All attempts, those that are open ended now with this outcome.

        Args:
            started: When the request began, in monotonic seconds.
        """
        return tuple(
            Tried(
                each.span,
                each.replica,
                each.release,
                (each.began - started) * 1000.0,
                ((now if each.ended is None else each.ended) - started) * 1000.0,
                outcome if each.ended is None else each.outcome,
                each.is_hedge,
            )
            for each in self._attempts
        )


class _Attempt:
    """One attempt on its way; times in monotonic seconds."""

    __slots__ = ("began", "ended", "is_hedge", "outcome", "release", "replica", "span")

    def __init__(
        self, span: str, replica: str, release: str, began: float, *, is_hedge: bool
    ) -> None:
        self.span = span
        self.replica = replica
        self.release = release
        self.began = began
        self.is_hedge = is_hedge
        self.ended: float | None = None
        self.outcome = ""


UNTRACED = Trace("")


class Tracing:
    """Decides.

    Args:
        share: Of the requests without a context of their client's, from 0 to 1.
        chance: Where ids and the choice come from; each process needs another one.
    """

    def __init__(self, share: float, chance: random.Random) -> None:
        self._share = share
        self._chance = chance

    def begin(self, given: bytes | None) -> Trace:
        """A request's trace.

        Args:
            given: The client's `traceparent`.
        """
        parent = None if given is None else _parent(given)
        if parent is None:
            trace = f"{self._chance.getrandbits(128) or 1:032x}"
            is_recorded, above = self._chance.random() < self._share, ""
        else:
            trace, above, is_recorded = parent
        span = f"{self._chance.getrandbits(64) or 1:016x}"
        if not is_recorded:
            return Trace(f"00-{trace}-{span}-00")
        record = f"{trace}-{span}-{above}" if above else f"{trace}-{span}"
        return Trace(f"00-{trace}-{span}-01", record, trace, self._chance)


def tracing_of(share: float | None) -> Tracing | None:
    """What decides in a worker whose settings say so; None where nothing is traced."""
    if share is None:
        return None
    return Tracing(share, random.Random(os.urandom(16)))  # noqa: S311 - ids, no secrets


def _parent(given: bytes) -> tuple[str, str, bool] | None:
    """Trace, span, and whether it is recorded; None for one that is not valid."""
    match = _PARENT.fullmatch(given.strip(b" \t"))
    if match is None or match[1] == b"ff" or (match[1] == b"00" and match[5] is not None):
        return None
    if match[2] == _NO_TRACE or match[3] == _NO_SPAN:
        return None
    return match[2].decode(), match[3].decode(), bool(int(match[4], 16) & _SAMPLED)
