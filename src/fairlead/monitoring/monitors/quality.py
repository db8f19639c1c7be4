"""What people, and a judge model, say of the answers: one rate for each name of feedback."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import ClassVar

from fairlead.domain.judging import UNJUDGED
from fairlead.monitoring.monitors.exercise import Made, tested
from fairlead.monitoring.monitors.interface import Document, SeenFeedback
from fairlead.monitoring.monitors.outcomes import RateMonitor, Side

FEEDBACK_NAMES_MAX = 8
"""Names of feedback that are watched: the first ones."""
LEARN_SHARE = 0.2
"""Feedback is rare: it is learnt from this share of what other monitors learn from."""
LEARN_LEAST = 100


class QualityMonitor(RateMonitor):
    """Values from 0 (bad) to 1 (good), by the feedback's name; others are not looked at."""

    name = "quality"
    sides: ClassVar[Mapping[str, Side]] = {}
    sides_max: ClassVar[int] = FEEDBACK_NAMES_MAX

    def see_feedback(self, feedback: SeenFeedback) -> None:
        """Feedback counts when it comes."""
        name, value = feedback.name[:100], feedback.value
        if not 0.0 <= value <= 1.0 or name == UNJUDGED:
            return
        track = self._tracks.get(name)
        if track is None:
            if len(self._tracks) >= FEEDBACK_NAMES_MAX:
                return
            track = self._tracks[name] = self._track(self._side(name))
        track.take(1.0 - value, feedback.at)

    def standing(self) -> str:
        """How far it is, by name."""
        if not self._tracks:
            return "no feedback so far"
        return "; ".join(f"{name}: {track.standing}" for name, track in self._tracks.items())

    def self_test(self) -> str:
        """One in ten is bad, and then all."""

        def feed(monitor: QualityMonitor, dice: random.Random, faulty: bool, number: int) -> None:
            value = 0.0 if faulty or dice.random() < 0.1 else 1.0
            monitor.see_feedback(SeenFeedback(Made(), "thumbs", value, float(number)))

        made = QualityMonitor("self-test", self.release, self._small())
        return tested(made, 400, 400, feed)

    def _recall(self, state: Document) -> None:
        if len(state["tracks"]) > FEEDBACK_NAMES_MAX:
            raise ValueError("damaged state of the monitor quality: too many names")
        super()._recall(state)

    @property
    def _learn(self) -> int:
        return max(LEARN_LEAST, int(LEARN_SHARE * self.settings.learn))

    def _side(self, name: str) -> Side:
        return Side(f"of what {name!r} says is bad", labels=(("feedback", name),))
