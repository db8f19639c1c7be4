"""The prompt template and the sampling defaults change a request as declared, and nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.prompting import apply_release
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
