"""What a client gets in place of an answer that a guardrail withholds, and the errors of others.

A plain answer keeps its form: a program that knows how to read an answer reads that this one was
withheld by `finish_reason: content_filter`, as OpenAI's and Azure's own filters say it. What was
said is named nowhere.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.domain.decoding import decode_json
from fairlead.domain.outcomes import BLOCKED
from fairlead.gateway.errors import Refusal
from fairlead.gateway.requests.dialects import MESSAGES, RESPONSES

CHAT = "chat/completions"


def prompt_refused(name: str) -> Refusal:
    """The error for a prompt that a guardrail blocks."""
    return Refusal(400, BLOCKED, f"The guardrail `{name}` does not let this prompt pass.")


def answer_ended(name: str) -> Refusal:
    """The error that ends a stream which a guardrail blocks."""
    return Refusal(400, BLOCKED, f"The guardrail `{name}` has ended this answer.")


def withheld(kind: str, name: str, answer: bytes, request_id: str) -> bytes:
    """An answer of the same form that says that it was withheld.

    Args:
        kind: As in `Call`.
        name: Of the guardrail.
        answer: Gives what is not about its words: id, model, usage.
    """
    text = f"This answer was withheld by the guardrail `{name}`."
    try:
        given = decode_json(answer, dict[str, Any])
    except msgspec.DecodeError:
        given = {"id": request_id, "created": 0, "model": ""}
    kept = {
        key: given[key] for key in ("id", "created", "created_at", "model", "usage") if key in given
    }
    return msgspec.json.encode({**kept, **_FORMS.get(kind, _completion)(text, _indices(given))})


def _indices(given: dict[str, Any]) -> list[int]:
    choices = given.get("choices")
    count = len(choices) if isinstance(choices, list) else 0
    return list(range(max(1, min(count, 128))))


def _chat(text: str, indices: list[int]) -> dict[str, Any]:
    return {
        "object": "chat.completion",
        "choices": [
            {
                "index": index,
                "finish_reason": "content_filter",
                "message": {"role": "assistant", "content": text},
            }
            for index in indices
        ],
    }


def _completion(text: str, indices: list[int]) -> dict[str, Any]:
    choices = [{"index": i, "finish_reason": "content_filter", "text": text} for i in indices]
    return {"object": "text_completion", "choices": choices}


def _responses(text: str, _indices: list[int]) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {
        "type": "message", "id": "msg_withheld", "role": "assistant", "status": "incomplete",
        "content": [part],
    }  # fmt: skip
    return {
        "object": "response",
        "status": "incomplete",
        "incomplete_details": {"reason": "content_filter"},
        "output": [message],
    }


def _messages(text: str, _indices: list[int]) -> dict[str, Any]:
    return {
        "type": "message",
        "role": "assistant",
        "stop_reason": "refusal",
        "content": [{"type": "text", "text": text}],
    }


_FORMS = {CHAT: _chat, RESPONSES: _responses, MESSAGES: _messages}
