"""What is found in answers: refusals by their openings, JSON where it was asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fairlead.domain.quota import Price
from fairlead.gateway.replicas.assignment import Assignment
from fairlead.gateway.requests.answers import FORMAT_CHARS, AnswerReading, cost_usd, reading_of
from fairlead.gateway.requests.call import Call
from fairlead.gateway.requests.fields import Fields
from fairlead.gateway.requests.refusals import OPENINGS, is_refusal
from fairlead.gateway.requests.usage import Usage
from fairlead.gateway.state.loaded import LiveService
from fairlead.wire.snapshot import ServiceRoute

REFUSALS = {
    "en": [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot assist with this request.",
        "Sorry, I can't provide instructions for that.",
        "As an AI language model, I cannot provide medical advice.",
        "I am unable to fulfill this request.",
        "Unfortunately, I won't be able to help you with that.",
        "I must decline to answer.",
    ],
    "de": ["Es tut mir leid, aber ich kann dabei nicht helfen.", "Leider kann ich das nicht tun."],
    "fr": ["Je suis désolé, mais je ne peux pas vous aider."],
    "es": ["Lo siento, pero no puedo ayudarte con eso."],
    "it": ["Mi dispiace, ma non posso aiutarti."],
    "pt": ["Desculpe, mas não posso ajudar com isso."],
    "nl": ["Het spijt me, maar ik kan daar niet bij helpen."],
    "pl": ["Przepraszam, ale nie mogę w tym pomóc."],
    "ru": ["Извините, но я не могу помочь с этим."],
    "zh": ["很抱歉,我无法协助您完成此请求。", "对不起,我不能提供这些信息。"],
    "ja": ["申し訳ありませんが、そのご依頼にはお応えできません。"],
    "ko": ["죄송하지만 그 요청은 도와드릴 수 없습니다."],
}
ANSWERS = [
    "I'm sorry to hear that your card was lost. Here is what to do.",
    "Sorry for the delay! Your transfer is on its way.",
    "I can't find a payment of that amount; the last one was 12 EUR.",
    "I can help with that.",
    "Unfortunately, the exchange rate has changed since then.",
    "Leider ist die Karte gesperrt. Rufen Sie bitte an.",
    "Lo siento mucho. Su tarjeta está en camino.",
    "Desculpe a demora. Aqui está a resposta.",
    "对不起,让您久等了。您的卡已寄出。",
    "申し訳ありません。カードは発送済みです。",
    "",
    "{}",
]


@pytest.mark.parametrize("text", [text for texts in REFUSALS.values() for text in texts])
def test_a_usual_opening_of_a_refusal_is_one(text: str) -> None:
    """Whatever stands around it."""
    assert is_refusal(text)
    assert is_refusal(f"\n\n**{text}** But here is more.")


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_that_helps_is_none(text: str) -> None:
    """Though it begins with an apology, or says what it cannot find."""
    assert not is_refusal(text)


def test_every_language_has_an_example() -> None:
    """So that no pattern is there that never fits."""
    assert set(REFUSALS) == set(OPENINGS)


def call(**more: Any) -> Call:
    body = json.dumps({"model": "m", "messages": [], **more}).encode()
    live = LiveService(ServiceRoute("m", {}, None), {})
    assignment = Assignment("champion", "d", "u", 0.0, "", 0)
    return Call("r", "k", "chat/completions", body, Fields("m"), live, assignment)


def chat(text: str | None, **more: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"index": 0, "message": message, **more}]}).encode()


def read(facts: tuple[str, ...], body: bytes, **asked: Any) -> tuple[int, int]:
    reading = AnswerReading(facts, call(**asked))
    reading.whole(body)
    return reading.found(200, "")


JSON_ASKED = {"response_format": {"type": "json_object"}}


def test_nothing_is_read_where_nothing_is_declared() -> None:
    """There is no reader at all."""
    assert reading_of((), call()) is None


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (chat("I can't help with that."), 1),
        (chat("Here you are."), 0),
        (chat(None, finish_reason="content_filter"), 1),
        (b'{"choices":[{"message":{"content":null,"refusal":"No."}}]}', 1),
        (b'{"choices":[{"text":"I cannot assist with that."}]}', 1),
        (b'{"output":[{"content":[{"type":"refusal","refusal":"No."}]}]}', 1),
        (b'{"output":[{"content":[{"type":"output_text","text":"Yes."}]}]}', 0),
        (b'{"content":[{"type":"text","text":"I can\'t help with that."}]}', 1),
        (b'{"content":[],"stop_reason":"refusal"}', 1),
        (b"not json", 0),
    ],
)
def test_refusals_of_all_apis(body: bytes, refused: int) -> None:
    """By their text, or by the field with which an API says so itself."""
    assert read(("refusal",), body) == (refused, -1)


@pytest.mark.parametrize(
    ("text", "malformed"),
    [('{"a": 1}', 0), ("[1]", 0), ("```json\n{}\n```", 1), ('{"a": ', 1), ("", 1), ("Hello", 1)],
)
def test_json_that_was_asked_for(text: str, malformed: int) -> None:
    """And only where it was asked for, or is declared of all answers."""
    assert read(("format",), chat(text), **JSON_ASKED) == (-1, malformed)
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
    assert read(("format",), chat(text), response_format=schema) == (-1, malformed)
    assert read(("format",), chat(text), text={"format": {"type": "json_schema"}})[1] == malformed
    assert read(("format",), chat(text)) == (-1, -1)
    assert read(("json",), chat(text)) == (-1, malformed)


def test_whether_a_format_applies_follows_from_the_request_alone() -> None:
    """Also where there was no answer, or the client did not wait for it."""
    reading = AnswerReading(("format", "refusal"), call(**JSON_ASKED))
    assert reading.found(502, "upstream_error") == (-1, 1)
    assert reading.found(499, "client_closed") == (-1, 0)
    assert AnswerReading(("format",), call()).found(502, "upstream_error") == (-1, -1)


def streamed(*texts: str, end: bytes = b"\n\n") -> list[bytes]:
    deltas = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    events = [b"data: " + json.dumps(delta).encode() + end for delta in deltas]
    return [*events, b"data: [DONE]" + end]


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("size", [1, 3])
def test_a_stream_is_read_as_its_text(end: bytes, size: int) -> None:
    """However its events come."""
    events = streamed('{"a":', " [1, ", "2]}", end=end)
    reading = AnswerReading(("format", "refusal"), call(**JSON_ASKED))
    for at in range(0, len(events), size):
        reading.sent(b"".join(events[at : at + size]), is_stream=True)
    assert reading.found(200, "") == (0, 0)
    reading = AnswerReading(("refusal",), call())
    for event in streamed("I'm ", "sorry, ", "but I ", "can't ", "help with that."):
        reading.sent(event, is_stream=True)
    assert reading.found(200, "") == (1, -1)


def test_what_is_kept_of_an_answer_is_bounded() -> None:
    """Beyond the bound nobody looks, and nothing is said against it."""
    reading = AnswerReading(("format",), call(**JSON_ASKED))
    for _ in range(100):
        reading.sent(streamed("x" * 10_000)[0], is_stream=True)
    assert sum(len(text) for text in reading._texts) <= FORMAT_CHARS
    assert reading.found(200, "") == (-1, 0)
    reading = AnswerReading(("refusal",), call())
    for _ in range(100):
        reading.sent(streamed("x" * 1_000)[0], is_stream=True)
    assert sum(len(text) for text in reading._texts) <= 2_048


def test_the_cost_of_an_answer() -> None:
    """By its tokens, where they and the price are known."""
    price = Price(input_per_million=1.0, output_per_million=10.0)
    assert cost_usd(price, Usage(1_000, 100)) == pytest.approx(0.002)
    assert cost_usd(None, Usage(1_000, 100)) == -1.0
    assert cost_usd(price, Usage(-1, 100)) == -1.0
