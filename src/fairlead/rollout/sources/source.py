"""What a source is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fairlead.rollout.metrics import MetricKind
from fairlead.rollout.observation import Observation


class Source(NamedTuple):
    """A figure of each request.

    Attributes:
        value: Of an answered request; of a binary source 1 is bad. None where there is none.
        unit: What stands behind its amounts in texts; empty for rates.
        is_time: A client that left waited at least as long as the request took.
        applies: Whether a request has it at all. This must follow from the request alone, and not
            from what became of it, or the arms could not be compared any more.
        both_ways: Less of it can be the bad change, too.
        fact: What the gateway has to look for in the answers' texts; None for nothing.
        of_all: A request without an answer has it, too.
    """

    name: str
    kind: MetricKind
    value: Callable[[Observation], float | None]
    unit: str = ""
    is_time: bool = False
    applies: Callable[[Observation], bool] = lambda _request: True
    both_ways: bool = False
    fact: str | None = None
    of_all: bool = False


def known(value: float) -> float | None:
    """The value; None where a record says that it is not known."""
    return value if 0.0 <= value < VALUE_MAX else None


VALUE_MAX = 1e12
"""Larger ones are no measurements."""
