"""What is asked and answered: one chat request in many users' names, one completion, one key."""

from __future__ import annotations

import hashlib
import json

KEY = "sk-" + hashlib.sha256(b"a key for benchmarks").hexdigest()
"""LiteLLM starts only with a key of this form; the others take any."""
KEY_SHA256 = hashlib.sha256(KEY.encode()).hexdigest()
SERVICE = "bench"
USERS = 256
MARK = b"@"
"""What each event of a stream has once, and no head of an answer: events are counted by it."""
TIME_DIGITS = 20
_QUESTION = "My card was charged twice yesterday, and the second charge is not mine. What can I do?"


def chat_request(user: int, *, stream: bool = False) -> bytes:
    """A chat request of 210 to 273 bytes. Users differ, so that a sticky split has units, and so do
    lengths, so that no two heads need be the same."""
    request = {
        "model": SERVICE,
        "user": f"user-{user:04d}",
        "messages": [
            {"role": "system", "content": "You are a careful assistant of a bank."},
            {"role": "user", "content": _QUESTION[: 23 + user % 64]},
        ],
        "temperature": 0,
        "max_tokens": 64,
    }
    if stream:
        request |= {"stream": True}
    return json.dumps(request, separators=(",", ":")).encode()


COMPLETION = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": SERVICE,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Please open the list of transactions and choose Dispute.",
                },
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 31, "completion_tokens": 12, "total_tokens": 43},
    },
    separators=(",", ":"),
)


def event_of(model: str) -> tuple[bytes, bytes]:
    """A stream's event, before and after the `MARK` and the digits of time that are its content."""
    before = (
        'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,'
        f'"model":"{model}","choices":[{{"index":0,"delta":{{"content":"'
    )
    return before.encode(), b'"},"finish_reason":null}]}\n\n'
