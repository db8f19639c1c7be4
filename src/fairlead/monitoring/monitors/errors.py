"""Failed requests: are there more than when the release was new, and on which replica?

A replica that hiccups fails several requests in a row: all that it was working on. So after a
failure the next `HICCUP` requests of its replica do not count, failed or not; but where the first
one to count again has failed as well, all do until one has not. That leaves the rate of failures by
chance what it is, makes a hiccup one failure, and hides no replica that goes on failing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import ClassVar

import msgspec

from fairlead.monitoring.conditions import Condition, Figure
from fairlead.monitoring.monitors.exercise import Made, see, tested
from fairlead.monitoring.monitors.interface import Document, Seen
from fairlead.monitoring.monitors.outcomes import Harmless, RateMonitor, Side

HICCUP = 10
LATEST = 48
"""Failures that are looked at for which replica has most of them."""
MOST = 0.6
"""Share of them that one replica must have, and twice its share of all requests."""
_AMONG = 2_048
_REPLICAS_MAX = 1_000


class ErrorsMonitor(RateMonitor):
    """The rate of failed requests, as `fairlead.domain.outcomes` counts them."""

    name = "errors"
    harmless: ClassVar[Harmless] = Harmless(1.5)
    sides: ClassVar[Mapping[str, Side]] = {"failed": Side("of requests failed", gross=0.1)}

    def accept(self) -> None:
        """Learn anew."""
        super().accept()
        self._hiccups: dict[str, int] = {}
        self._failures: list[str] = []
        self._served: Counter[str] = Counter()
        self._replica, self._share = "", 0.0

    def see(self, seen: Seen) -> None:
        """Every request counts but those of a hiccup."""
        request, failed = seen.request, seen.failed
        if request.replica:
            self._note(request.replica, failed)
        if self._counts(request.replica, failed) and self._tracks["failed"].take(
            float(failed), request.started_at
        ):
            self._replica, self._share = self._culprit()

    def conditions(self, now: float) -> list[Condition]:
        """One at most; it names the replica that had most of the failures at the alarm."""
        found = super().conditions(now)
        if not self._replica:
            return found
        replica = f"on replica {self._replica[:100]}"
        figure = Figure(f"of the failures {replica}", self._share, "%")
        return [
            msgspec.structs.replace(
                one,
                summary=f"{one.summary}; {self._share:.0f}% of the failures are {replica}",
                evidence=(*one.evidence, figure),
            )
            for one in found
        ]

    def self_test(self) -> str:
        """Requests that fail now and then, and then all the time."""

        def feed(monitor: ErrorsMonitor, dice: random.Random, faulty: bool, number: int) -> None:
            failed = faulty or dice.random() < 0.01
            see(monitor, Made(started_at=float(number)), failed=failed)

        made = ErrorsMonitor("self-test", self.release, self._small())
        return tested(made, 2 * made.settings.learn, 400, feed)

    def _labels(self) -> dict[str, str]:
        return {"replica": self._replica[:100]}

    def _counts(self, replica: str, failed: bool) -> bool:
        """Whether this request counts. Kept of a replica that failed: how many do not, yet."""
        left = self._hiccups.get(replica)
        if left:
            self._hiccups[replica] = left - 1
            return False
        if not failed:
            self._hiccups.pop(replica, None)
        elif left is None and len(self._hiccups) < _REPLICAS_MAX:
            self._hiccups[replica] = HICCUP
        return True

    def _note(self, replica: str, failed: bool) -> None:
        served = self._served
        served[replica] += 1
        if served[replica] >= _AMONG or len(served) > _REPLICAS_MAX:
            self._served = Counter({name: n // 2 for name, n in served.items() if n > 1})
        if failed:
            self._failures.append(replica)
            del self._failures[:-LATEST]

    def _culprit(self) -> tuple[str, float]:
        """The replica with most of the latest failures, and its share in percent; or none."""
        change = self._tracks["failed"].change
        bad = 0 if change is None else round(change.rate * change.ago)
        latest = Counter(self._failures[-max(bad, 1) :])
        if not latest or len(self._served) < 2:
            return "", 0.0
        (replica, n), *_ = latest.most_common(1)
        share = n / latest.total()
        usual = self._served[replica] / self._served.total()
        is_it = share >= max(MOST, min(2.0 * usual, 0.95)) and n >= 3
        return (replica, 100.0 * share) if is_it else ("", 0.0)

    def _remembered(self) -> Document:
        return {
            **super()._remembered(),
            "hiccups": dict(self._hiccups),
            "failures": list(self._failures),
            "served": dict(self._served),
            "replica": [self._replica, self._share],
        }

    def _recall(self, state: Document) -> None:
        failures, served, hiccups = state["failures"], state["served"], state["hiccups"]
        replica, share = state["replica"]
        fits = (
            len(failures) <= LATEST
            and all(isinstance(name, str) for name in (*failures, *served, replica))
            and all(0 <= left <= HICCUP for left in hiccups.values())
            and all(isinstance(n, int) and n > 0 for n in served.values())
            and 0.0 <= share <= 100.0
        )
        if not fits:
            raise ValueError("damaged state of the monitor errors: its replicas")
        super()._recall(state)
        self._failures, self._served = list(failures), Counter(served)
        self._hiccups = dict(hiccups)
        self._replica, self._share = replica, float(share)
