"""What was sent, the request for the rest, and the seam: without a gateway."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.gateway.limits import CONTINUED_TEXT_BYTES_MAX
from fairlead.gateway.replicas.answer import AnswerHead
from fairlead.gateway.streams.continuation import NotContinuable, continued_body
from fairlead.gateway.streams.recount import Reading, Recount, tokens_of
from fairlead.gateway.streams.seam import Seam
from fairlead.gateway.streams.sent import Sent

CHAT = "chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def chunk(text: str | None, number: int = 1, **more: Any) -> bytes:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": more.pop("finish", None)}
    data = {"id": f"i{number}", "created": number, "choices": [choice], **more}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def sent(*events: bytes) -> Sent:
    made = Sent()
    for event in events:
        made.add(event)
    made.settle()
    return made


def rest_of(what: Sent, body: dict[str, Any], engine: str = "llama.cpp") -> dict[str, Any]:
    return dict(json.loads(continued_body(json.dumps(body).encode(), CHAT, engine, what).body))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=60))
def test_the_text_is_what_the_events_say_however_they_are_held(texts: list[str]) -> None:
    together = sent(b"".join(chunk(t) for t in texts))
    apart = sent(*(chunk(t) for t in texts))
    assert together.text == apart.text == "".join(texts)
    assert together.tokens == apart.tokens == len(texts)


@pytest.mark.parametrize(
    "form",
    [
        lambda e: e.replace(b"\n\n", b"\r\n\r\n"),
        lambda e: b": ping\n\n" + e,
        lambda e: b"event: message\n" + e,
        lambda e: e.replace(b"data: ", b"data:"),
    ],
    ids=["CRLF", "comment", "event field", "no space"],
)
def test_events_of_other_forms_are_read_too(form: Any) -> None:
    made = sent(form(chunk("a")), form(chunk("b")))
    assert (made.text, made.tokens, made.is_continuable) == ("ab", 2, True)


def test_half_of_a_character_counts_with_the_event_that_has_it() -> None:
    made = sent(chunk("a"), chunk(""), chunk("é"), chunk(""))
    assert (made.text, made.tokens) == ("aé", 3)


def test_usage_that_comes_with_every_event_is_believed() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 4}
    made = sent(chunk("four tokens", usage=usage))
    assert (made.tokens, made.prompt_tokens, made.has_usage) == (4, 5, False)


@pytest.mark.parametrize(
    "event",
    [
        b"data: {no json\n\n",
        b'data: {"error": {"message": "x"}}\n\n',
        b'data: {"choices": [{"index": 0}, {"index": 1}]}\n\n',
        b'data: {"choices": [{"index": 1, "delta": {"content": "x"}}]}\n\n',
        b'data: {"choices": [{"index": 0, "text": "x", "logprobs": {"tokens": ["x"]}}]}\n\n',
        b'data: {"choices": [{"index": 0, "delta": {"content": "\\ud83d"}}]}\n\n',
    ],
)
def test_what_is_not_plain_text_is_not_gone_on_with(event: bytes) -> None:
    what = sent(chunk("a"), event)
    assert not what.is_continuable
    with pytest.raises(NotContinuable):
        rest_of(what, BODY)


def test_a_text_over_the_bound_is_let_go_of() -> None:
    what = Sent()
    for _ in range(CONTINUED_TEXT_BYTES_MAX // 50_000 + 2):
        what.add(chunk("x" * 50_000))
    what.settle()
    assert not what.is_continuable
    assert what.text == ""


def test_limits_are_lowered_and_all_else_is_kept() -> None:
    more = {"max_tokens": 10, "n_predict": -1, "min_tokens": 1, "seed": 1, "stop": "x", "n": 1}
    rest = rest_of(sent(chunk("a"), chunk("b")), {**BODY, **more})
    messages = [*BODY["messages"], {"role": "assistant", "content": "ab"}]  # type: ignore[misc]
    assert rest == {**BODY, **more, "max_tokens": 8, "min_tokens": 0, "messages": messages}


def test_nothing_said_is_the_request_again_whatever_it_asks_for() -> None:
    body = {**BODY, "response_format": {"type": "json_object"}, "max_tokens": 3}
    assert rest_of(sent(chunk("")), body) == body


@pytest.mark.parametrize("prompt", [[1, 2, 3], ["a", "b"], [[1], [2]], None, 5])
def test_a_prompt_that_is_no_single_text_is_not_gone_on_with(prompt: Any) -> None:
    body = json.dumps({"prompt": prompt}).encode()
    with pytest.raises(NotContinuable):
        continued_body(body, "completions", "llama.cpp", sent(chunk("a")))


def test_white_space_that_a_template_may_trim_is_said_again_and_dropped() -> None:
    what = sent(chunk("a"), chunk(" \n\n"))
    rest = continued_body(json.dumps(BODY).encode(), CHAT, "vllm", what)
    assert (rest.text, rest.repeats, rest.tokens) == ("a", " \n\n", 1)
    seam = Seam(what, rest)
    said = [seam.rewrite(chunk(text, 2)) for text in (" ", "\n", "\n\nb", " c")]
    assert said[:2] == [None, None]
    assert sent(*(e for e in said if e is not None)).text == "\nb c"
    assert all(b'"i1"' in e for e in said if e is not None)


def read_as(answer: object) -> Reading | None:
    """What an engine's answer to the question for its tokens says."""
    found: list[Reading | None] = []
    recount = Recount(found.append, lambda reason, is_stale: None)
    head = AnswerHead(200, {b"content-type": b"application/json"})
    recount.on_answer(head, json.dumps(answer).encode())
    return found[0]


@pytest.mark.parametrize(
    ("text", "pieces", "tokens"),
    [
        ("日本", [" ", "日", "本"], 2),
        ("日", [" ", [0xE6, 0x97], [0xA5]], 2),
        ("card", [" card"], 1),
        ("card", ["car", "d"], 2),
        (" card", [" ", " card"], 1),
        (" card", [" ", "card"], 2),
        ("  card", [" ", " ", " card"], 2),
    ],
)
def test_a_space_that_a_tokenizer_puts_before_the_text_is_no_token_of_the_answer(
    text: str, pieces: list[object], tokens: int
) -> None:
    reading = read_as({"tokens": [{"id": 1, "piece": piece} for piece in pieces]})
    assert reading is not None
    assert reading.tokens_in(text) == tokens


def test_an_engine_that_names_its_tokens_by_number_is_taken_at_its_word() -> None:
    reading = read_as({"tokens": [1, 2, 3]})
    assert reading is not None
    assert reading.tokens_in("日本") == 3
    assert read_as({"count": 3}) is None


def test_what_the_engine_reads_decides_whether_and_how_far() -> None:
    def llama(text: str, events: int, counted: int, *, stop: bool = False) -> int | None:
        return tokens_of(text, "llama.cpp", events=events, counted=counted, has_stop=stop)

    assert llama("plain text", 2, 3) == 2
    assert llama("whole phrase", 1, 7) is None
    assert llama("日本語", 1, 5) == 5
    assert llama("held back", 1, 7, stop=True) == 7
    assert tokens_of("many at once", "vllm", events=1, counted=9, has_stop=False) == 9


@pytest.mark.parametrize("begun", ["Your card", " Your card", ""])
def test_a_text_that_the_client_had_begun_is_joined_with_what_was_said(begun: str) -> None:
    asked = [*BODY["messages"], {"role": "assistant", "content": begun}]  # type: ignore[misc]
    body = json.dumps({**BODY, "messages": asked}).encode()
    rest = continued_body(body, CHAT, "llama.cpp", sent(chunk(" was"), chunk(" sent")))
    assert (rest.text, rest.lead) == (" was sent", begun)
    assert json.loads(rest.body)["messages"][-1]["content"] == f"{begun} was sent"


def test_vllm_goes_on_from_a_begun_text_if_its_end_is_the_same_to_any_template() -> None:
    def rest(begun: str, **more: Any) -> Any:
        asked = [*BODY["messages"], {"role": "assistant", "content": begun}]  # type: ignore[misc]
        body = {**BODY, "continue_final_message": True, **more, "messages": asked}
        return rest_of(sent(chunk("It was")), body, "vllm")["messages"][1:]

    assert rest("Hm. ", continue_final_message=False) == [
        {"role": "assistant", "content": "Hm. "},
        {"role": "assistant", "content": "It was"},
    ]
    assert rest("Hm:") == [{"role": "assistant", "content": "Hm:It was"}]
    for begun in ("", "Hm: ", "Hm:\n"):
        with pytest.raises(NotContinuable):
            rest(begun)


@pytest.mark.parametrize(("status", "counted"), [(503, []), (404, [None])])
def test_a_replica_that_loads_its_model_has_not_said_that_it_tells_nothing(
    status: int, counted: list[None]
) -> None:
    found: list[Reading | None] = []
    failed: list[str] = []
    recount = Recount(found.append, lambda reason, is_stale: failed.append(reason))
    recount.on_answer(AnswerHead(status, {}), b"{}")
    assert found == counted
    assert failed == ([] if counted else [str(status)])
