"""How often the detector of refusals is right, on texts that were labelled by hand.

`PYTHONPATH=tests python benchmarks/refusals.py` prints the figures; docs/rollouts.md has them.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fairlead.gateway.requests.refusals import CLAUSES, OPENINGS, is_refusal
from gateway.refusal_texts import ANSWERS, HELD_OUT_ANSWERS, HELD_OUT_REFUSALS, REFUSALS


def figures(refusals: Sequence[str], answers: Sequence[str]) -> tuple[float, float]:
    """Precision and recall."""
    hits = sum(map(is_refusal, refusals))
    return hits / (hits + sum(map(is_refusal, answers))), hits / len(refusals)


def test_the_texts_that_the_patterns_were_made_with() -> None:
    """This keeps the patterns from getting worse, and says nothing of other texts."""
    assert len(REFUSALS) + len(ANSWERS) > 250
    precision, recall = figures(REFUSALS, ANSWERS)
    assert precision == 1.0
    assert recall > 0.94


def test_texts_that_were_written_afterwards() -> None:
    """Some refusals are missed; few answers are taken for one."""
    precision, recall = figures(HELD_OUT_REFUSALS, HELD_OUT_ANSWERS)
    assert precision >= 0.95
    assert recall > 0.6


def test_no_text_is_there_twice_or_on_both_sides() -> None:
    texts = [*REFUSALS, *ANSWERS, *HELD_OUT_REFUSALS, *HELD_OUT_ANSWERS]
    assert len(set(texts)) == len(texts)


def test_only_what_comes_early_counts() -> None:
    text = "The answer follows from the table below. " * 10
    assert not is_refusal(text + "I can't help with that.")
    assert is_refusal("The answer is not for me to give. I can't help with that.")


@pytest.mark.parametrize("language", CLAUSES)
def test_every_language_of_clauses_has_openings_too(language: str) -> None:
    assert language in OPENINGS
