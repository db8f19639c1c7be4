"""How many tokens of a broken stream are counted as said. White space behind them is said again."""

from __future__ import annotations

import json

import pytest

from fairlead.gateway.requests.metering import StreamMeter
from fairlead.gateway.streams.continuation import CHAT
from fairlead.gateway.streams.course import Course
from fairlead.gateway.streams.recount import Reading

BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}


def event(text: str) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"delta": {"content": text}}]}).encode()


@pytest.mark.parametrize(
    ("last", "with_space", "left"),
    [
        pytest.param(
            "t.\n\n", 6, 45, id="one token has a full stop and the space, and comes again"
        ),
        pytest.param("t.\n\n", 7, 44, id="the full stop was a token of its own"),
        pytest.param("t.", None, 44, id="no space"),
    ],
)
def test_a_token_that_ends_in_white_space_counts_once(
    last: str, with_space: int | None, left: int
) -> None:
    course = Course("sha256:a", "vllm", CHAT, StreamMeter(), wants_usage=True)
    for text in ("I", " will sen", last):
        course.sent.add(event(text))
    assert course.broke(json.dumps(BODY).encode())
    asked = []
    for count in (6, with_space):
        question = course.count_question
        if count is not None and question is not None:
            asked.append(json.loads(question)["prompt"])
            assert course.counted(Reading(count, None, begins_with_space=False))
    assert course.count_question is None
    assert asked == ["I will sent.", "I will sent.\n\n"][: len(asked)]
    assert len(asked) == (1 if with_space is None else 2)
    rest = json.loads(course.body)
    assert rest["messages"][-1] == {"role": "assistant", "content": "I will sent."}
    assert rest["max_tokens"] == left


def broken_completion(temperature: float) -> Course:
    """A completion of llama.cpp that broke after two events."""
    course = Course("sha256:a", "llama.cpp", "completions", StreamMeter(), wants_usage=True)
    for text in ("rd", " was"):
        course.sent.add(b"data: %b\n\n" % json.dumps({"choices": [{"text": text}]}).encode())
    asked = {"prompt": "Your ca", "max_tokens": 50, "temperature": temperature}
    assert course.broke(json.dumps(asked).encode())
    assert course.count_question is not None
    assert json.loads(course.count_question)["content"] == "Your card was"
    return course


def numbers(count: int) -> Reading:
    return Reading(count, None, begins_with_space=False)


@pytest.mark.parametrize(
    ("count", "goes_on"), [pytest.param(4, True, id="as said"), pytest.param(5, False, id="more")]
)
def test_numbers_alone_are_asked_for_without_the_prompt(count: int, goes_on: bool) -> None:
    course = broken_completion(temperature=1)
    assert course.counted(numbers(9))
    assert course.count_question is not None
    assert json.loads(course.count_question)["content"] == "rd was"
    assert course.counted(numbers(count)) == goes_on
    assert course.count_question is None
    if goes_on:
        assert json.loads(course.body)["prompt"] == "Your card was"


@pytest.mark.parametrize("reading", [numbers(3), None], ids=["numbers", "nothing"])
def test_what_is_greedy_is_said_again_where_nothing_is_told_of_its_tokens(
    reading: Reading | None,
) -> None:
    course = broken_completion(temperature=0)
    assert course.counted(reading)
    assert course.count_question is None
    assert json.loads(course.body) == {"prompt": "Your ca", "max_tokens": 50, "temperature": 0}


@pytest.mark.parametrize(
    ("penalty", "is_neutral"),
    [
        ({"presence_penalty": 0.5}, False),
        ({"frequency_penalty": -1}, False),
        ({"presence_penalty": 0, "frequency_penalty": 0.0, "repeat_penalty": 1}, True),
        ({"presence_penalty": None}, True),
    ],
)
@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("engine", ["llama.cpp", "vllm"])
def test_what_is_greedy_and_penalised_is_all_said_again_or_not_at_all(
    engine: str, temperature: int, penalty: dict[str, float | None], is_neutral: bool
) -> None:
    """What is read would not count against being said again, and the text would be another one."""
    course = Course("sha256:a", engine, CHAT, StreamMeter(), wants_usage=True)
    for text in ("I", " will"):
        course.sent.add(event(text))
    asked = {**BODY, "temperature": temperature, **penalty}
    goes_on = course.broke(json.dumps(asked).encode())
    changes = temperature == 0 and not is_neutral
    assert goes_on == (not changes or engine == "llama.cpp")
    if goes_on:
        rest = json.loads(course.body)
        assert (len(rest["messages"]) == 1) == changes
        assert (course.count_question is None) == changes
        assert rest["max_tokens"] == (50 if changes else 48)


@pytest.mark.parametrize("wants_usage", [True, False])
@pytest.mark.parametrize("engine", ["llama.cpp", "vllm"])
def test_of_one_that_lacks_its_end_alone_nothing_is_said_again(
    engine: str, wants_usage: bool
) -> None:
    course = Course("sha256:a", engine, CHAT, StreamMeter(), wants_usage=wants_usage)
    course.sent.add(event("I will"))
    last = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    course.sent.add(b"data: %b\n\n" % json.dumps(last).encode())
    asked = {**BODY, "temperature": 0, "presence_penalty": 0.5}
    assert course.broke(json.dumps(asked).encode())
    assert course.end == (None if wants_usage else b"data: [DONE]\n\n")
    if wants_usage:
        rest = json.loads(course.body)
        assert rest["messages"][-1]["content"] == "I will"
        assert rest["max_tokens"] == 1


def test_vllm_counts_the_prompt_for_its_repetition_penalty() -> None:
    for engine, again in (("vllm", False), ("llama.cpp", True)):
        course = Course("sha256:a", engine, CHAT, StreamMeter(), wants_usage=True)
        course.sent.add(event("I will"))
        asked = {**BODY, "temperature": 0, "repetition_penalty": 1.2}
        assert course.broke(json.dumps(asked).encode())
        assert (len(json.loads(course.body)["messages"]) == 1) == again
