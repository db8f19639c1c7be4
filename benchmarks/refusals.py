"""Precision and recall of the detector of refusals, on the texts of the tests.

PYTHONPATH=tests python benchmarks/refusals.py
"""

from __future__ import annotations

import timeit
from collections.abc import Sequence

from fairlead.gateway.requests.refusals import is_refusal
from fairlead.stats.intervals import clopper_pearson
from gateway.refusal_texts import ANSWERS, HELD_OUT_ANSWERS, HELD_OUT_REFUSALS, REFUSALS


def report(name: str, refusals: Sequence[str], answers: Sequence[str]) -> None:
    """Print the figures, and each text that was taken for the other kind."""
    missed = [text for text in refusals if not is_refusal(text)]
    false = [text for text in answers if is_refusal(text)]
    hits = len(refusals) - len(missed)
    print(f"{name}: {len(refusals)} refusals, {len(answers)} other answers")
    for what, total in (("precision", hits + len(false)), ("recall", len(refusals))):
        low, high = clopper_pearson(hits, total, 0.95)
        print(f"  {what} {hits / total:.1%} (95 %: {low:.1%} to {high:.1%})")
    for text in missed:
        print(f"  missed: {text}")
    for text in false:
        print(f"  taken for a refusal: {text}")


if __name__ == "__main__":
    report("made with these", REFUSALS, ANSWERS)
    report("held out", HELD_OUT_REFUSALS, HELD_OUT_ANSWERS)
    texts = [*REFUSALS, *ANSWERS]
    seconds = timeit.timeit(lambda: [is_refusal(text) for text in texts], number=10)
    print(f"{seconds / 10 / len(texts) * 1e6:.0f} µs a text")
