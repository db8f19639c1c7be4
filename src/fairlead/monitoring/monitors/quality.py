"""What people, and a judge model, say of the answers: one rate for each name of feedback."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import ClassVar

from fairlead.domain.judging import JUDGED, UNJUDGED
from fairlead.monitoring.conditions import Figure
from fairlead.monitoring.monitors.exercise import Made, tested
from fairlead.monitoring.monitors.intake import FEEDBACK, Expected
from fairlead.monitoring.monitors.interface import Document, SeenFeedback
from fairlead.monitoring.monitors.judged import (
    Grading,
    JudgedTrack,
    said_of_answers,
    true_figures,
)
from fairlead.monitoring.monitors.outcomes import RateMonitor, Side, Track
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.stats.monitors.recent import Change

FEEDBACK_NAMES_MAX = 8
"""Names of feedback that are watched: the first ones."""
LEARN_SHARE = 0.2
"""Feedback is rare: it is learnt from this share of what other monitors learn from."""
LEARN_LEAST = 100


class QualityMonitor(RateMonitor):
    """Values from 0 (bad) to 1 (good), by the feedback's name; others are not looked at."""

    name = "quality"
    expects: ClassVar[Expected] = FEEDBACK
    sides: ClassVar[Mapping[str, Side]] = {}
    sides_max: ClassVar[int] = FEEDBACK_NAMES_MAX

    def __init__(
        self,
        service: str,
        release: str,
        settings: MonitorSettings,
        grading: Grading | None = None,
    ) -> None:
        """
        Args:
            release: Its digest.
            grading: How the service's judge model grades; None if it has none.
        """
        self._grading = grading
        super().__init__(service, release, settings)

    def accept(self) -> None:
        """Learn anew."""
        super().accept()
        self.taken: Counter[str] = Counter()

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
        if name != JUDGED:  # Who waits for a judge is told why by others.
            self.taken[name] += 1
        if isinstance(track, JudgedTrack):
            track.take_verdict(1.0 - value, feedback.at, feedback.request.arm)
        else:
            track.take(1.0 - value, feedback.at)

    def standing(self) -> str:
        """How far it is, by name."""
        if not self._tracks:
            return "no feedback so far"
        return "; ".join(f"{name}: {self._said(track)}" for name, track in self._tracks.items())

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
        tracks = state["tracks"]
        if state.get("judge", "") != self._judge:
            # Verdicts of another judge are no reference for this one's.
            tracks = {name: kept for name, kept in tracks.items() if name != JUDGED}
        super()._recall({**state, "tracks": tracks})

    def _remembered(self) -> Document:
        return {**super()._remembered(), "judge": self._judge}

    @property
    def _judge(self) -> str:
        return "" if self._grading is None else self._grading.identity

    def _said(self, track: Track) -> str:
        if not isinstance(track, JudgedTrack):
            return track.standing
        error = None if self._grading is None else self._grading.error
        return ", ".join(filter(None, (track.standing, said_of_answers(track, error))))

    def _track(self, side: Side) -> Track:
        if ("feedback", JUDGED) not in side.labels:
            return super()._track(side)
        run_length = self.settings.requests_per_false_alarm * self.sides_max
        return JudgedTrack(self._learn, self.settings.learn, run_length)

    def _further(self, track: Track, change: Change) -> list[Figure]:
        error = None if self._grading is None else self._grading.error
        if error is None or not isinstance(track, JudgedTrack):
            return []
        return true_figures(change, track, error)

    @property
    def _learn(self) -> int:
        return max(LEARN_LEAST, int(LEARN_SHARE * self.settings.learn))

    def _side(self, name: str) -> Side:
        return Side(f"of what {name!r} says is bad", labels=(("feedback", name),))
