"""Which requests are traced, and as part of what: W3C Trace Context, level 1.

https://www.w3.org/TR/trace-context/ : a client's `traceparent` says which trace its request belongs
to, and whether that one is recorded; this decision is taken over. Without one (or with one that is
not valid) a share of requests begins a trace of its own, chosen by chance when they come. The
engine is told in the same form, so that its own spans become part of the trace; for a request that
is not recorded it is told so. `tracestate` is not passed on.
"""

from __future__ import annotations

import os
import random
import re
from typing import NamedTuple

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_SAMPLED = 1
_NO_TRACE = b"0" * 32
_NO_SPAN = b"0" * 16


class Trace(NamedTuple):
    """One request's place in a trace.

    Attributes:
        header: The `traceparent` that the engine gets.
        record: What its record says of it: trace, own span, and the client's span if there is one,
            joined by hyphens; empty where it is not recorded.
    """

    header: str
    record: str


UNTRACED = Trace("", "")


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
            return Trace(f"00-{trace}-{span}-00", "")
        record = f"{trace}-{span}-{above}" if above else f"{trace}-{span}"
        return Trace(f"00-{trace}-{span}-01", record)


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
