"""What is looked at in prompts and answers: no field, name or number hides a text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fairlead.domain.guarding import Watch, plain
from fairlead.domain.guardrail import Guardrail
from fairlead.gateway.guardrails.said import asked, streamed

PHRASE = "project swordfish"
DENIES = Guardrail("secrets", "prompt", phrases=(PHRASE,))
CARDS = Guardrail("cards", "prompt", pii=("card",))


def sees(guardrail: Guardrail, body: dict[str, Any]) -> bool:
    said = asked(json.dumps(body).encode())
    return Watch(guardrail).take(said.text) or Watch(guardrail).take(said.again)


def tool(properties: dict[str, Any]) -> dict[str, Any]:
    function = {"name": "f", "parameters": {"type": "object", "properties": properties}}
    return {"tools": [{"type": "function", "function": function}]}


@pytest.mark.parametrize(
    "body",
    [
        {"documents": [{"title": "t", "text": PHRASE}]},
        {"chat_template_kwargs": {"persona": PHRASE}},
        {"response_format": {"json_schema": {"schema": {"description": PHRASE}}}},
        {"prediction": {"type": "content", "content": PHRASE}},
        {"messages": [{"role": f"user\n{PHRASE}", "content": "x"}]},
        {"messages": [{"content": [{"type": "tool_use", "input": {"id": PHRASE}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "x", "input": {PHRASE: 1}}]}]},
        tool({"status": {"description": PHRASE}}),
        {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "project"}, {"type": "text", "text": "swordfish"}]}]},
        {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "project sw"}, {"type": "text", "text": "ordfish"}]}]},
    ],
)  # fmt: skip
def test_a_phrase_is_seen_wherever_a_model_may_be_shown_it(body: dict[str, Any]) -> None:
    assert sees(DENIES, body)


def test_numbers_are_seen() -> None:
    card = 4111111111111111
    assert sees(CARDS, {"messages": [{"role": "user", "content": [{"input": {"card": card}}]}]})
    assert sees(CARDS, {"messages": [{"role": "user", "content": [{"id": str(card)}]}]})


def test_what_no_model_is_shown_is_passed_over() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,cHJvamVjdA=="}}
    body = {
        "model": PHRASE, "user": PHRASE, "stop": [PHRASE],
        "messages": [{"role": "user", "content": [picture]}],
    }  # fmt: skip
    assert asked(json.dumps(body).encode()).text == ""


def test_what_an_engine_adds_to_each_part_does_not_cut_words_up() -> None:
    watch = Watch(DENIES)
    filters = {"hate": {"filtered": False, "severity": "safe"}}
    parts = [
        {"choices": [{"delta": {"content": text}, "content_filter_results": filters}]}
        for text in ("proj", "ect sword", "fish")
    ]
    events = b"".join(b"data: " + json.dumps(part).encode() + b"\n\n" for part in parts)
    assert any(watch.take(said.words) for said in streamed(events))


def test_an_items_place_is_no_other_answer() -> None:
    event = {"type": "response.output_text.delta", "output_index": 1, "delta": "{}"}
    (said,) = streamed(b"data: " + json.dumps(event).encode() + b"\n\n")
    assert (said.choice, said.words) == (0, "{}")


@pytest.mark.parametrize("letter", ["\ufe0f", "\u034f", "\U000e0101", "\u3164", "\u200b"])
def test_letters_that_show_nothing_are_none(letter: str) -> None:
    assert plain(letter.join(PHRASE)) == PHRASE


def test_an_answer_of_too_many_items_does_not_fit() -> None:
    watch = Watch(Guardrail("form", "answer", schema='{"type": "array"}'))
    watch.take("[" + "1," * 6_000 + "1]")
    assert watch.end()
