"""Suites are read strictly, named by their content, and sampled the same way each time."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.errors import Damaged, InvalidInput
from fairlead.evaluation.cases import make_case
from fairlead.evaluation.suite import Columns, Suite, SuiteFormat, parse_suite

CSV = (
    b'\xef\xbb\xbftext,category,tags\r\n"Where, is my\ncard?",card,cards;late\r\n\r\nPIN?,pin,\r\n'
)
JSONL = b"""{"input": "Where, is my\\ncard?", "expected": "card", "tags": ["cards", "late"]}

{"input": "PIN?", "expected": "pin", "difficulty": 3}
"""
YAML = b"""# two cases
- input: "Where, is my\\ncard?"
  expected: card
  tags: [cards, late]
- {input: "PIN?", expected: pin}
"""


def test_the_three_formats_hold_the_same_cases() -> None:
    by_csv = parse_suite(CSV, "csv", {"input": "text", "expected": "category"})
    assert by_csv == parse_suite(JSONL, "jsonl") == parse_suite(YAML, "yaml")
    first, second = by_csv.cases
    assert first.input == "Where, is my\ncard?"
    assert first.expected == "card"
    assert first.tags == ("cards", "late")
    assert second.tags == ()


def test_values_that_are_not_text_keep_their_type_where_the_format_has_types() -> None:
    text = b"- {input: a, expected: {n: 1, x: 1.5, no: no, when: 2026-01-01, t: true, z: ~}}\n"
    (case,) = parse_suite(text, "yaml").cases
    assert case.expected == {
        "n": 1, "x": 1.5, "no": "no", "when": "2026-01-01", "t": True, "z": None,
    }  # fmt: skip


def test_a_conversation_is_an_input() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    line = json.dumps({"input": messages, "expected": "Hi"}).encode()
    (case,) = parse_suite(line, "jsonl").cases
    assert case.input == messages


def test_a_case_is_named_by_what_is_asked_and_expected_not_by_its_name_alone() -> None:
    named = make_case("q", "a", name="refund")
    assert named.id.startswith("refund.")
    assert named.id != make_case("q", "b", name="refund").id
    assert make_case("q", "a").id == make_case("q", "a", tags=("t",)).id
    assert make_case("q", "1").id != make_case("q", 1).id


MISTAKES: list[tuple[SuiteFormat, bytes, dict[str, str], str]] = [
    ("csv", b"", {}, 's:1: there is no column "input"'),
    ("csv", b"input\n", {}, "s:1: there are no cases"),
    ("csv", b"txt,expected\na,b\n", {"input": "text"},
     's:1: there is no column "text" (did you mean "txt"?)'),
    ("csv", b"input,expected\na\n", {}, "s:2: 1 cells in a table of 2 columns"),
    ("csv", b'input,expected\n"a\nb",c\nd,e,f\n', {}, "s:4: 3 cells in a table of 2 columns"),
    ("csv", b'input,expected\na,"b\n', {}, "s:2: not valid CSV: unexpected end of data"),
    ("csv", b"input,input\na,b\n", {}, "s:1: two columns have the same name"),
    ("csv", b"input,expected\na,b\na,b\n", {}, "s:3: the same case as in line 2"),
    ("csv", b"input,expected\n ,b\n", {}, "s:2: the input is empty"),
    ("csv", b"input\na\nb\xff\n", {}, "s:3: not UTF-8 text; save the file as UTF-8"),
    ("jsonl", b'{"input": "a"}\n{"input": ', {}, "s:2: not valid JSON: Input data was truncated"),
    ("jsonl", b'["a"]', {}, "s:1: must be a JSON object"),
    ("jsonl", b"[" * 100_000, {},
     "s:1: not valid JSON: cannot be read: maximum recursion depth exceeded while "
     "deserializing an object"),
    ("jsonl", b'{"input": 5}', {}, "s:1: the input must be text or a list of messages"),
    ("jsonl", b'{"input": [{"role": "boss", "content": "x"}]}', {},
     "s:1: each message of the input needs a role: system, developer, user, assistant, tool"),
    ("jsonl", b'{"input": [{"role": "user"}]}', {},
     "s:1: each message of the input needs a content"),
    ("jsonl", b'{"input": "a", "id": "x"}\n{"input": "b", "id": "x"}', {},
     "s:2: the same case as in line 1"),
    ("jsonl", b'{"input": "a"}', {"expected": "answer"}, 's:1: there is no "answer"'),
    ("jsonl", b'{"input": "a", "tags": 5}', {}, "s:1: the tags must be text or a list of texts"),
    ("yaml", b"- input: a\n  expcted: b\n", {},
     's:1: unknown key "expcted" (did you mean "expected"?)'),
    ("yaml", b"input: a\n", {}, "s:1: must be a list of cases"),
    ("yaml", b"- a\n", {}, "s:1: must be a mapping with the keys input and expected"),
    ("yaml", b"- &a {input: a}\n- *a\n", {}, "s:2: aliases are not supported in suites"),
    ("yaml", b"- {input: a, input: b}\n", {}, "s:1: the key input is there twice"),
    ("yaml", b"\n- {input: a, expected: !!python/name:os.system x}\n", {},
     "s:2: the tag !!python/name:os.system is not supported"),
    ("yaml", b'- {input: "\\ud800"}\n', {}, "s:1: a value that cannot be read"),
    ("yaml", b'- {input: "\\U99999999"}\n', {}, "s:1: not valid YAML: it cannot be read"),
    ("yaml", b"- input: a\n\tb: c\n", {},
     "s:2: not valid YAML: found character '\\t' that cannot start any token"),
    ("yaml", b"- {input: a, expected: 99999999999999999999}", {},
     "s:1: a value is not one that JSON has (int); put it in quotes"),
    ("yaml", b"- " + b"[" * 100, {}, "s:1: nested deeper than 40 levels"),
    ("yaml", b"#" * (2 * 1024 * 1024 + 1), {},
     "s:1: larger than 2097152 bytes; write large suites as JSONL"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "data", "columns", "message"), MISTAKES)
def test_a_mistake_is_one_line_that_says_where_and_what(
    format: SuiteFormat, data: bytes, columns: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_suite(data, format, columns, name="s")
    assert caught.value.message == message


def test_all_mistakes_are_listed_up_to_a_number_of_them() -> None:
    data = b"input\n" + b"".join(b"q%d\n \n" % i for i in range(50))
    with pytest.raises(InvalidInput) as caught:
        parse_suite(data, "csv", name="s")
    lines = caught.value.message.splitlines()
    assert len(lines) == 20
    assert lines[:2] == ["s:3: the input is empty", "s:5: the input is empty"]


def _suite(n: int) -> Suite:
    return Suite(tuple(make_case(f"question {i}", i) for i in range(n)))


@given(n=st.integers(1, 60), fewer=st.integers(0, 70), more=st.integers(0, 70))
def test_a_sample_is_stable_nested_and_in_the_order_of_the_suite(
    n: int, fewer: int, more: int
) -> None:
    suite = _suite(n)
    fewer, more = sorted((max(fewer, 1), max(more, 1)))
    small, large = suite.sample(fewer), suite.sample(more)
    assert small == suite.sample(fewer)
    assert len(small) == min(n, fewer)
    assert {case.id for case in small} <= {case.id for case in large}
    assert [case for case in suite.cases if case in small] == list(small)
    assert suite.sample(0) == suite.cases


def test_the_stored_form_comes_back_and_its_digest_names_the_content() -> None:
    suite = parse_suite(JSONL, "jsonl")
    assert Suite.from_bytes(suite.to_bytes()) == suite
    assert suite.digest.startswith("sha256:")
    assert suite.digest == parse_suite(YAML, "yaml").digest
    assert suite.digest != _suite(2).digest


@pytest.mark.parametrize("data", [b"", b"{}", b'{"cases": [{"id": 1}]}', b"[" * 100_000])
def test_a_stored_suite_that_is_none_is_reported_as_damaged(data: bytes) -> None:
    with pytest.raises(Damaged):
        Suite.from_bytes(data)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(question=st.text(min_size=1).filter(str.strip), expected=json_values)
def test_any_question_and_any_json_value_survive_jsonl_and_the_store(
    question: str, expected: Any
) -> None:
    line = msgspec.json.encode({"input": question, "expected": expected})
    suite = Suite.from_bytes(parse_suite(line, "jsonl").to_bytes())
    assert suite.cases[0].input == question
    assert suite.cases[0].expected == expected
    assert suite.cases[0].id == make_case(question, expected).id


@given(rows=st.lists(st.tuples(st.text(), st.text()), max_size=8))
def test_any_csv_that_the_standard_library_writes_is_read_or_refused_with_a_line(
    rows: list[tuple[str, str]],
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([("input", "expected"), *rows])
    try:
        suite = parse_suite(out.getvalue().encode(), "csv", name="s")
    except InvalidInput as error:
        assert all(  # noqa: PT017 - either way of ending is right
            line.startswith("s:") for line in error.message.splitlines()
        )
        assert len(rows) != len({r for r in rows if r[0].strip()}) or not rows
    else:
        assert [(case.input, case.expected) for case in suite.cases] == rows


@given(data=st.binary(max_size=80), format=st.sampled_from(["yaml", "jsonl", "csv"]))
def test_any_bytes_are_a_suite_or_an_error_with_a_line(data: bytes, format: SuiteFormat) -> None:
    try:
        parse_suite(data, format, name="s")
    except InvalidInput as error:
        assert all(  # noqa: PT017 - either way of ending is right
            line.startswith("s:") for line in error.message.splitlines()
        )


def test_columns_can_be_given_as_a_struct() -> None:
    data = b"q,a,kind\nx,y,k1\n"
    (case,) = parse_suite(data, "csv", Columns(input="q", expected="a", tags="kind")).cases
    assert (case.input, case.expected, case.tags) == ("x", "y", ("k1",))


@pytest.mark.parametrize(
    "data", [b'{"cases":[{"id":"\xff","input":"a"}]}', b'{"cases":' + b"[" * 100_000]
)
def test_a_stored_suite_that_is_not_text_or_too_deep_is_damaged(data: bytes) -> None:
    with pytest.raises(Damaged, match="stored suite"):
        Suite.from_bytes(data)
