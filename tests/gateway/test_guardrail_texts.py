"""What is looked at in prompts and answers: no field, name or number hides a text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fairlead.domain.guarding import Watch, plain
from fairlead.domain.guardrail import Guardrail
from fairlead.gateway.guardrails.said import asked, streamed
from fairlead.gateway.guardrails.watching import Answer

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
        {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "project sw", "beside": "some words"},
            {"type": "text", "text": "ordfish"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {
            "type": "text", "media_type": "text/plain", "data": PHRASE}}]}]},
    ],
)  # fmt: skip
def test_a_phrase_is_seen_wherever_a_model_may_be_shown_it(body: dict[str, Any]) -> None:
    assert sees(DENIES, body)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "swordfish", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {
            "type": "text", "media_type": "text/plain", "data": "swordfish"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "x", "input": {"id": "旗魚"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "x", "data": "這是旗魚計劃"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "x", "input": {"旗魚": 1}}]}]},
    ],
)  # fmt: skip
def test_one_word_and_words_without_spaces_are_seen_where_names_and_data_stand(
    body: dict[str, Any],
) -> None:
    assert sees(Guardrail("word", "prompt", phrases=("swordfish", "旗魚")), body)


def test_a_prompt_of_vectors_cannot_be_read() -> None:
    assert asked(b'{"prompt": "x", "prompt_embeds": "cHJvamVjdA=="}').has_tokens
    assert not asked(b'{"prompt": "x", "prompt_embeds": null}').has_tokens


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


def hits(guardrail: Guardrail, *events: Any, is_last: bool = True) -> bool:
    """Whether an answer that comes in these events hits it."""
    data = b"".join(
        event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() + b"\n\n"
        for event in events
    )
    looks = Answer((guardrail,)).looks(streamed(data), is_last=is_last)
    found: list[Guardrail] = []
    try:
        while True:
            found += next(looks)
    except StopIteration as end:
        found += end.value
    return bool(found)


def message(text: str, **more: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, **more}
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}


NO_LEAKS = Guardrail("leaks", "answer", phrases=(PHRASE,))


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.output_text.done", "item_id": "i", "text": PHRASE},
        {"type": "response.content_part.done", "part": {"type": "output_text", "text": PHRASE}},
        {"type": "response.output_item.done", "item": message(PHRASE)},
        {"type": "response.completed", "response": {"output": [message(PHRASE)]}},
        {"type": "response.incomplete", "response": {"output": [message(PHRASE)]}},
        {"type": "response.function_call_arguments.done", "arguments": f'{{"a":"{PHRASE}"}}'},
        {"type": "response.output_item.added", "item": {"type": "function_call", "name": PHRASE}},
        {"type": "response.refusal.done", "refusal": PHRASE},
        {"type": "response.reasoning_text.done", "text": PHRASE},
        {"type": "message_start", "message": {"content": [{"type": "text", "text": PHRASE}]}},
        {"type": "message", "content": [{"type": "text", "text": PHRASE}]},
        {"type": "content_block_start", "content_block": {"type": "text", "text": PHRASE}},
        {"type": "text", "text": PHRASE},
        {"type": "completion", "completion": PHRASE},
        {"type": "something.new", "field": {"of": [PHRASE]}},
        {"type": "response.x", "delta": {"type": ["text_delta"], "text": PHRASE}},
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": PHRASE}}]},
        {"choices": [{"message": {"role": "assistant"}, "delta": {"content": PHRASE}}]},
        {"choices": [{"message": PHRASE}]},
        {"choices": [{"delta": {"content": "x"}, "text": PHRASE}]},
        {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": PHRASE}}]}}]},
        {"choices": [PHRASE]},
        {"choices": {"text": PHRASE}},
        {"content": PHRASE, "stop": False},
        {"content": [{"type": ["x"], "text": PHRASE}]},
        {"message": {"role": "assistant", "content": PHRASE}},
        {"output_text": PHRASE},
        {"anything": {"new": [PHRASE]}},
        [PHRASE],
        f"data: {PHRASE}\n\n".encode(),
        f'data: {{"broken": "{PHRASE}\n\n'.encode(),
    ],
)  # fmt: skip
def test_a_phrase_is_seen_in_whatever_event_says_it(event: Any) -> None:
    """Also in those that say all of it at their end, and by themselves."""
    assert hits(NO_LEAKS, event)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.created", "response": {
            "instructions": PHRASE, "tools": [{"description": PHRASE}], "output": []}},
        {"type": "response.output_text.delta", "delta": "x", "obfuscation": PHRASE},
        {"choices": [], "error": {"message": PHRASE}},
        {"choices": [{"delta": {"content": "x"}, "logprobs": {"content": [{"token": PHRASE}]}}]},
        b"data: [DONE]\n\n",
        f": {PHRASE}\n\n".encode(),
    ],
)  # fmt: skip
def test_what_no_model_says_is_passed_over(event: Any) -> None:
    """What was asked and is said again, what hides lengths, and errors of the engine."""
    assert not hits(NO_LEAKS, event)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_phrase_is_seen_over_events_whatever_ends_their_lines(line_end: str) -> None:
    parts = [{"choices": [{"delta": {"content": text}}]} for text in ("project sword", "fish")]
    texts = [f"data: {json.dumps(part)}{line_end}{line_end}".encode() for part in parts]
    assert hits(NO_LEAKS, *texts)


def responses(*texts: str) -> list[dict[str, Any]]:
    """A stream of the Responses API, which says everything five times."""
    text = "".join(texts)
    done = message(text, annotations=[{"title": "a page"}], logprobs=[{"token": "x"}])
    return [
        {"type": "response.created", "response": {"output": []}},
        *({"type": "response.output_text.delta", "delta": each} for each in texts),
        {"type": "response.output_text.done", "text": text},
        {"type": "response.content_part.done", "part": done["content"][0]},
        {"type": "response.output_item.done", "item": done},
        {"type": "response.completed", "response": {"output": [done]}},
    ]


@pytest.mark.parametrize("events", [responses("abc", "def"), responses("abc", "def")[-4:]])
def test_what_is_said_several_times_counts_once(events: list[dict[str, Any]]) -> None:
    """Also where no event has only a part of it."""
    for count, is_hit in ((6, False), (5, True)):
        short = Guardrail("short", "answer", max_characters=count)
        # The page's title stands beside the words of the item, once.
        texts = [event for event in events if "annotations" not in json.dumps(event)]
        assert hits(short, *texts) == is_hit


@pytest.mark.parametrize("events", [responses('{"a"', ": 1}"), responses('{"a"', ": 1}")[-3:]])
def test_a_schema_is_about_the_words_said_once(events: list[dict[str, Any]]) -> None:
    """And about nothing that stands beside them."""
    form = Guardrail("form", "answer", schema='{"type": "object", "required": ["a"]}')
    other = Guardrail("form", "answer", schema='{"type": "object", "required": ["b"]}')
    assert not hits(form, *events)
    assert hits(other, *events)
