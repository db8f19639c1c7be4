"""The prompt template and the sampling defaults change a request as declared, and nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.prompting import apply_release, apply_to_messages, apply_to_responses
from fairlead.domain.release import Prompt

PROMPT = Prompt(system="You are a bank.", user="Question: {input}\nAnswer:")


def applied(body: dict[str, Any], prompt: Prompt = PROMPT, **sampling: Any) -> dict[str, Any]:
    return apply_release(body, prompt=prompt, sampling=sampling, upstream_model=None)


def test_the_system_message_goes_first_when_the_client_sends_none() -> None:
    body = {"messages": [{"role": "user", "content": "hi"}]}
    assert applied(body)["messages"][0] == {"role": "system", "content": "You are a bank."}


def test_a_client_s_own_system_message_is_kept_alone() -> None:
    for role in ("system", "developer"):
        body = {"messages": [{"role": role, "content": "mine"}, {"role": "user", "content": "hi"}]}
        messages = applied(body)["messages"]
        assert [m["role"] for m in messages] == [role, "user"]


def test_only_the_last_user_message_is_wrapped() -> None:
    turns = [("user", "one"), ("assistant", "two"), ("user", "three")]
    body = {"messages": [{"role": r, "content": c} for r, c in turns]}
    contents = [m["content"] for m in applied(body)["messages"]]
    assert contents == ["You are a bank.", "one", "two", "Question: three\nAnswer:"]


def test_content_in_parts_is_wrapped_around() -> None:
    parts = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {}}]
    wrapped = applied({"messages": [{"role": "user", "content": parts}]})["messages"][1]["content"]
    assert wrapped[0]["text"] == "Question: "
    assert wrapped[1:3] == parts
    assert wrapped[3]["text"] == "\nAnswer:"


def test_a_completion_prompt_is_wrapped() -> None:
    assert applied({"prompt": "hi"})["prompt"] == "Question: hi\nAnswer:"


def test_what_the_client_sends_wins_over_the_defaults() -> None:
    changed = applied({"prompt": "x", "temperature": 1.0}, Prompt(), temperature=0, max_tokens=5)
    assert changed == {"prompt": "x", "temperature": 1.0, "max_tokens": 5}


def test_the_upstream_model_replaces_the_service_name() -> None:
    changed = apply_release(
        {"model": "banking"}, prompt=Prompt(), sampling={}, upstream_model="big-1"
    )
    assert changed["model"] == "big-1"


@given(st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.lists(st.integers())))
def test_a_release_without_prompt_and_sampling_changes_nothing(body: dict[str, Any]) -> None:
    before = repr(body)
    assert applied(body, Prompt()) == body
    assert repr(body) == before


SAMPLING: dict[str, Any] = {"temperature": 0, "max_tokens": 8, "stop": "#", "response_format": {}}


def test_a_body_of_the_responses_api_has_the_same_under_its_names() -> None:
    changed = apply_to_responses(
        {"input": "hi"}, prompt=PROMPT, sampling=SAMPLING, upstream_model="up"
    )
    assert changed == {
        "model": "up",
        "instructions": "You are a bank.",
        "input": "Question: hi\nAnswer:",
        "temperature": 0,
        "max_output_tokens": 8,
    }
    parts = [{"type": "input_text", "text": "hi"}]
    items = [{"role": "user", "content": parts}, {"type": "function_call_output", "output": "x"}]
    changed = apply_to_responses(
        {"input": items, "instructions": "mine"}, prompt=PROMPT, sampling={}, upstream_model=None
    )
    texts = [part["text"] for part in changed["input"][0]["content"]]
    assert texts == ["Question: ", "hi", "\nAnswer:"]
    assert (changed["input"][1], changed["instructions"]) == (items[1], "mine")


def test_a_body_of_anthropic_s_api_has_the_same_under_its_names() -> None:
    result = {"role": "user", "content": [{"type": "tool_result", "content": "x"}]}
    body = {"messages": [{"role": "user", "content": "hi"}, result], "max_tokens": 3}
    changed = apply_to_messages(body, prompt=PROMPT, sampling=SAMPLING, upstream_model=None)
    assert changed == {
        "system": "You are a bank.",
        "messages": [{"role": "user", "content": "Question: hi\nAnswer:"}, result],
        "temperature": 0,
        "max_tokens": 3,
        "stop_sequences": ["#"],
    }
