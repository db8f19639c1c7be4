"""What clients read of a stream."""

from __future__ import annotations

import json
from typing import Any

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
SAME = ("id", "object", "created", "model")


def greedy(path: str, tokens: int, text: str = "how do i", **more: Any) -> dict[str, Any]:
    """A request for a stream that does not end before its limit."""
    asked = {"prompt": text} if path == COMPLETIONS else {"messages": said(text)}
    return {
        "model": "bank",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_tokens": tokens,
        "ignore_eos": True,
        **asked,
        **more,
    }


def said(text: str) -> list[Any]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]


def events_of(content: bytes) -> list[Any]:
    """The events of a stream that is well formed to its end."""
    *events, end, nothing = content.decode().split("\n\n")
    assert (end, nothing) == ("data: [DONE]", "")
    assert all(event.startswith("data: {") for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events]


def summary(content: bytes, same: tuple[str, ...] = SAME) -> dict[str, Any]:
    """What of a stream has to be the same, however often it broke.

    Args:
        same: Fields that are the same in all events.
    """
    events = events_of(content)
    assert [e for e in events if "error" in e] == []
    assert len({tuple(event[name] for name in same) for event in events}) == 1
    choices = [e["choices"][0] for e in events if e["choices"]]
    (usage,) = [e["usage"] for e in events if e.get("usage")]
    deltas = [c.get("delta", {"content": c.get("text")}) for c in choices]
    return {
        "text": "".join(d.get("content") or "" for d in deltas),
        "roles": sum("role" in d for d in deltas),
        "finish": [c["finish_reason"] for c in choices if c["finish_reason"]],
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "total_tokens": usage["total_tokens"],
    }
