"""The course of a release's pairs: from one answer to the next, pure.

Rules
- Both requests of a pair are answered at about the same time, or the pair is given up: it says
  nothing then, and is counted. If no pair of a batch is answered, the release is not asked well:
  nothing is given up, and the same pairs are asked later.
- A round asks so many pairs, those first of the contrast that has had the fewest turns. Each pair
  has one turn per release; when all have had theirs, nothing is asked any more.
- A pair's difference in an outcome is the other group's less the first group's. The evidence of
  each contrast and outcome has to reach the logarithm of one over its share of alpha; the shares
  add up to alpha, so that is the most that any false alarm, ever, is probable (Ville; Bonferroni).
- That an answer has become a gap once stays so until a person accepts it, or the release changes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from fairlead.probing.bias_model import (
    EXAMPLES_MAX,
    SHOWN_CHARS,
    TOLERANCES,
    WEIGHTS,
    Biasing,
    BiasSpec,
    Compared,
    Outcome,
    Shown,
)
from fairlead.probing.bias_pairs import Pair, Plan
from fairlead.probing.bounds import RETRY_S, day_of, held_by_cost
from fairlead.stats.monitors.counterfactual import GapTest, length_difference, score_difference

_LENGTH_DIFFERS = 0.25
"""A pair is shown as differing in length from here on: the longer answer has 1.4 times as much."""


class Said(NamedTuple):
    """One answer, as far as it is compared.

    Attributes:
        text: What is shown of it.
        chars: Its length, without the words in which the pair's requests differ.
        correct: None where correctness is not compared.
        usd: What it cost, as far as the price is known.
        sentiment: How friendly it sounds, -1 to 1.
    """

    text: str
    chars: int
    refused: bool
    correct: bool | None
    usd: float = 0.0
    sentiment: float = 0.0

    def value(self, outcome: Outcome) -> float | None:
        """The outcome as a number; None where it has none."""
        if outcome == "refusal":
            return float(self.refused)
        if outcome == "length":
            return float(self.chars)
        if outcome == "sentiment":
            return self.sentiment
        return None if self.correct is None else float(self.correct)


class Answered(NamedTuple):
    """A pair and its answers; None for one that there was none of."""

    pair: Pair
    first: Said | None
    other: Said | None


class Finding(NamedTuple):
    """Two groups in one outcome, as people see it.

    Attributes:
        name: `attribute/group/outcome`.
        first, group: Names of the groups.
        first_mean, other_mean: Rates, or characters or scores of sentiment on average.
        gap: Mean difference: other less first; of lengths on the scale of their logarithms, of
            sentiment half of it, from -1 to 1.
        evidence, evidence_at: Natural logarithms: the highest so far, and what makes an alarm.
    """

    name: str
    attribute: str
    first: str
    group: str
    outcome: Outcome
    pairs: int
    discordant: int
    first_mean: float
    other_mean: float
    gap: float
    evidence: float
    evidence_at: float
    found_at: float | None
    examples: tuple[Shown, ...]


def begin(service: str, release: str, plan: Plan, now: float) -> Biasing:
    """Pairs of a release of which nothing is known."""
    return Biasing(service=service, release=release, asked=plan.asked, begun_at=now, due_at=now)


def is_readable(biasing: Biasing, plan: Plan) -> bool:
    """Whether one can go on from it: it fits what is asked, and its numbers add up."""
    known = {f"{name}/{each}" for name, own in plan.outcomes.items() for each in own}
    if not (set(biasing.compared) <= known and set(biasing.taken) <= set(plan.contrasts)):
        return False
    if not all(0 <= n <= len(plan.contrasts[name]) for name, n in biasing.taken.items()):
        return False
    try:
        for name, kept in biasing.compared.items():
            _test(name.rpartition("/")[2]).restore(kept.test)
    except (ValueError, KeyError, TypeError):
        return False
    numbers = [biasing.due_at, biasing.spent_usd, biasing.usd_in_all]
    sums = [
        total for kept in biasing.compared.values() for total in (kept.first_sum, kept.other_sum)
    ]
    return all(map(math.isfinite, [*numbers, *sums])) and biasing.left >= 0


def lacking(biasing: Biasing, plan: Plan, count: int) -> list[Pair]:
    """The pairs whose turn is next, at most `count`; none when all have had theirs."""
    taken = {name: biasing.taken.get(name, 0) for name in plan.contrasts}
    pairs: list[Pair] = []
    while len(pairs) < count:
        open_ones = [name for name in taken if taken[name] < len(plan.contrasts[name])]
        if not open_ones:
            break
        name = min(open_ones, key=lambda each: taken[each])
        pairs.append(plan.contrasts[name].pair(taken[name]))
        taken[name] += 1
    return pairs


def is_complete(biasing: Biasing, plan: Plan) -> bool:
    """Whether every pair has had its turn."""
    return sum(biasing.taken.values()) >= plan.pairs


def held_by(biasing: Biasing, spec: BiasSpec, now: float) -> str:
    """Why nothing is asked today any more; empty when it may be."""
    return held_by_cost("pairs", spec.usd_per_day, biasing, now)


def wants_round(biasing: Biasing, plan: Plan, now: float) -> bool:
    """Whether a round is due or under way."""
    return now >= biasing.due_at and not is_complete(biasing, plan)


def due(biasing: Biasing, spec: BiasSpec) -> Biasing:
    """With a new round begun, if none is under way."""
    return biasing if biasing.left else msgspec.structs.replace(biasing, left=spec.pairs)


def taken_in(
    biasing: Biasing, spec: BiasSpec, plan: Plan, batch: Sequence[Answered], now: float
) -> Biasing:
    """Take in a batch of which at least one pair is answered."""
    after = _costed(biasing, batch, now)
    taken, compared = dict(after.taken), dict(after.compared)
    pairs = 0
    for answered in batch:
        contrast = answered.pair.contrast
        taken[contrast] = taken.get(contrast, 0) + 1
        if answered.first is None or answered.other is None:
            continue
        pairs += 1
        for outcome in plan.outcomes[contrast]:
            name = f"{contrast}/{outcome}"
            before = compared.get(name) or Compared(_test(outcome).state())
            level = _level(spec, plan, contrast, outcome)
            compared[name] = _compared(before, outcome, answered, level, now)
    left = max(0, biasing.left - len(batch))
    return msgspec.structs.replace(
        after,
        taken=taken,
        compared=compared,
        left=left,
        due_at=biasing.due_at if left else _next_round(biasing.due_at, spec.interval_s, now),
        pairs=after.pairs + pairs,
        unanswered=after.unanswered + len(batch) - pairs,
        failing_since=None,
        failure="",
    )


def failed(
    biasing: Biasing, spec: BiasSpec, batch: Sequence[Answered], why: str, now: float
) -> Biasing:
    """No pair of the batch was answered; the round is gone on with later."""
    since = now if biasing.failing_since is None else biasing.failing_since
    return msgspec.structs.replace(
        _costed(biasing, batch, now),
        due_at=now + min(RETRY_S, spec.interval_s),
        failing_since=since,
        failure=why[:SHOWN_CHARS],
    )


def accepted(biasing: Biasing, now: float) -> Biasing:
    """A person has seen the gaps: the evidence begins anew, with the pairs that are left."""
    return msgspec.structs.replace(biasing, compared={}, begun_at=now)


def findings(biasing: Biasing, spec: BiasSpec, plan: Plan) -> Iterator[Finding]:
    """All comparisons of which there are pairs, in the order of what is declared."""
    for name, contrast in plan.contrasts.items():
        for outcome in plan.outcomes[name]:
            kept = biasing.compared.get(f"{name}/{outcome}")
            if kept is None or not kept.test["pairs"]:
                continue
            n = kept.test["pairs"]
            yield Finding(
                name=f"{name}/{outcome}",
                attribute=contrast.attribute,
                first=contrast.first,
                group=contrast.group,
                outcome=outcome,
                pairs=n,
                discordant=kept.test["discordant"],
                first_mean=kept.first_sum / n,
                other_mean=kept.other_sum / n,
                gap=kept.test["total"] / n,
                evidence=kept.test["log_e_max"],
                evidence_at=_level(spec, plan, name, outcome),
                found_at=kept.found_at,
                examples=kept.examples,
            )


def own_words(own: str, other: str) -> frozenset[str]:
    """The words of a text that the other one has not, in small letters."""
    words = [set(re.findall(r"\w+", text.casefold())) for text in (own, other)]
    return frozenset(words[0] - words[1])


def length_without(answer: str, words: frozenset[str]) -> int:
    """Characters of an answer without these words: that a name is longer is no difference."""
    return len(re.sub(r"\w+", lambda m: "" if m[0].casefold() in words else m[0], answer))


def is_correct(answer: str, expected: str) -> bool:
    """Whether the answer has the expected text as whole words, whatever its case."""
    pattern = rf"(?<!\w){re.escape(expected.casefold())}(?!\w)"
    # Thousands may be set off.
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", answer.casefold())
    return re.search(pattern, plain) is not None


def _compared(
    before: Compared, outcome: Outcome, answered: Answered, level: float, now: float
) -> Compared:
    assert answered.first is not None
    assert answered.other is not None
    first, other = answered.first.value(outcome), answered.other.value(outcome)
    if first is None or other is None:
        return before
    difference = _difference(outcome, first, other)
    test = _test(outcome)
    test.restore(before.test)
    test.update(difference)
    examples = before.examples
    if abs(difference) >= _LENGTH_DIFFERS:
        examples = (*examples, _shown(answered))[-EXAMPLES_MAX:]
    found_at = before.found_at
    if found_at is None and test.log_e_max >= level:
        found_at = now
    return Compared(
        test.state(), before.first_sum + first, before.other_sum + other, examples, found_at
    )


def _difference(outcome: Outcome, first: float, other: float) -> float:
    if outcome == "length":
        return length_difference(first, other)
    return score_difference(first, other) if outcome == "sentiment" else other - first


def _shown(answered: Answered) -> Shown:
    assert answered.first is not None
    assert answered.other is not None
    texts = [
        answered.pair.first, answered.pair.other, answered.first.text, answered.other.text,
    ]  # fmt: skip
    return Shown(*(text[:SHOWN_CHARS].encode(errors="replace").decode() for text in texts))


def _costed(biasing: Biasing, batch: Sequence[Answered], now: float) -> Biasing:
    """With what the answers cost, also those whose pair was given up."""
    said = [each for pair in batch for each in (pair.first, pair.other) if each is not None]
    usd, day = math.fsum(each.usd for each in said), day_of(now)
    is_same_day = day == biasing.day
    return msgspec.structs.replace(
        biasing,
        day=day,
        spent_usd=usd + (biasing.spent_usd if is_same_day else 0.0),
        sent=len(said) + (biasing.sent if is_same_day else 0),
        sent_in_all=biasing.sent_in_all + len(said),
        usd_in_all=biasing.usd_in_all + usd,
    )


def _next_round(due_at: float, interval_s: float, now: float) -> float:
    return now + interval_s if due_at + interval_s <= now else due_at + interval_s


def _level(spec: BiasSpec, plan: Plan, contrast: str, outcome: Outcome) -> float:
    """The evidence that a test needs: contrasts have equal shares of alpha, outcomes their own."""
    total = sum(WEIGHTS[each] for each in plan.outcomes[contrast])
    return math.log(len(plan.contrasts) * total / (WEIGHTS[outcome] * spec.alpha))


def _test(outcome: str) -> GapTest:
    return GapTest(tolerance=TOLERANCES[outcome])
