"""Scorers give a score from 0 to 1 with a reason, and never hang or raise on an answer."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.errors import InvalidInput
from fairlead.evaluation.cases import Suite, make_case
from fairlead.evaluation.scorers import (
    CannotScore,
    Contains,
    Exact,
    JsonField,
    JsonSchema,
    Numeric,
    Regex,
    Scorer,
    check_scorer,
    score,
    scorer_digest,
)

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[a-z]+$"}},
    "required": ["name"],
}

SCORES: list[tuple[Scorer, str, Any, float]] = [
    (Exact(), " yes\n", "yes", 1),
    (Exact(), "Yes", "yes", 0),
    (Exact(ignore_case=True), "STRASSE", "straße", 1),
    (Exact(strip=False), "yes\n", "yes", 0),
    (Exact(), "b", ["a", "b"], 1),
    (Exact(), "5", 5, 1),
    (Exact(), "true", True, 1),
    (Contains(), "a red car", "red", 1),
    (Contains(), "a Red car", "red", 0),
    (Contains(ignore_case=True), "a Red car", "red", 1),
    (Contains(), "a red car", ["red", "car", "big", "fast"], 0.5),
    (Regex("^a+$"), "aaa", None, 1),
    (Regex("^a+$"), "aab", None, 0),
    (Regex(), "call 555-1234 now", r"\d{3}-\d{4}", 1),
    (JsonSchema(PERSON), '{"name": "ada"}', None, 1),
    (JsonSchema(PERSON), '{"name": "Ada"}', None, 0),
    (JsonSchema(PERSON), "{}", None, 0),
    (JsonSchema(PERSON), "Sure! {}", None, 0),
    (JsonField("intent"), '{"intent": "refund"}', "refund", 1),
    (JsonField("intent"), '{"intent": "card"}', "refund", 0),
    (JsonField("a.1.b"), '{"a": [0, {"b": 2}]}', 2, 1),
    (JsonField("a.7.b"), '{"a": [0, {"b": 2}]}', 2, 0),
    (JsonField("n"), '{"n": 5}', "5", 1),
    (JsonField("n"), '{"n": "5"}', 5, 0),
    (JsonField("n"), '{"n": true}', 1, 0),
    (JsonField("n"), '{"n": true}', "true", 1),
    (JsonField("n"), '{"n": [1, 2]}', [1, 2], 1),
    (JsonField("n"), "[" * 100_000, "x", 0),
    (Numeric(), "It is 1,234.50 euros", 1234.5, 1),
    (Numeric(absolute=0.1), "first 3, then 41.95", "42", 1),
    (Numeric(relative=0.01), "-99.5", -100, 1),
    (Numeric(relative=0.001), "-99.5", -100, 0),
    (Numeric(), "1e3", 1000, 1),
    (Numeric(), "no idea", 1, 0),
]


@pytest.mark.parametrize(("scorer", "answer", "expected", "value"), SCORES)
def test_an_answer_gets_its_score_and_anything_less_than_one_a_reason(
    scorer: Scorer, answer: str, expected: Any, value: float
) -> None:
    result = score(scorer, answer, expected)
    assert result.value == value
    assert bool(result.reason) == (value < 1)


@pytest.mark.parametrize(
    ("scorer", "expected"),
    [
        (Exact(), None),
        (Contains(), []),
        (Contains(), ["a", ""]),
        (Regex(), None),
        (Regex(), "(a"),
        (Regex(), "(?=a)"),
        (Regex(), "a" * 1001),
        (JsonSchema({"type": "strin"}), None),
        (JsonSchema({"pattern": "(?!a)"}), None),
        (JsonSchema({"patternProperties": {"a": {}}}), None),
        (JsonSchema({"$ref": "http://example.org/schema"}), None),
        (JsonSchema({"$ref": "#/$defs/nowhere"}), None),
        (JsonSchema({"$schema": "http://example.org/own"}), None),
        (JsonField("a"), None),
        (Numeric(), "many"),
        (Numeric(), True),
        (Numeric(), "nan"),
    ],
)
def test_what_cannot_be_scored_is_said_and_is_not_a_wrong_answer(
    scorer: Scorer, expected: Any
) -> None:
    with pytest.raises(CannotScore):
        score(scorer, "{}", expected)


@pytest.mark.parametrize(
    "scorer",
    [Regex("(a+)+$"), JsonSchema({"pattern": "(a+)+$"}), Regex("(?:[01]*1[01]{60})+$")],
)
def test_no_pattern_makes_scoring_hang(scorer: Scorer) -> None:
    answer = "a" * 50_000 + "b"
    if isinstance(scorer, JsonSchema):
        answer = f'"{answer}"'
    started = time.monotonic()
    assert score(scorer, answer, None).value == 0
    assert time.monotonic() - started < 2


def test_a_property_may_be_called_like_a_keyword() -> None:
    schema = {"properties": {"pattern": {"type": "integer"}, "patternProperties": True}}
    assert score(JsonSchema(schema), '{"pattern": 1, "patternProperties": 2}', None).value == 1
    assert score(JsonSchema(schema), '{"pattern": "x"}', None).value == 0


def test_a_schema_never_makes_the_network_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **_: asked.append(args))
    with pytest.raises(CannotScore, match="leads nowhere"):
        score(JsonSchema({"$ref": "https://example.org/one"}), "{}", None)
    assert asked == []


def test_an_older_draft_is_used_when_the_schema_names_it() -> None:
    draft = "http://json-schema.org/draft-07/schema#"
    schema = {"$schema": draft, "items": [{"type": "string"}]}
    assert score(JsonSchema(schema), '["a", 1]', None).value == 1
    assert score(JsonSchema(schema), "[1]", None).value == 0


def test_an_answer_beyond_all_bounds_is_wrong_at_once() -> None:
    result = score(Exact(), "x" * 200_001, "x")
    assert result.value == 0
    assert "200001 characters" in result.reason


def test_a_reason_repeats_little_of_a_long_answer() -> None:
    assert len(score(Exact(), "x" * 10_000, "y" * 10_000).reason) < 200


scorers: st.SearchStrategy[Scorer] = st.sampled_from(
    [Exact(), Exact(True, False), Contains(), Contains(True), Regex("a|b"), Regex(),
     JsonSchema(PERSON), JsonField("a"), JsonField("a.0"), Numeric(), Numeric(1, 0.5)]
)  # fmt: skip


@given(
    scorer=scorers,
    answer=st.text() | st.from_regex(r"\{\"a\": [-0-9a-z\".\[\]]{0,9}\}", fullmatch=True),
    expected=st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()),
)
def test_every_answer_gets_a_score_between_0_and_1_or_the_case_is_at_fault(
    scorer: Scorer, answer: str, expected: Any
) -> None:
    try:
        result = score(scorer, answer, expected)
    except CannotScore as error:
        assert str(error)  # noqa: PT017 - either way of ending is right
    else:
        assert 0 <= result.value <= 1
        assert bool(result.reason) == (result.value < 1)


@given(text=st.text(min_size=1).filter(str.strip))
def test_an_answer_that_repeats_the_expected_text_is_right(text: str) -> None:
    assert score(Exact(), text, text).value == 1
    assert score(Contains(ignore_case=True), f"so: {text}", text).value == 1
    answer = msgspec.json.encode({"field": text}).decode()
    assert score(JsonField("field"), answer, text).value == 1


def test_a_scorer_is_stored_by_kind_and_each_setting_gives_another_digest() -> None:
    for scorer in (Exact(), Regex("a"), JsonSchema({"type": "object"}), Numeric(0.5)):
        assert msgspec.json.decode(msgspec.json.encode(scorer), type=Scorer) == scorer
    digests = [
        scorer_digest(s)
        for s in (Exact(), Exact(True), Contains(), Regex(), Regex("a"), JsonField("a"),
                  JsonField("b"), Numeric(), Numeric(0.1))
    ]  # fmt: skip
    assert len(set(digests)) == len(digests)
    assert scorer_digest(JsonField("a")) == scorer_digest(JsonField("a"))


def test_a_suite_that_does_not_fit_its_scorer_is_refused_before_anything_is_asked() -> None:
    suite = Suite((make_case("a", "5"), make_case("b", "five"), make_case("c", None, name="x")))
    with pytest.raises(InvalidInput) as caught:
        check_scorer(Numeric(), suite)
    lines = caught.value.message.splitlines()
    assert lines[0].startswith("case 2 (")
    assert lines[1].startswith("case 3 (x.")
    assert len(lines) == 2
    check_scorer(Regex("a"), suite)
    with pytest.raises(InvalidInput, match="the scorer cannot be used: unclosed group"):
        check_scorer(Regex("(a"), suite)
    with pytest.raises(InvalidInput, match="the scorer cannot be used: patternProperties"):
        check_scorer(JsonSchema({"patternProperties": {}}), suite)
