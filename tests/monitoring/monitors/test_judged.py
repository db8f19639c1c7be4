"""Verdicts of a judge: held against those of acceptance, and what they say of answers."""

from __future__ import annotations

import random

import pytest

from fairlead.domain.judging import JUDGED
from fairlead.monitoring.monitors.exercise import Made
from fairlead.monitoring.monitors.interface import SeenFeedback
from fairlead.monitoring.monitors.judged import Grading
from fairlead.monitoring.monitors.quality import QualityMonitor
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.stats.monitors.rates import Counts, JudgeError

SETTINGS = MonitorSettings(learn=1_000)
ERROR = JudgeError(alarms=Counts(20, 400), misses=Counts(40, 400))
KNOWN = Grading("judge-1", 4.0, ERROR)


class Life:
    """A release's verdicts, one a second."""

    def __init__(self, grading: Grading | None = KNOWN, seed: int = 1) -> None:
        self.monitor = QualityMonitor("bank", "sha256:ab", SETTINGS, grading)
        self.now, self.dice = 1_000.0, random.Random(seed)

    def verdicts(self, bad: float, n: int, arm: str = "champion", name: str = JUDGED) -> None:
        for _ in range(n):
            self.now += 1.0
            value = float(self.dice.random() >= bad)
            self.monitor.see_feedback(SeenFeedback(Made(arm=arm), name, value, self.now))

    def figures(self) -> dict[str, float]:
        (found,) = self.monitor.conditions(self.now)
        return {figure.name: figure.value for figure in found.evidence}


def test_it_learns_from_all_verdicts_of_acceptance() -> None:
    """Until the release is champion, as many as `learn`; then it watches at once."""
    life = Life()
    life.verdicts(0.05, 600, "canary")
    assert life.monitor.standing().startswith("judge: learning, 200 of 200 verdicts")
    life.verdicts(0.05, 1)
    assert life.monitor.standing().startswith("judge: watching")
    life.verdicts(0.30, 500)
    (found,) = life.monitor.conditions(life.now)
    assert "of the first 600" in found.summary


def test_a_release_without_acceptance_learns_as_champion() -> None:
    life = Life()
    life.verdicts(0.05, 199)
    assert "learning, 199 of 200 verdicts" in life.monitor.standing()
    life.verdicts(0.05, 2)
    assert "watching" in life.monitor.standing()


def test_more_acceptance_makes_it_sharper() -> None:
    """From 5 to 25 % bad verdicts, found sooner against 1,000 accepted ones than against 200."""
    took = []
    for accepted in (200, 1_000):
        life = Life(seed=5)
        life.verdicts(0.05, accepted, "canary")
        life.verdicts(0.05, 1)
        for count in range(1, 200):
            life.verdicts(0.25, 25)
            if life.monitor.conditions(life.now):
                took.append(25 * count)
                break
    assert len(took) == 2
    assert took[1] < 0.7 * took[0]


def test_what_is_said_of_answers_holds_the_judges_errors() -> None:
    """It calls 5 % of the good ones bad and 10 % of the bad ones good; 40 % are bad by then."""
    life = Life()
    life.verdicts(0.09 * 0.9 + 0.91 * 0.05, 600, "canary")
    life.verdicts(0.4 * 0.9 + 0.6 * 0.05, 700)
    said = life.figures()
    least, most = (said[f"bad answers since the change, at {end}"] for end in ("least", "most"))
    assert least < 40.0 < most
    assert most - least > 10.0
    assert said["bad answers at first, at least"] < 9.0 < said["bad answers at first, at most"]
    unmeasured = Life(KNOWN._replace(error=None))
    unmeasured.verdicts(0.05, 600, "canary")
    unmeasured.verdicts(0.4, 250)
    assert not [name for name in unmeasured.figures() if name.startswith("bad answers")]
    assert "errors were not measured" in unmeasured.monitor.standing()


def test_a_judge_that_knows_nothing_is_said_to() -> None:
    life = Life(KNOWN._replace(error=JudgeError(Counts(50, 100), Counts(50, 100))))
    life.verdicts(0.5, 300)
    assert "hardly tells good answers from bad ones" in life.monitor.standing()


def test_another_judge_begins_anew_and_other_feedback_goes_on() -> None:
    life = Life()
    life.verdicts(0.05, 400)
    life.verdicts(0.05, 400, name="thumbs")
    state = life.monitor.state()
    same = QualityMonitor("bank", "sha256:ab", SETTINGS, KNOWN._replace(error=None))
    same.restore(state)
    assert "judge: watching" in same.standing()
    other = QualityMonitor("bank", "sha256:ab", SETTINGS, Grading("judge-2", 4.0))
    other.restore(state)
    assert other.standing() == "thumbs: watching"
    with pytest.raises(ValueError, match="damaged"):
        same.restore({**state, "tracks": {"judge": {"first": [2.0]}}})


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equal_verdicts_raise_nothing(seed: int) -> None:
    life = Life(seed=seed)
    life.verdicts(0.1, 500, "canary")
    life.verdicts(0.1, 10_000)
    assert life.monitor.conditions(life.now) == []


def test_scores_on_a_scale_are_no_values_from_0_to_1() -> None:
    """A caller that does not grade them is not taken at its word: 4 of 5 is not looked at."""
    life = Life(None)
    life.monitor.see_feedback(SeenFeedback(Made(), JUDGED, 4.0, 1.0))
    assert life.monitor.standing() == "no feedback so far"
