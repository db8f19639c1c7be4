"""JSON: what is valid passes, what is not is a 400, and none of it holds up anybody else."""

from __future__ import annotations

import asyncio
import json

import pytest
from attack import Bystander, given_back, post, request, statuses
from attack import descriptors as open_descriptors
from gateway_rig import Rig
from hypothesis import given
from hypothesis import strategies as st

from fairlead.gateway import limits
from fairlead.gateway.errors import Refusal
from fairlead.gateway.requests.fields import Fields
from fairlead.gateway.requests.request_body import read_fields
from support.corpora import corpora

_ACCEPTED_CHOICES = {
    "i_number_double_huge_neg_exp",
    "i_number_huge_exp",
    "i_number_neg_int_huge_exp",
    "i_number_pos_double_huge_exp",
    "i_number_real_neg_overflow",
    "i_number_real_pos_overflow",
    "i_number_real_underflow",
    "i_number_too_big_neg_int",
    "i_number_too_big_pos_int",
    "i_number_very_big_negative_int",
}
"""Where the standard leaves it to the parser: numbers beyond a double are the engine's to
judge. What is not UTF-8 or half of an escaped surrogate pair, has a byte order mark or 500 levels
is refused."""


def wrapped(value: bytes) -> bytes:
    """A chat body with this as the value of a key that nobody reads."""
    return b'{"model":"bank","messages":[],"unused":' + value + b"}"


async def test_the_corpus_is_judged_as_it_says_and_the_i_cases_as_the_table_says(
    served: Rig,
) -> None:
    files = sorted((corpora() / "json-test-suite").rglob("*.json"))
    judged = [file for file in files if file.name[:2] in ("y_", "n_", "i_")]
    assert len(judged) > 300
    async with served.client() as client:
        for file in judged:
            answer = await client.post("/v1/chat/completions", content=wrapped(file.read_bytes()))
            is_good = file.name.startswith("y_") or file.stem in _ACCEPTED_CHOICES
            assert answer.status_code == (200 if is_good else 400), file.name


@pytest.mark.parametrize(
    "value", [b"NaN", b"Infinity", b"-Infinity", b"nan", b"1e", b"0x1", b"01", b"'a'", b"// c\n1"]
)
def test_what_only_some_parsers_take_is_refused(value: bytes) -> None:
    outcome = read_fields(wrapped(value))
    assert isinstance(outcome, Refusal)
    assert outcome.status == 400


@pytest.mark.parametrize(
    "twice",
    [
        b'"model":"bank","model":"other"',
        b'"model":"bank","model":"bank"',
        b'"model":"bank","mod\\u0065l":"other"',
        b'"model":"bank","stream":true,"stream":false',
        b'"model":"bank","stream" : true,"x":1 , "stream":true',
        b'"model":"bank","tools":[],"tools":[1]',
        b'"model":"bank","tools":1,"tools":12',
        b'"model":"bank","tools":12,"tools":1',
        b'"model":"bank","messages":[{"role":"user"}],"messages":[]',
        b'"model":"bank","user":"a","user":"b"',
        b'"user":"user","model":"bank","messages":[{"role":"user"},{"role": "user"}],"user":"user"',
        b'"model":"bank","stream_options":{},"stream_options":{"include_usage":true}',
    ],
)
async def test_a_field_given_twice_is_refused(served: Rig, twice: bytes) -> None:
    got = await served.raw(post(b"{" + twice + b"}"), wait_s=0.5)
    assert statuses(got) == [400]
    assert b'"code":"invalid_body"' in got


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"bank","messages":[{"role":"user"},{"role":"user"}]}',
        b'{"model":"bank","tools":[{"model":1,"tools":2}],"x":{"model":1,"stream":[]}}',
        b'{ "model" :\t"bank"\r\n,"x":"\\"model\\"","y":"\\u0041","z":"\\\\" } ',
        b'{"model":"bank","x":"\\"model\\",\\"model\\""}',
        b'{"model":"bank","\\"model":1,"user":null}',
        b'{"model":"bank","user":"user","messages":[{"role":"user"},{"role": "user"}]}',
    ],
)
def test_the_same_word_elsewhere_is_no_second_field(body: bytes) -> None:
    assert isinstance(read_fields(body), Fields)


_names = st.sampled_from(["model", "stream", "tools", "x", 'a"b', "ö", "\\", "user"])
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.tuples(_names, _values), max_size=5), st.booleans(), st.booleans())
def test_a_body_is_refused_for_a_repetition_exactly_if_there_is_one(
    members: list[tuple[str, object]], is_ascii: bool, is_spaced: bool
) -> None:
    pairs = [("model", "bank"), *(m for m in members if m[0] not in _TYPED)]
    space = " \n" if is_spaced else ""
    dumped = [
        f"{space}{json.dumps(n, ensure_ascii=is_ascii)}{space}:{space}"
        f"{json.dumps(v, ensure_ascii=is_ascii)}{space}"
        for n, v in pairs
    ]
    names = [name for name, _ in pairs]
    # An escaped letter may be one of a name: then the whole body is looked at.
    outcome = read_fields(("{" + ",".join([*dumped, '"k":"\\u0041"']) + "}").encode())
    assert isinstance(outcome, Refusal) == (len(set(names)) < len(names))


_others = st.sampled_from(
    [
        '"user"', '" user"', '":user"', '":\\"user\\":"', '"\\":\\"user\\""', '["user","user"]',
        '[":", "user"]', '{"user":"user"}', '{"role": "user"}', '{":":"user"}',
    ]
)  # fmt: skip


@given(st.lists(st.booleans() | _others, max_size=8), st.sampled_from(["", " ", "\n", "  "]))
def test_a_second_user_is_found_among_any_number_of_roles(
    members: list[bool | str], space: str
) -> None:
    dumped = [
        f'"user"{space}:{space}"{"user" if value else "u"}"'
        if isinstance(value, bool)
        else f'"k{n}"{space}:{space}{value}'
        for n, value in enumerate(members)
    ]
    outcome = read_fields(("{" + ",".join(['"model":"bank"', *dumped]) + "}").encode())
    assert isinstance(outcome, Refusal) == (sum(isinstance(m, bool) for m in members) > 1)


_TYPED = ("stream", "user")

BOMBS = {
    "8 MB of [": b"[" * 8_000_000,
    "as a value": wrapped(b"[" * 7_900_000),
    "of objects": wrapped(b'{"a":' * 1_500_000),
    "closed": wrapped(b"[" * 3_900_000 + b"]" * 3_900_000),
    "65 levels": wrapped(b"[" * 65 + b"]" * 65),
    "lists": wrapped(b"[" + b"[]," * 2_600_000 + b"1]"),
    "strings": wrapped(b"[" + b'"",' * 2_600_000 + b"1]"),
    "brackets in strings": wrapped(b"[" + b'"[[",' * 1_300_000 + b"1]"),
    "escapes": wrapped(b'"' + b"\\\\" * 3_900_000 + b'"'),
    "fields": b'{"model":"bank"' + b"".join(b',"%d":1' % i for i in range(700_000)) + b"}",
    "a field again and again": b'{"model":"bank"' + b',"x":1' * 1_000_000 + b"}",
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_is_a_400_and_the_bystander_is_served(
    served: Rig, bystander: Bystander, name: str
) -> None:
    body = BOMBS[name]
    assert len(body) <= 8 * 1024 * 1024
    before = open_descriptors()
    wire = request(b"host: x", b"content-length: %d" % len(body), b"connection: close", body=body)
    got = await asyncio.gather(*(served.raw(wire, wait_s=60) for _ in range(2)))
    for answer in got:
        assert statuses(answer)[:1] == [400], answer[:200]
    await bystander.was_served()
    await given_back(served, before + 4)


def test_the_most_costly_body_that_is_accepted_is_read_in_time_that_its_marks_bound() -> None:
    """Counted in marks, not in seconds: a body with more of them is refused by their count."""
    most = limits.JSON_MARKS_MAX
    assert isinstance(read_fields(wrapped(b"[" + b'"",' * (most // 2 - 50) + b"1]")), Fields)
    beyond = read_fields(wrapped(b"[" + b'"",' * (most // 2) + b"1]"))
    assert isinstance(beyond, Refusal)
    assert beyond.code == "json_too_complex"


async def test_a_body_with_too_many_marks_is_refused_before_all_of_it_has_come(served: Rig) -> None:
    body = wrapped(b"[" + b"[]," * 2_600_000 + b"1]")
    framed = [
        request(b"host: x", b"content-length: %d" % len(body), body=body[:1_000_000]),
        request(
            b"host: x",
            b"transfer-encoding: chunked",
            body=b"".join(b"1000\r\n%b\r\n" % body[n : n + 4096] for n in range(0, 10**6, 4096)),
        ),
    ]
    for wire in framed:
        answer = await served.raw(wire, wait_s=8)
        assert statuses(answer) == [400]
        assert b"json_too_complex" in answer


async def test_a_body_with_as_many_marks_as_it_may_have_is_served(served: Rig) -> None:
    body = wrapped(b"[" + b'"",' * (limits.JSON_MARKS_MAX // 2 - 50) + b"1]" + b" " * 1_000_000)
    async with served.client() as client:
        answer = await client.post("/v1/chat/completions", content=body, timeout=60)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe{\0}\0", b'{"model":"\xc3("}', wrapped(b'"\xed\xa0\x80"'), wrapped(b'"\xff"'), b""],
)
async def test_a_body_that_is_not_utf_8_or_empty_is_a_400(served: Rig, body: bytes) -> None:
    assert statuses(await served.raw(post(body), wait_s=0.5)) == [400]


async def test_feedback_is_as_strict(served: Rig) -> None:
    for body in (b"[" * 16_000, b'{"request_id":NaN}', b"\xff", b"{}", b"[]", b'{"request_id":{}}'):
        wire = request(
            b"host: x", b"content-length: %d" % len(body), body=body, path=b"/v1/feedback"
        )
        assert statuses(await served.raw(wire, wait_s=0.5)) == [400]
