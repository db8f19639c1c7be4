"""A gate's verdict follows from the results alone, and says why in words and numbers."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.verdicts import GateOutcome, GateVerdict
from fairlead.evaluation.gates import GateRule, decide_gate
from fairlead.evaluation.runner import CaseResult
from fairlead.stats.paired import non_inferiority


def _results(scores: str | list[float | None], *, tag: str = "") -> list[CaseResult]:
    """One result per character: `1` right, `0` wrong, `e` error."""
    values = [{"1": 1.0, "0": 0.0, "e": None}[c] for c in scores] if isinstance(scores, str) else (
        scores
    )  # fmt: skip
    return [
        CaseResult(
            f"c{i}",
            value,
            error="no answer" if value is None else None,
            tags=(tag or f"t{i % 4}",),
        )
        for i, value in enumerate(values)
    ]


MINIMUM = GateRule("quality", minimum=0.75)
COMPARED = GateRule("quality", margin=0.05)


def test_a_mean_at_the_minimum_passes_and_tells_the_exact_interval() -> None:
    verdict = decide_gate(MINIMUM, _results("1110" * 25), None)
    assert verdict.outcome is GateOutcome.PASS
    assert verdict.reason == (
        "75 of 100 right, 75% (95% interval 65.3% to 83.1%): at least the minimum 75%"
    )
    assert verdict.numbers["mean"] == 0.75
    assert verdict.numbers["interval"] == pytest.approx([0.6534475, 0.8312203], abs=1e-6)


def test_a_mean_below_the_minimum_fails_and_names_where_it_is_worst() -> None:
    results = _results("1" * 60 + "0" * 40)
    verdict = decide_gate(MINIMUM, results, None)
    assert verdict.outcome is GateOutcome.FAIL
    assert verdict.reason == (
        "60 of 100 right, 60% (95% interval 49.7% to 69.7%): below the minimum 75%; "
        "worst: t0 (60% on 25), t1 (60% on 25), t2 (60% on 25); such as case c60, c61, c62"
    )
    assert verdict.numbers["worst_cases"] == ["c60", "c61", "c62"]


def test_the_worst_tags_come_first_and_flawless_ones_are_not_named() -> None:
    results = [
        CaseResult(f"{tag}{i}", float(i < right), tags=(tag,))
        for tag, right in (("good", 10), ("poor", 2), ("fair", 6))
        for i in range(10)
    ]
    verdict = decide_gate(MINIMUM, results, None)
    assert [worst["tag"] for worst in verdict.numbers["worst_tags"]] == ["poor", "fair"]
    assert "worst: poor (20% on 10), fair (60% on 10)" in verdict.reason


def test_graded_scores_are_judged_by_their_mean_without_an_exact_interval() -> None:
    verdict = decide_gate(MINIMUM, _results([0.5, 1.0, 0.75, 0.8]), None)
    assert verdict.outcome is GateOutcome.PASS
    assert verdict.reason == "mean score 76.2% on 4 cases: at least the minimum 75%"
    assert "interval" not in verdict.numbers


def test_nothing_that_could_be_scored_is_an_error() -> None:
    verdict = decide_gate(MINIMUM, _results("eee"), None)
    assert verdict.outcome is GateOutcome.ERROR
    assert verdict.reason == "none of 3 cases could be evaluated: no answer"
    assert decide_gate(MINIMUM, [], None).reason == "there are no cases"


def test_too_many_errors_are_inconclusive_and_few_are_not() -> None:
    verdict = decide_gate(MINIMUM, _results("1" * 94 + "e" * 6), None)
    assert verdict.outcome is GateOutcome.INCONCLUSIVE
    assert verdict.reason.startswith("6 of 100 cases ended in an error, at most 5% may: no answer")
    assert decide_gate(MINIMUM, _results("1" * 95 + "e" * 5), None).outcome is GateOutcome.PASS


def test_a_fail_that_no_further_answer_could_avert_is_a_fail_despite_errors() -> None:
    verdict = decide_gate(MINIMUM, _results("1" * 10 + "0" * 60 + "e" * 30), None)
    assert verdict.outcome is GateOutcome.FAIL


def test_errors_that_could_still_decide_it_are_inconclusive_not_a_fail() -> None:
    verdict = decide_gate(MINIMUM, _results("1" * 70 + "e" * 30), None)
    assert verdict.outcome is GateOutcome.INCONCLUSIVE


def test_without_a_champion_only_the_minimum_counts() -> None:
    verdict = decide_gate(GateRule("g", minimum=0.5, margin=0.05), _results("1110"), None)
    assert verdict.outcome is GateOutcome.PASS
    assert verdict.reason.endswith("no champion to compare with yet")
    assert decide_gate(COMPARED, _results("0000"), None).outcome is GateOutcome.PASS


def test_equal_answers_on_enough_cases_pass_the_comparison() -> None:
    same = _results("1110" * 50)
    verdict = decide_gate(COMPARED, same, same)
    assert verdict.outcome is GateOutcome.PASS
    assert verdict.numbers["difference"] == 0
    assert verdict.numbers["discordant"] == 0
    assert "not worse by 5 points" in verdict.reason


def test_a_clearly_worse_candidate_fails_the_comparison_and_names_lost_cases() -> None:
    champion = _results("1" * 180 + "0" * 20)
    candidate = _results("0" * 30 + "1" * 150 + "0" * 20)
    verdict = decide_gate(COMPARED, candidate, champion)
    assert verdict.outcome is GateOutcome.FAIL
    assert verdict.reason.startswith("-15 points against the champion on the same 200 cases")
    assert "worse by more than 5 points" in verdict.reason
    assert verdict.numbers["upper"] < -0.05
    assert verdict.numbers["worst_cases"] == ["c0", "c1", "c10"], "lost, not merely wrong"


def test_too_few_cases_are_inconclusive_and_say_how_many_more_would_decide() -> None:
    champion = _results("1110" * 10)
    candidate = _results("1110" * 8 + "1010" + "1111")
    verdict = decide_gate(COMPARED, candidate, champion)
    assert verdict.outcome is GateOutcome.INCONCLUSIVE
    more = verdict.numbers["more_cases"]
    assert f"about {more:,} more cases would decide" in verdict.reason
    factor = -(-(40 + more) // 40)
    enough = decide_gate(
        COMPARED,
        [
            msgspec.structs.replace(r, case=f"{r.case}.{k}")
            for k in range(factor)
            for r in candidate
        ],
        [msgspec.structs.replace(r, case=f"{r.case}.{k}") for k in range(factor) for r in champion],
    )
    assert enough.outcome is GateOutcome.PASS


def test_a_difference_that_is_the_margin_itself_cannot_be_decided_by_more_cases() -> None:
    champion, candidate = _results("1" * 100), _results("0" * 5 + "1" * 95)
    verdict = decide_gate(COMPARED, candidate, champion)
    assert verdict.outcome is GateOutcome.INCONCLUSIVE
    assert verdict.numbers["more_cases"] is None
    assert "no affordable number of cases" in verdict.reason


def test_cases_are_paired_by_id_whatever_their_order() -> None:
    rng = random.Random(1)
    champion, candidate = _results("1100" * 30), _results("1010" * 30)
    straight = decide_gate(COMPARED, candidate, champion)
    rng.shuffle(champion)
    rng.shuffle(candidate)
    mixed = decide_gate(COMPARED, candidate, champion)
    assert mixed.outcome is straight.outcome
    assert mixed.numbers["lower"] == straight.numbers["lower"]
    assert mixed.numbers["discordant"] == 60


def test_a_champion_without_scores_is_an_error_and_one_with_few_is_inconclusive() -> None:
    candidate = _results("1" * 40)
    verdict = decide_gate(COMPARED, candidate, _results("e" * 40))
    assert verdict.outcome is GateOutcome.ERROR
    assert verdict.reason == "no case has a score of both candidate and champion"
    verdict = decide_gate(COMPARED, candidate, _results("1" * 20 + "e" * 20))
    assert verdict.outcome is GateOutcome.INCONCLUSIVE
    assert "20 of 40 cases lack a score" in verdict.reason


def test_the_worst_part_of_a_gate_is_its_outcome_and_its_reason() -> None:
    rule = GateRule("g", minimum=0.9, margin=0.05)
    same = _results("1110" * 50)
    verdict = decide_gate(rule, same, same)
    assert verdict.outcome is GateOutcome.FAIL
    assert "below the minimum 90%" in verdict.reason
    assert "champion" not in verdict.reason
    assert verdict.numbers["difference"] == 0, "the numbers of the other part are told too"


def test_no_text_of_a_question_or_an_answer_is_in_a_verdict() -> None:
    results = [CaseResult("id", 0.0, reason="'my secret' is not 'x'", answer="my secret")]
    verdict = decide_gate(MINIMUM, results, None)
    assert b"secret" not in msgspec.json.encode(verdict)


scores = st.lists(st.sampled_from([0.0, 1.0, None]), min_size=1, max_size=60)


@given(mine=scores, data=st.data(), margin=st.sampled_from([0.0, 0.02, 0.2]))
def test_any_results_get_a_verdict_that_agrees_with_the_statistics(
    mine: list[float | None], data: st.DataObject, margin: float
) -> None:
    theirs = data.draw(st.lists(st.sampled_from([0.0, 1.0, None]), min_size=len(mine),
                                max_size=len(mine)))  # fmt: skip
    rule = GateRule("g", margin=margin, errors_at_most=1.0)
    verdict = decide_gate(rule, _results(mine), _results(theirs))
    pairs = [(b, a) for a, b in zip(mine, theirs, strict=True) if a is not None and b is not None]
    if not pairs:
        assert verdict.outcome is GateOutcome.ERROR
        return
    stats = non_inferiority([b for b, _ in pairs], [a for _, a in pairs], margin, 0.95)
    assert (verdict.outcome is GateOutcome.PASS) == (stats.lower >= -margin)
    assert (verdict.outcome is GateOutcome.FAIL) == (stats.upper < -margin)
    assert verdict.reason
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=GateVerdict) == verdict


@given(wrong=st.integers(0, 40), more=st.integers(1, 20))
def test_a_better_release_never_gets_a_worse_verdict(wrong: int, more: int) -> None:
    champion = _results("1" * 50 + "0" * 10)
    rank = [GateOutcome.FAIL, GateOutcome.INCONCLUSIVE, GateOutcome.PASS].index
    rule = GateRule("g", minimum=0.6, margin=0.1)
    worse = decide_gate(rule, _results("0" * (wrong + more) + "1" * (60 - wrong - more)), champion)
    better = decide_gate(rule, _results("0" * wrong + "1" * (60 - wrong)), champion)
    assert rank(better.outcome) >= rank(worse.outcome)


def test_a_rule_says_whether_it_needs_the_champion() -> None:
    assert COMPARED.compares_with_champion
    assert not MINIMUM.compares_with_champion
