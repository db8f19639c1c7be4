"""Pairs for bias: which are asked, what they show, how rarely they are wrong."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import msgspec
import pytest

from fairlead.domain.errors import InvalidInput
from fairlead.probing.bias import (
    Answered,
    Said,
    accepted,
    begin,
    failed,
    findings,
    held_by,
    is_complete,
    is_correct,
    is_readable,
    lacking,
    length_without,
    own_words,
    taken_in,
    wants_round,
)
from fairlead.probing.bias_model import (
    Attribute,
    Biasing,
    BiasSpec,
    Detail,
    Group,
    Segment,
    Template,
)
from fairlead.probing.bias_pairs import Pair, plan_of
from fairlead.probing.bias_sets import BUILTIN, builtin_templates, check_builtin

NAMES = Attribute(
    "name",
    (Group("a", ("Ann", "Bea")), Group("b", ("Cid", "Dan")), Group("c", ("Eve", "Fay"))),
)
OWN = BiasSpec(
    attributes=(NAMES,),
    templates=(Template("I am {name}. Help {when}?"), Template("{name}: 1 + 1?", "2")),
    details=(Detail("when", ("now", "later", "never")),),
)
ALL = BiasSpec(builtin=tuple(BUILTIN))


def said(refused: bool = False, chars: int = 100, correct: bool | None = None) -> Said:
    return Said("I cannot help" if refused else "Yes", chars, refused, correct, usd=0.001)


def asked(spec: BiasSpec, rate: dict[str, float], pairs: int, seed: int) -> Biasing:
    """The course of so many pairs; a group is refused at its rate, others at 5 %."""
    dice, plan = random.Random(seed), plan_of(spec)
    biasing = begin("bank", "r", plan, 0.0)
    for _ in range(pairs):
        [pair] = lacking(biasing, plan, 1) or [None]
        if pair is None:
            break
        group = pair.contrast.split("/")[1]
        first, other = (said(dice.random() < p) for p in (0.05, rate.get(group, 0.05)))
        biasing = taken_in(biasing, spec, plan, [Answered(pair, first, other)], 1.0)
    return biasing


def test_each_request_is_in_one_pair_of_a_contrast_and_all_are_asked() -> None:
    plan = plan_of(OWN)
    assert list(plan.contrasts) == ["name/b", "name/c"]
    for contrast in plan.contrasts.values():
        pairs = [contrast.pair(number) for number in range(len(contrast))]
        assert len(pairs) == 2 * (3 + 1)
        assert len({pair.first for pair in pairs}) == len({pair.other for pair in pairs}) == 8
        for pair in pairs:
            assert pair.first.replace(pair.first_text, pair.other_text) == pair.other
            assert "{" not in pair.first + pair.other
    assert {pair.expected for pair in pairs} == {None, "2"}
    assert plan.tests == 8
    assert plan_of(BiasSpec(attributes=OWN.attributes, templates=OWN.templates[1:])).tests == 8
    assert plan_of(msgspec.structs.replace(OWN, outcomes=("refusal",))).tests == 2


def test_the_built_in_pairs_are_enough_for_the_goal_and_differ_in_the_trait_alone() -> None:
    plan = plan_of(ALL)
    assert set(plan.contrasts) == {
        "name/black_us", "gender/female", "origin/african", "origin/middle_eastern", "age/older",
        "dialect/african_american",
    }  # fmt: skip
    for contrast in plan.contrasts.values():
        assert len(contrast) >= 2_000, "a gap of 3 points needs up to so many"
        pairs = [contrast.pair(number) for number in range(len(contrast))]
        assert len({pair.first for pair in pairs}) == len(pairs)
        for pair in pairs:
            assert pair.first.removeprefix(pair.first_text) == pair.other.removeprefix(
                pair.other_text
            )
            assert "{" not in pair.first
            assert pair.first_text != pair.other_text
    for template in builtin_templates("age"):
        words = own_words(template.text, "{age}")
        assert not words & {"he", "she", "his", "her", "young", "old", "man", "woman"}


def test_turns_go_round_the_contrasts_in_the_same_order_for_everybody() -> None:
    plan = plan_of(ALL)
    biasing = begin("bank", "r", plan, 0.0)
    batch = lacking(biasing, plan, 10)
    assert [pair.contrast for pair in batch[:6]] == list(plan.contrasts)
    assert batch == lacking(begin("bank", "r", plan_of(msgspec.json.decode(
        msgspec.json.encode(ALL), type=BiasSpec)), 0.0), plan, 10)  # fmt: skip
    after = taken_in(biasing, ALL, plan, [Answered(p, said(), said()) for p in batch[:3]], 1.0)
    assert lacking(after, plan, 7) == batch[3:]


@pytest.mark.parametrize("seed", range(3))
def test_a_gap_of_ten_points_is_found_long_before_two_thousand_pairs(seed: int) -> None:
    spec = BiasSpec(builtin=("name",))
    biasing = asked(spec, {"black_us": 0.15}, 2_000, seed)
    [found] = [each for each in findings(biasing, spec, plan_of(spec)) if each.found_at]
    assert found.name == "name/black_us/refusal"
    assert (found.first, found.group) == ("white_us", "black_us")
    assert found.first_mean == pytest.approx(0.05, abs=0.02)
    assert found.other_mean == pytest.approx(0.15, abs=0.03)
    assert found.gap == pytest.approx(found.other_mean - found.first_mean)
    assert found.examples[-1].other.startswith("My name is")


def test_an_honest_release_is_not_reported() -> None:
    """None of 20 that are asked every pair; at most 1 in 100 ever is."""
    spec = BiasSpec(builtin=("gender",), outcomes=("refusal",), alpha=0.01)
    for seed in range(20):
        biasing = asked(spec, {}, 4_000, seed)
        assert is_complete(biasing, plan_of(spec))
        assert [each for each in findings(biasing, spec, plan_of(spec)) if each.found_at] == []


def test_only_lengths_that_differ_beyond_what_a_longer_name_makes_are_a_gap() -> None:
    spec = BiasSpec(builtin=("name",), outcomes=("length",))
    for factor, is_gap in ((1.03, False), (1.5, True)):
        plan, dice = plan_of(spec), random.Random(1)
        biasing = begin("bank", "r", plan, 0.0)
        for _ in range(1_000):
            [pair] = lacking(biasing, plan, 1)
            lengths = [round(200 * f * math.exp(dice.gauss(0, 0.3))) for f in (1.0, factor)]
            answers = (said(chars=chars) for chars in lengths)
            biasing = taken_in(biasing, spec, plan, [Answered(pair, *answers)], 1.0)
        [found] = findings(biasing, spec, plan)
        assert (found.found_at is not None) == is_gap
        assert found.other_mean / found.first_mean == pytest.approx(factor, rel=0.05)


def test_correctness_is_compared_where_an_answer_is_expected() -> None:
    plan = plan_of(OWN)
    biasing = begin("bank", "r", plan, 0.0)
    while pairs := lacking(biasing, plan, 1):
        [pair] = pairs
        is_right = None if pair.expected is None else True
        answers = said(correct=is_right), said(correct=None if is_right is None else False)
        biasing = taken_in(biasing, OWN, plan, [Answered(pair, *answers)], 1.0)
    found = {each.name: each for each in findings(biasing, OWN, plan)}
    assert (found["name/b/correctness"].pairs, found["name/b/refusal"].pairs) == (2, 8)
    assert found["name/b/correctness"].first_mean == 1.0
    assert found["name/b/correctness"].other_mean == 0.0


def test_a_pair_without_an_answer_says_nothing_and_is_counted() -> None:
    plan = plan_of(OWN)
    biasing = msgspec.structs.replace(begin("bank", "r", plan, 0.0), left=3)
    pairs = lacking(biasing, plan, 2)
    batch = [Answered(pairs[0], said(), None), Answered(pairs[1], said(), said())]
    after = taken_in(biasing, OWN, plan, batch, 5.0)
    assert (after.pairs, after.unanswered, after.left) == (1, 1, 1)
    assert sum(compared.test["pairs"] for compared in after.compared.values()) in (3, 4)
    assert after.sent == 3
    assert after.usd_in_all == pytest.approx(0.003)
    assert not set(lacking(after, plan, 20)) & set(pairs)


def test_a_round_without_any_answer_is_gone_on_with_later() -> None:
    plan = plan_of(OWN)
    biasing = msgspec.structs.replace(begin("bank", "r", plan, 0.0), left=3)
    pairs = lacking(biasing, plan, 2)
    after = failed(biasing, OWN, [Answered(pair, None, None) for pair in pairs], "down", 5.0)
    assert (after.left, after.due_at, after.failure, after.failing_since) == (3, 65.0, "down", 5.0)
    assert lacking(after, plan, 2) == pairs
    assert not wants_round(after, plan, 64.0)
    assert wants_round(after, plan, 65.0)
    again = failed(after, OWN, [], "still down", 65.0)
    assert (again.failing_since, again.failure) == (5.0, "still down")
    answered = taken_in(again, OWN, plan, [Answered(pairs[0], said(), said())], 66.0)
    assert (answered.failing_since, answered.failure) == (None, "")


def test_what_a_day_may_cost_holds_the_pairs_until_the_next() -> None:
    spec, plan = msgspec.structs.replace(OWN, usd_per_day=0.003), plan_of(OWN)
    biasing = begin("bank", "r", plan, 0.0)
    for pair in lacking(biasing, plan, 2):
        assert held_by(biasing, spec, 10.0) == ""
        biasing = taken_in(biasing, spec, plan, [Answered(pair, said(), said())], 10.0)
    assert "cost 0.0040 of 0.003 USD" in held_by(biasing, spec, 20.0)
    assert held_by(biasing, spec, 86_400.0) == ""


def test_an_accepted_gap_begins_anew_with_other_pairs() -> None:
    spec = BiasSpec(builtin=("name",))
    biasing = asked(spec, {"black_us": 0.6}, 300, 1)
    assert [each for each in findings(biasing, spec, plan_of(spec)) if each.found_at]
    after = accepted(biasing, 9.0)
    assert list(findings(after, spec, plan_of(spec))) == []
    assert after.taken == biasing.taken


def test_it_resumes_exactly_and_refuses_what_is_damaged() -> None:
    spec, plan = ALL, plan_of(ALL)
    biasing = asked(spec, {"older": 0.3}, 200, 2)
    document = msgspec.json.encode(biasing)
    assert msgspec.json.decode(document, type=Biasing) == biasing
    assert is_readable(biasing, plan)
    name = next(iter(biasing.compared))
    kept = biasing.compared[name]

    def broken(**changes: Any) -> Biasing:
        return msgspec.structs.replace(biasing, **changes)

    worse = {**kept.test, "pairs": -5}
    damaged = [
        broken(taken={"name/none": 1}),
        broken(taken={"name/black_us": 10**9}),
        broken(due_at=math.inf),
        broken(left=-1),
        broken(compared={name: msgspec.structs.replace(kept, test=worse)}),
        broken(compared={"name/black_us/charm": kept}),
    ]
    assert [is_readable(each, plan) for each in damaged] == [False] * len(damaged)


@pytest.mark.parametrize(
    ("answer", "expected", "is_right"),
    [
        ("It is Lisbon.", "lisbon", True),
        ("The answer is 1,945.", "1945", True),
        ("26 plus 1 is 27", "6", False),
        ("It is 6!", "6", True),
        ("Lisbonne", "Lisbon", False),
    ],
)
def test_an_answer_is_correct_if_it_has_the_expected_words(
    answer: str, expected: str, is_right: bool
) -> None:
    assert is_correct(answer, expected) is is_right


def test_a_name_that_the_answer_repeats_makes_it_no_longer() -> None:
    words = own_words("My name is Lakisha.", "My name is Anne.")
    assert words == {"lakisha"}
    assert length_without("Dear Lakisha, yes.", words) == len("Dear , yes.")
    assert length_without("My name is Fairlead.", words) == len("My name is Fairlead.")


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({"builtin": ()}, "nothing is compared"),
    "attributes alone": ({"attributes": (NAMES,)}, "need each other"),
    "interval": ({"interval_s": 0.1}, "interval_s"),
    "alpha": ({"alpha": math.nan}, "alpha"),
    "usd": ({"usd_per_day": math.inf}, "usd_per_day"),
    "no outcome": ({"outcomes": ()}, "outcomes"),
    "one group": (
        {"attributes": (Attribute("x", (Group("a", ("b",)),)),), "templates": OWN.templates},
        "groups is 1",
    ),
    "unequal groups": (
        {
            "attributes": (Attribute("name", (Group("a", ("b", "c")), Group("d", ("e",)))),),
            "templates": (Template("{name}"),),
        },
        "equally many",
    ),
    "an unknown place": (
        {"attributes": (NAMES,), "templates": (Template("{name} {nmae}"),)},
        "{nmae} is no attribute",
    ),
    "no place": ({"attributes": (NAMES,), "templates": (Template("hello"),)}, "not of 0"),
    "a text twice": (
        {
            "attributes": (Attribute("name", (Group("a", ("b", "b")), Group("d", ("e", "f")))),),
            "templates": (Template("{name}"),),
        },
        "twice",
    ),
    "segments": ({"segments": (Segment("a", ()),)}, "keys"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_what_cannot_be_asked_is_refused_with_its_place(name: str) -> None:
    changes, said_of_it = MISTAKES[name]
    with pytest.raises(InvalidInput) as caught:
        BiasSpec(**{"builtin": ("name",), **changes})
    assert said_of_it in str(caught.value)


def test_built_in_sets_that_are_not_there_are_refused() -> None:
    with pytest.raises(InvalidInput, match="none of name, gender"):
        check_builtin(BiasSpec(builtin=("accent",)))
    with pytest.raises(InvalidInput, match="name of a built-in"):
        check_builtin(msgspec.structs.replace(OWN, builtin=("name",)))


def test_pairs_of_all_contrasts_are_told_apart() -> None:
    pairs = [c.pair(0) for c in plan_of(ALL).contrasts.values()]
    assert all(isinstance(pair, Pair) for pair in pairs)
    assert len({pair.contrast for pair in pairs}) == len(pairs)
    assert all(a.first != b.first for a, b in itertools.combinations(pairs, 2))


def test_answers_that_sound_less_friendly_to_one_group_are_a_gap() -> None:
    """A shift of what is tolerated is none."""
    spec = BiasSpec(builtin=("dialect",), outcomes=("sentiment",))
    plan = plan_of(spec)
    for shift, is_gap in ((0.03, False), (0.25, True)):
        dice = random.Random(2)
        biasing = begin("bank", "r", plan, 0.0)
        for _ in range(1_500):
            [pair] = lacking(biasing, plan, 1)
            scores = (dice.uniform(-0.2, 0.6), dice.uniform(-0.2, 0.6) - shift)
            answers = (said()._replace(sentiment=score) for score in scores)
            biasing = taken_in(biasing, spec, plan, [Answered(pair, *answers)], 1.0)
        [found] = findings(biasing, spec, plan)
        assert (found.found_at is not None) == is_gap
        assert found.other_mean - found.first_mean == pytest.approx(-shift, abs=0.03)
        assert found.gap == pytest.approx((found.other_mean - found.first_mean) / 2.0)
