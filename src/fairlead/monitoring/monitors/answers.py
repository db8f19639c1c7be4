"""What the answers are like: broken JSON, refusals, and their length."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import ClassVar

from fairlead.domain.outcomes import CLIENT_ERRORS
from fairlead.monitoring.baseline import Compared
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.monitors.exercise import Made, see, tested
from fairlead.monitoring.monitors.intake import TOKENS, Expected
from fairlead.monitoring.monitors.interface import Document, Seen
from fairlead.monitoring.monitors.of_release import learning, stored_since
from fairlead.monitoring.monitors.outcomes import Harmless, RateMonitor, Side

OUTER = 0.1
"""Share of the first answers that were longer than what counts as long; and so for short ones."""


class FormatMonitor(RateMonitor):
    """Where JSON was asked for: how often the answer is none."""

    name = "format"
    sides: ClassVar[Mapping[str, Side]] = {
        "malformed": Side("of answers that should be JSON are not")
    }

    def see(self, seen: Seen) -> None:
        """Requests that asked for JSON count."""
        if (malformed := seen.request.malformed) >= 0:
            self._tracks["malformed"].take(float(malformed > 0), seen.request.started_at)

    def self_test(self) -> str:
        """Some answers are broken, and then all."""

        def feed(monitor: FormatMonitor, dice: random.Random, faulty: bool, number: int) -> None:
            broken = int(faulty or dice.random() < 0.02)
            see(monitor, Made(started_at=float(number), malformed=broken))

        made = FormatMonitor("self-test", self.release, self._small())
        return tested(made, 2 * made.settings.learn, 400, feed)


class RefusalsMonitor(RateMonitor):
    """How often an answer declines to help: more often is a ticket, less often is to be known."""

    name = "refusals"
    sides: ClassVar[Mapping[str, Side]] = {
        "more": Side("of answers decline to help", labels=(("direction", "more"),)),
        "fewer": Side(
            "of answers decline to help", Severity.INFO, 1.0, "fewer", (("direction", "fewer"),)
        ),
    }

    def see(self, seen: Seen) -> None:
        """Answers that somebody looked at count."""
        if (refused := seen.request.refused) >= 0:
            for track in self._tracks.values():
                track.take(float(refused > 0), seen.request.started_at)

    def self_test(self) -> str:
        """Some answers are refusals, and then all."""

        def feed(monitor: RefusalsMonitor, dice: random.Random, faulty: bool, number: int) -> None:
            refused = int(faulty or dice.random() < 0.03)
            see(monitor, Made(started_at=float(number), refused=refused))

        made = RefusalsMonitor("self-test", self.release, self._small())
        return tested(made, 2 * made.settings.learn, 400, feed)


class LengthMonitor(RateMonitor):
    """How many answers are longer than nine of ten were at first, and shorter than nine of ten.

    That the bounds come from the same answers as the rates is no matter: how often an answer lies
    beyond the k-th of n has the distribution by which the interval of a rate of k in n is made.
    """

    name = "length"
    compares: ClassVar[Compared] = Compared.BOTH
    expects: ClassVar[Expected] = TOKENS
    harmless: ClassVar[Harmless] = Harmless(3.0, 0.15)
    sides: ClassVar[Mapping[str, Side]] = {
        "longer": Side("of answers are long", gross=1.0, labels=(("direction", "longer"),)),
        "shorter": Side("of answers are short", gross=1.0, labels=(("direction", "shorter"),)),
    }

    def accept(self) -> None:
        """Learn anew."""
        super().accept()
        self.taken: Counter[str] = Counter()
        self._lengths: list[int] = []
        self._learnt_since: float | None = None
        self._bounds: tuple[int, int] | None = None

    def see(self, seen: Seen) -> None:
        """Whole answers whose tokens are known count."""
        request = seen.request
        tokens, at = request.completion_tokens, request.started_at
        if tokens < 0 or seen.failed or request.status >= CLIENT_ERRORS:
            return
        self.taken[""] += 1
        if self._bounds is not None:
            self._compare(tokens, at)
            return
        if not self._lengths:
            self._learnt_since = at
        self._lengths.append(tokens)
        if len(self._lengths) >= self._learn:
            order, k = sorted(self._lengths), int(OUTER * self._learn)
            self._bounds = (order[k], order[-1 - k])
            for each in self._lengths:
                self._compare(each, at)
            for track in self._tracks.values():
                track.learnt_since = self._learnt_since
            self._lengths = []

    def standing(self) -> str:
        """How far it is."""
        if self._bounds is None:
            return learning(len(self._lengths), self._learn)
        short, long = self._bounds
        return f"watching: below {short:,} tokens is short, above {long:,} is long"

    def self_test(self) -> str:
        """Answers of some tokens, and then five times as many."""

        def feed(monitor: LengthMonitor, dice: random.Random, faulty: bool, number: int) -> None:
            tokens = dice.randint(50, 150) * (5 if faulty else 1)
            see(monitor, Made(started_at=float(number), completion_tokens=tokens))

        made = LengthMonitor("self-test", self.release, self._small())
        return tested(made, 2 * made.settings.learn, 400, feed)

    def _compare(self, tokens: int, at: float) -> None:
        assert self._bounds is not None
        short, long = self._bounds
        self._tracks["longer"].take(float(tokens > long), at)
        self._tracks["shorter"].take(float(tokens < short), at)

    def _remembered(self) -> Document:
        bounds = None if self._bounds is None else list(self._bounds)
        return {
            **super()._remembered(),
            "lengths": list(self._lengths),
            "bounds": bounds,
            "learnt_since": self._learnt_since,
        }

    def _recall(self, state: Document) -> None:
        lengths, kept = state["lengths"], state["bounds"]
        bounds = None if kept is None else (kept[0], kept[1])
        numbers = [*lengths, *(bounds or ())]
        if len(lengths) >= self._learn or not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise ValueError("damaged state of the monitor length: its first answers")
        learnt_since = stored_since(state)
        super()._recall(state)
        self._lengths, self._bounds, self._learnt_since = list(lengths), bounds, learnt_since
