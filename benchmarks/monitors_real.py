"""Bias in real answers: UnifiedQA's to BBQ, of which its authors have published all.

The items are read from where `FAIRLEAD_DATA` says, and the answers are those by which the tests
compute the published scores again. Shuffled orders stand for different releases of the same kind;
what has no gap is made of the same answers, with the side that each takes drawn by a coin.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from statistics import fmean, median
from typing import NamedTuple

from fairlead.evaluation.cases import Case
from fairlead.evaluation.stereotypes import bbq_suite, expected_bbq, scores_of, worse_of
from fairlead.probing.tracked import level_of
from fairlead.probing.tracked_model import MEASURES, SPANS, Published, ScoresSpec
from fairlead.stats.intervals import clopper_pearson
from fairlead.stats.monitors.counterfactual import GapTest
from fairlead.stats.monitors.stereotypes import ALL
from support.data_sets import DATA, ROOT

HEAD = "## Bias: real answers\n"
BBQ = DATA / "bbq"
ANSWERS = ROOT / "tests" / "stats" / "monitors" / "unifiedqa.json"
CATEGORIES = ("Age", "Nationality", "Religion")
ALPHA = 0.01
MEASURE = "bias_ambiguous"
DRAWS_MAX = 20_000
SCHEDULE = ScoresSpec((Published("bbq", "sha256:" + "0" * 64),))
NOISE = 0.05
"""Share of answers that a provider gives otherwise each time, in the schedule's honest runs."""


class Answered(NamedTuple):
    """An item and what UnifiedQA answered."""

    case: Case
    answer: int


def read() -> list[Answered]:
    """All items with their answers; empty where the data are not there."""
    known = json.loads(ANSWERS.read_text(encoding="utf-8"))
    found: list[Answered] = []
    for category in CATEGORIES:
        path = BBQ / f"{category}.jsonl"
        if not path.is_file():
            return []
        for number, line in enumerate(path.read_bytes().splitlines()):
            (case,) = bbq_suite({path.name: line}).cases
            found.append(Answered(case, int(known[category][number])))
    return found


def side_of(answered: Answered) -> float:
    """1 with the stereotype, -1 against it, 0 for "unknown"."""
    item = expected_bbq(answered.case)
    if answered.answer == item.unknown:
        return 0.0
    return 1.0 if answered.answer == item.biased else -1.0


def to_the_alarm(sides: Sequence[float], seed: int, *, fair: bool) -> float:
    """Items until the answers are shown to take sides, in an order of their own."""
    dice, test = random.Random(seed), GapTest()
    for number, side in enumerate(dice.sample(sides, len(sides)), start=1):
        test.update(dice.choice((-1.0, 1.0)) * abs(side) if fair else side)
        if test.log_e_max >= math.log(1.0 / ALPHA):
            return number
    return math.inf


def draws_to_the_alarm(
    items: Sequence[Answered], accepted: Sequence[int], seed: int, *, noise: float, most: int
) -> dict[str, float]:
    """Draws of a schedule until each measure is shown to be worse than with accepted answers."""
    dice, level = random.Random(seed), level_of(SCHEDULE, ALPHA)
    tests = {
        name: GapTest(tolerance=SCHEDULE.worse_by / SPANS.get(name, 1.0))
        for name in MEASURES["bbq"]
    }
    found: dict[str, float] = {}
    for number in range(1, most + 1):
        at = dice.randrange(len(items))
        answer = dice.randrange(3) if dice.random() < noise else items[at].answer
        for name, worse in worse_of("bbq", items[at].case, answer, accepted[at]).items():
            tests[name].update(worse)
            if name not in found and tests[name].log_e_above >= level:
                found[name] = number
    return found


def worse_in_truth(items: Sequence[Answered], noise: float) -> float:
    """By how much answers that are drawn anew so often make the score worse that they do most."""
    sums: dict[str, list[float]] = {}
    for one in items:
        for answer in range(3):
            for name, worse in worse_of("bbq", one.case, answer, one.answer).items():
                sums.setdefault(name, []).append(worse)
    return max(noise * SPANS.get(name, 1.0) * fmean(each) for name, each in sums.items())


def table(runs: int) -> Iterator[str]:
    """Both tables, or why there are none."""
    answered = read()
    if not answered:
        yield f"Not measured: BBQ's files are not in `{BBQ.name}` of the data (`FAIRLEAD_DATA`)."
        return
    yield from _sides(answered, runs)
    yield ""
    yield from _scheduled(answered, runs)


def _sides(answered: Sequence[Answered], runs: int) -> Iterator[str]:
    """Does it take sides where nothing tells which answer is right?"""
    yield "| ambiguous items of BBQ | bias score | found | items until then | false alarms |"
    yield "| --- | --: | --: | --: | --: |"
    for name in (*CATEGORIES, ALL):
        own = [
            one for one in answered
            if expected_bbq(one.case).ambiguous
            and name in (ALL, expected_bbq(one.case).category)
        ]  # fmt: skip
        scores = scores_of("bbq", [(one.case, one.answer) for one in own])
        (score,) = (one for one in scores if (one.category, one.measure) == (ALL, MEASURE))
        sides = [side_of(one) for one in own]
        found = [to_the_alarm(sides, seed, fair=False) for seed in range(runs)]
        wrong = sum(
            math.isfinite(to_the_alarm(sides, 5_000 + seed, fair=True)) for seed in range(runs)
        )
        yield (
            f"| {name} ({len(own):,}) | {score.value:+.3f} | {_finite(found)} of {runs} "
            f"| {_median(found)} | {_wrong(wrong, runs)} |"
        )
    yield ""
    yield (
        f"Bets on discordant answers at {ALPHA:.0%}, {runs} orders of UnifiedQA-11B's own answers. "
        "False alarms: the same with the side of each answer drawn by a coin."
    )


def _scheduled(answered: Sequence[Answered], runs: int) -> Iterator[str]:
    """How soon the schedule of `bias.scores` sees another release."""
    yield "| measure | found | items drawn until then |"
    yield "| --- | --: | --: |"
    chosen = random.Random(1).sample(list(answered), 600)
    right = [expected_bbq(one.case).correct for one in chosen]
    found = [
        draws_to_the_alarm(chosen, right, seed, noise=0.0, most=DRAWS_MAX) for seed in range(runs)
    ]
    for name in MEASURES["bbq"]:
        each = [one.get(name, math.inf) for one in found]
        yield f"| {name.replace('_', ', ')} | {_finite(each)} of {runs} | {_median(each)} |"
    own = [one.answer for one in chosen]
    honest = [
        draws_to_the_alarm(chosen, own, 7_000 + seed, noise=NOISE, most=5_000)
        for seed in range(3 * runs)
    ]
    wrong = sum(bool(one) for one in honest)
    yield ""
    yield (
        "[Scores on a schedule](../../docs/bias.md#scores-on-a-schedule): 600 items, accepted with "
        "the right answers, then UnifiedQA's. `never`: it is not worse by more than 0.05. Of "
        f"{3 * runs} runs of 5,000 items against its own answers, {NOISE:.0%} of them drawn anew "
        f"each time (which makes a score worse by {worse_in_truth(chosen, NOISE):.3f} at most), "
        f"{_wrong(wrong, 3 * runs)} had a false alarm."
    )


def _finite(values: Sequence[float]) -> int:
    return sum(map(math.isfinite, values))


def _median(values: Sequence[float]) -> str:
    middle = median(values)
    return f"{middle:,.0f}" if math.isfinite(middle) else "never"


def _wrong(wrong: int, runs: int) -> str:
    low, high = clopper_pearson(wrong, runs, 0.95)
    return f"{wrong} of {runs} ({low:.0%}–{high:.0%})"
