"""A gate on a few new cases: what they cannot tell is inconclusive, in words."""

from __future__ import annotations

import pytest

from fairlead.control.acting.few_cases import decide_few
from fairlead.domain.verdicts import GateOutcome
from fairlead.evaluation.gates import GateRule
from fairlead.evaluation.runner import CaseResult

FAIL, PASS, OPEN = GateOutcome.FAIL, GateOutcome.PASS, GateOutcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("right", "wrong", "outcome", "words"),
    [
        (0, 1, OPEN, "by chance"),
        (0, 2, OPEN, "by chance"),
        (0, 3, FAIL, "below the minimum 80%"),
        (3, 2, OPEN, "by chance"),
        (7, 3, OPEN, "by chance"),
        (4, 6, FAIL, "below the minimum 80%"),
        (1, 0, OPEN, "to pass takes 10 cases"),
        (9, 0, OPEN, "to pass takes 10 cases"),
        (8, 2, PASS, "at least the minimum 80%"),
    ],
)
def test_one_prompt_decides_nothing(
    right: int, wrong: int, outcome: GateOutcome, words: str
) -> None:
    results = [CaseResult(f"c{n}", float(n < right)) for n in range(right + wrong)]
    verdict = decide_few(GateRule("judge", minimum=0.8), results)
    assert verdict.outcome is outcome
    assert words in verdict.reason
    assert f"{right} of {right + wrong} right" in verdict.reason


def test_cases_without_a_score_do_not_make_it_fail() -> None:
    results = [CaseResult(f"c{n}", 0.0 if n < 3 else None, error="e") for n in range(6)]
    assert decide_few(GateRule("judge", minimum=0.8), results).outcome is OPEN
    none = [CaseResult("c", None, error="no answer")]
    assert decide_few(GateRule("judge", minimum=0.8), none).outcome is GateOutcome.ERROR
