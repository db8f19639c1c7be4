"""How often requests hit a guardrail of the release."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import ClassVar

from fairlead.monitoring.baseline import Compared
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.monitors.exercise import Made, see, tested
from fairlead.monitoring.monitors.interface import Seen
from fairlead.monitoring.monitors.outcomes import Harmless, RateMonitor, Side


class GuardrailsMonitor(RateMonitor):
    """More hits are a ticket; fewer are to be known: what is denied may have found another way.

    One attacker who sends many requests is an alarm, on purpose: each hit counts by itself, with no
    allowance beyond what the release's first requests showed of hits that come together.
    """

    name = "guardrails"
    compares: ClassVar[Compared] = Compared.BOTH
    harmless: ClassVar[Harmless] = Harmless(1.0)
    sides: ClassVar[Mapping[str, Side]] = {
        "more": Side("of requests hit a guardrail", labels=(("direction", "more"),)),
        "fewer": Side(
            "of requests hit a guardrail", Severity.INFO, 1.0, "fewer", (("direction", "fewer"),)
        ),
    }

    def see(self, seen: Seen) -> None:
        """Requests of a service with guardrails count."""
        if (hits := seen.request.guardrail_hits) >= 0:
            for track in self._tracks.values():
                track.take(float(hits > 0), seen.request.started_at)

    def self_test(self) -> str:
        """Some requests hit one, and then all."""

        def feed(
            monitor: GuardrailsMonitor, dice: random.Random, faulty: bool, number: int
        ) -> None:
            hits = int(faulty or dice.random() < 0.03)
            see(monitor, Made(started_at=float(number), guardrail_hits=hits))

        made = GuardrailsMonitor("self-test", self.release, self._small())
        return tested(made, 2 * made.settings.learn, 400, feed)
