"""Answers are held against the schema that their request gave: of the answer, and of its tools."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fairlead.domain import json_shape
from fairlead.gateway.requests import formats
from fairlead.gateway.requests.answers import AnswerReading
from fairlead.gateway.requests.formats import CALLS_MAX, SCHEMA_CHARS, TOOLS_MAX
from gateway.test_answers import call, chat, read, streamed

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
CHAT = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}
RESPONSES = {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}}
LLAMA = {"response_format": {"type": "json_object", "schema": SCHEMA}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}


@pytest.mark.parametrize("asked", [CHAT, RESPONSES, LLAMA])
@pytest.mark.parametrize(
    ("text", "malformed"), [('{"n": 1}', 0), ('{"n": "1"}', 1), ("{}", 1), ("[]", 1), ("{", 1)]
)
def test_an_answer_is_held_against_the_schema_of_its_request(
    asked: dict[str, Any], text: str, malformed: int
) -> None:
    assert read(("format",), chat(text), **asked) == (-1, malformed)
    assert read(("json",), chat(text), **asked) == (-1, malformed)
    assert read(("refusal",), chat(text), **asked) == (0, -1)


def test_a_stream_is_held_against_it_as_a_whole() -> None:
    for texts, malformed in ((('{"n"', ": 1}"), 0), (('{"n"', ': "x"}'), 1)):
        reading = AnswerReading(("format",), call(**CHAT))
        for event in streamed(*texts):
            reading.sent(event, is_stream=True)
        assert reading.found(200, "") == (-1, malformed)


@pytest.mark.parametrize("schema", [None, [], "x", {"type": "nonsense"}, {"$ref": "http://x/y"}])
def test_a_schema_that_says_nothing_leaves_well_formed_json(schema: Any) -> None:
    asked = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    assert read(("format",), chat("{}"), **asked) == (-1, 0)
    assert read(("format",), chat("{"), **asked) == (-1, 1)


def test_a_long_answer_is_held_against_no_schema() -> None:
    text = json.dumps({"m": "x" * SCHEMA_CHARS})
    assert read(("format",), chat(text), **CHAT) == (-1, 0)


def calling(name: str, arguments: str) -> bytes:
    calls = [{"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}]
    return json.dumps({"choices": [{"message": {"content": None, "tool_calls": calls}}]}).encode()


@pytest.mark.parametrize(
    ("name", "arguments", "malformed"),
    [
        ("add", '{"n": 1}', 0), ("add", '{"n": "1"}', 1), ("add", "{", 1), ("add", "", 1),
        ("subtract", '{"n": 1}', 1),
    ],
)  # fmt: skip
def test_calls_of_tools_are_held_against_what_the_tools_take(
    name: str, arguments: str, malformed: int
) -> None:
    assert read(("format",), calling(name, arguments), tools=[TOOL]) == (-1, malformed)
    called = {"type": "function_call", "name": name, "arguments": arguments}
    tool = {"type": "function", "name": "add", "parameters": SCHEMA}
    body = json.dumps({"output": [called]}).encode()
    assert read(("format",), body, tools=[tool]) == (-1, malformed)


@pytest.mark.parametrize(("given", "malformed"), [({"n": 1}, 0), ({"n": None}, 1)])
def test_a_tool_of_the_messages_api(given: dict[str, Any], malformed: int) -> None:
    body = json.dumps({"content": [{"type": "tool_use", "name": "add", "input": given}]}).encode()
    tool = {"name": "add", "input_schema": SCHEMA}
    assert read(("format",), body, tools=[tool]) == (-1, malformed)


def test_a_call_that_comes_in_parts_is_one_call() -> None:
    for last, malformed in (("1}", 0), ("null}", 1)):
        reading = AnswerReading(("format",), call(tools=[TOOL]))
        parts = [("add", '{"n'), (None, '": '), (None, last)]
        for name, arguments in parts:
            function = {"name": name, "arguments": arguments}
            delta = {"tool_calls": [{"index": 0, "function": function}]}
            event = json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()
            reading.sent(b"data: " + event + b"\n\n", is_stream=True)
        assert reading.found(200, "") == (-1, malformed)


def test_an_answer_that_calls_no_tool_keeps_to_the_format() -> None:
    """Whether it was to call one is not known; and beside calls a text is a remark."""
    assert read(("format",), chat("Here you are."), tools=[TOOL]) == (-1, 0)
    assert read(("format",), chat("Here you are."), tools=[]) == (-1, -1)
    assert read(("format",), calling("add", '{"n": 1}'), tools=[TOOL], **CHAT) == (-1, 0)
    assert read(("format",), chat("Here you are."), tools=[TOOL], **CHAT) == (-1, 1)


def test_what_is_looked_at_of_tools_is_bounded() -> None:
    many = [TOOL] * (TOOLS_MAX + 1)
    assert read(("format",), calling("subtract", "{"), tools=many) == (-1, -1)
    own = [{"type": "web_search"}]
    assert read(("format",), calling("search", "{"), tools=own) == (-1, -1)
    calls = [{"index": n, "function": {"name": "add", "arguments": "{"}} for n in range(99)]
    body = json.dumps({"choices": [{"message": {"tool_calls": calls}}]}).encode()
    reading = AnswerReading(("format",), call(tools=[TOOL]))
    reading.whole(body)
    assert len(reading._calls) == CALLS_MAX


def test_of_many_tools_only_the_schema_of_what_is_called_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read_schemas: list[bytes] = []

    def shape_of(schema: bytes) -> json_shape.Shape | None:
        read_schemas.append(schema)
        return json_shape.shape_of(schema)

    monkeypatch.setattr(formats, "shape_of", shape_of)
    tools = [
        {"type": "function", "name": f"t{n}", "parameters": {**SCHEMA, "title": str(n)}}
        for n in range(TOOLS_MAX)
    ]
    assert read(("format",), calling("t7", '{"n": 1}'), tools=tools) == (-1, 0)
    assert read(("format",), calling("t7", '{"n": "1"}'), tools=tools) == (-1, 1)
    assert [json.loads(schema)["title"] for schema in read_schemas] == ["7", "7"]
