"""The rate of a judge model's bad verdicts: what it is held against, and what it says of answers.

It is held against the release's own verdicts: those of its time as a canary, with which it was
accepted, `settings.learn` of them at most; a release that had too few goes on learning as champion.
Both are verdicts of the same judge, so its errors are in both, and while they stay as they are they
can neither make nor hide that the rate has risen: the watch needs no allowance for them.

What the rate of *bad answers* is behind the verdicts does depend on them. Where the judge's errors
were measured, it is said with bounds that hold for the verdicts and for both of its error rates
together (`fairlead.stats.monitors.rates.true_rate`). A judge that errs shows a smaller rise than
there is, never a larger one, so what makes a page of a ticket goes by the verdicts.
"""

from __future__ import annotations

from typing import NamedTuple

from fairlead.monitoring.conditions import Figure
from fairlead.monitoring.monitors.of_release import learning
from fairlead.monitoring.monitors.outcomes import Track
from fairlead.stats.monitors.rates import Counts, JudgeError, true_rate
from fairlead.stats.monitors.recent import Change

CANARY = "canary"


class Grading(NamedTuple):
    """How scores of a judge model are read.

    Attributes:
        identity: Another one is another judge, whose verdicts cannot be compared with this one's.
        good_at_least: The least score that is good.
        error: How often it was wrong on labelled answers; None where that was not measured.
    """

    identity: str
    good_at_least: float
    error: JudgeError | None = None


class JudgedTrack(Track):
    """The rate of bad verdicts on one release."""

    def __init__(self, least: int, most: int, run_length: float) -> None:
        """
        Args:
            least: Verdicts to learn from, at least.
            most: And at most, where so many came while it was a canary.
            run_length: Verdicts between two false alarms, on average, at least.
        """
        super().__init__(most, run_length)
        self._least = min(least, most)

    @property
    def standing(self) -> str:
        """How far it is."""
        if self.is_learning:
            return learning(self.learnt_from, self._least, "verdicts")
        return super().standing

    def take_verdict(self, bad: float, at: float, arm: str) -> bool:
        """Take in a verdict on an answer that the release gave as this arm; see `take`."""
        if arm != CANARY:
            self.begin(self._least)
        return self.take(bad, at)


def true_figures(change: Change, track: Track, error: JudgeError) -> list[Figure]:
    """What share of the answers is bad, since the change and at first."""
    reference = track.reference
    effect = track.design_effect or 1.0
    if reference is None:
        return []
    since = Counts(change.rate * change.ago / effect, change.ago / effect)
    least, most = true_rate(since, error)
    at_first = true_rate(Counts(reference.rate * reference.worth, reference.worth), error)
    return [
        Figure("bad answers since the change, at least", 100.0 * least, "%"),
        Figure("bad answers since the change, at most", 100.0 * most, "%"),
        Figure("bad answers at first, at least", 100.0 * at_first[0], "%"),
        Figure("bad answers at first, at most", 100.0 * at_first[1], "%"),
    ]


def said_of_answers(track: Track, error: JudgeError | None) -> str:
    """What the verdicts that it learnt from say of answers, in words."""
    reference = track.reference
    if reference is None:
        return ""
    if error is None:
        return "the judge's errors were not measured"
    low, high = true_rate(Counts(reference.rate * reference.worth, reference.worth), error)
    if (low, high) == (0.0, 1.0):
        return "by its measured errors the judge hardly tells good answers from bad ones"
    return f"{100.0 * low:.2g}% to {100.0 * high:.2g}% of answers were bad at first"
