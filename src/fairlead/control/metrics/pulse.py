"""How often control's loop turns, and how long a turn takes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from fairlead.domain.errors import FairleadError
from fairlead.gateway.records.metric_families import Family, FamilyState

TURN_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Pulse:
    """Measures turns.

    Args:
        monotonic: Seconds that never jump.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._ended_at = monotonic()
        self._turns = Family(
            "fairlead_control_turns_total",
            "counter",
            "Turns of control's loop, by outcome: done, or failed (a part of it was refused, and "
            "is tried again).",
            ("outcome",),
        )
        self._seconds = Family(
            "fairlead_control_turn_seconds",
            "histogram",
            "How long a turn of control's loop took.",
            (),
            TURN_BUCKETS_S,
        )
        self._age = Family(
            "fairlead_control_turn_age_seconds",
            "gauge",
            "Seconds since the last turn of control's loop ended.",
        )

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Around one turn; what it raises goes on."""
        began = self._monotonic()
        outcome = "done"
        try:
            yield
        except FairleadError:
            outcome = "failed"
            raise
        finally:
            self._ended_at = self._monotonic()
            self._turns.inc((outcome,))
            self._seconds.observe((), self._ended_at - began)

    def states(self) -> list[FamilyState]:
        """The metrics."""
        self._age.set((), self._monotonic() - self._ended_at)
        return [self._turns.state(), self._seconds.state(), self._age.state()]
