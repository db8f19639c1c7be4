"""What is asked beside the records, as people are shown it."""

from __future__ import annotations

import msgspec


class QueryLine(msgspec.Struct, frozen=True):
    """A query of Prometheus, or a suite that is run again, as people are shown it.

    Attributes:
        kind: `guard`, `count` or `suite`.
        value: What it said last; of counts and suites, the evidence that the canary is worse.
        limit: What it may be, in words.
        state: How it stands, in words.
        is_bad: Whether it is outside, or has no data.
    """

    name: str
    kind: str
    value: float | None
    limit: str
    state: str
    is_bad: bool
