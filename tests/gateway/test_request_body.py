"""The request body: read little, change only what a policy changes. No I/O."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from gateway_rig import A, route
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.domain.prompting import apply_release
from fairlead.domain.release import Prompt
from fairlead.gateway.errors import Refusal
from fairlead.gateway.requests import request_body
from fairlead.gateway.requests.fields import Fields
from fairlead.gateway.requests.request_body import body_for, depth_of, read_fields

CHAT = "chat/completions"

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=20,
)
contents = st.none() | st.text(max_size=10) | st.lists(values, max_size=3)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant"]), "content": contents}
    ),
    max_size=4,
)
prompts = st.builds(Prompt, st.none() | st.just("Be kind."), st.none() | st.just("Q: {input} A:"))


def fields_of(body: bytes) -> Fields:
    fields = read_fields(body)
    assert isinstance(fields, Fields)
    return fields


def sent(body: dict[str, Any], **policy: Any) -> Any:
    data = json.dumps(body).encode()
    return json.loads(body_for(data, fields_of(data), CHAT, route(A, **policy)))


def test_without_policy_the_bytes_are_not_touched() -> None:
    data = b' { "messages" : [ ] , "model":"m"}'
    assert body_for(data, fields_of(data), CHAT, route(A)) is data


@settings(max_examples=50)
@given(messages, st.dictionaries(st.text(max_size=5), values, max_size=4), prompts)
def test_what_the_engine_sees_is_what_the_evaluation_sends(
    listed: list[Any], more: dict[str, Any], prompt: Prompt
) -> None:
    body = {
        **{k: v for k, v in more.items() if k not in ("stream", "user", "stream_options")},
        "model": "m",
        "messages": listed,
    }
    sampling: dict[str, Any] = {"temperature": 0.5}
    expected = apply_release(body, prompt=prompt, sampling=sampling, upstream_model="up")
    assert sent(body, prompt=prompt, sampling=sampling, upstream_model="up") == expected


@pytest.mark.parametrize(
    ("given_options", "expected"),
    [
        (None, {"include_usage": True}),
        ({"include_usage": False}, {"include_usage": True}),
        ({"x": [1]}, {"x": [1], "include_usage": True}),
    ],
)
def test_a_stream_is_asked_for_its_usage(
    given_options: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    body = {"model": "m", "stream": True, "stream_options": given_options}
    assert sent(body)["stream_options"] == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"b","x":1,"mod\\u0065l":"b"}',
        b'{"model":"b","stream":true,"stream":false}',
    ],
)
def test_a_field_given_twice_is_refused(body: bytes) -> None:
    outcome = read_fields(body)
    assert isinstance(outcome, Refusal)
    assert (outcome.status, outcome.code) == (400, "invalid_body")


def test_messages_of_another_form_are_left_for_the_engine_to_refuse() -> None:
    for odd in ("text", [1], {"a": 1}, [[]]):
        assert sent({"model": "m", "messages": odd}, prompt=Prompt(user="{input}!")) == {
            "model": "m",
            "messages": odd,
        }


@given(values)
def test_depth_is_exact_beyond_its_cheap_bound(value: Any) -> None:
    def depth(v: Any) -> int:
        if isinstance(v, dict):
            return 1 + max(map(depth, v.values()), default=0)
        return 1 + max(map(depth, v), default=0) if isinstance(v, list) else 0

    padded = {"pad": [[] for _ in range(70)], "v": value, "text": '[[\\"{{'}
    assert depth_of(json.dumps(padded).encode()) == depth(padded)
    assert depth_of(json.dumps(value).encode()) >= depth(value)


def test_64_levels_pass_and_65_do_not() -> None:
    for levels, is_good in ((64, True), (65, False), (100_000, False)):
        body = b'{"model":"m","x":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"
        assert isinstance(read_fields(body), Fields) == is_good


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_a_400(data: bytes) -> None:
    outcome = read_fields(data)
    assert isinstance(outcome, Fields) or outcome.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","\xff":1}',
        b'{"model":"m","x":"\xe9"}',
        b'{"model":"m","x":{"y":["\xed\xa0\x80"]}}',
        b'{"model":"m","user":"\xff"}',
        b'{"model":"m","stream_options":{"\xff":1}}',
        b'\xff{"model":"m"}',
    ],
)
def test_what_is_not_utf_8_anywhere_is_refused(body: bytes) -> None:
    outcome = read_fields(body)
    assert isinstance(outcome, Refusal)
    assert (outcome.status, outcome.code) == (400, "invalid_body")
    assert isinstance(read_fields('{"model":"m","ö":"\u20ac"}'.encode()), Fields)


@given(st.binary(max_size=12), st.sampled_from(["key", "content", "prompt", "stream_options"]))
def test_what_was_accepted_can_be_put_together_or_is_a_decode_error(
    piece: bytes, where: str
) -> None:
    body = {
        "key": b'{"model":"m","stream":true,"%b":1,"messages":[]}',
        "content": b'{"model":"m","messages":[{"role":"user","content":"%b"}]}',
        "prompt": b'{"model":"m","prompt":"%b"}',
        "stream_options": b'{"model":"m","stream":true,"stream_options":{"%b":1}}',
    }[where] % piece
    fields = read_fields(body)
    if isinstance(fields, Fields):
        with contextlib.suppress(msgspec.DecodeError):
            json.loads(body_for(body, fields, CHAT, route(A, prompt=Prompt("S", "{input}!"))))


def test_a_body_of_many_brackets_is_judged_quickly() -> None:
    body = b'{"model":"m","x":[' + b",".join([b"[]"] * 200_000) + b"]}"
    assert isinstance(read_fields(body), Fields)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (b"".join(b',"k%d":1' % n for n in range(40_000)), "json_too_complex"),
        (b',"messages":"%b"' % (b"x" * 300_000), ""),
        (b', "x":1,"y":"%b","x":1' % (b"x" * 300_000), "invalid_body"),
    ],
    ids=["many", "plain", "twice"],
)
def test_a_large_body_is_taken_apart_once_to_see_whether_a_field_is_given_twice(
    monkeypatch: pytest.MonkeyPatch, fields: bytes, code: str
) -> None:
    sizes: list[int] = []
    parts = msgspec.json.Decoder(dict[str, msgspec.Raw])

    class Counting:
        def decode(self, body: bytes) -> dict[str, msgspec.Raw]:
            sizes.append(len(body))
            return parts.decode(body)

    monkeypatch.setattr(request_body, "_parts", Counting())
    body = b'{"model":"m"' + fields + b"}"
    outcome = read_fields(body)
    assert (outcome.code if isinstance(outcome, Refusal) else "") == code
    assert sizes == [len(body)]
