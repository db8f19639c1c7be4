"""Chat requests of many kinds: users, prompts, conversations, sizes, and ways to write JSON.

Made up, and the same each time; no share in it is measured on anybody's traffic.
"""

from __future__ import annotations

import json
import random
from typing import Any

from benchmarks.gateway.traffic import SERVICE, USERS

SYSTEMS = (60, 200, 600, 2_000)
"""Characters of the system prompts, which many requests share."""
MESSAGE_MEDIAN, MESSAGE_SPREAD, MESSAGE_MAX = 140, 1.1, 5_000
"""Characters of a message: lognormal, with this standard deviation of the logarithm."""
TURNS = (0, 0, 0, 0, 0, 1, 1, 2, 4, 7)
"""Earlier turns of a conversation, each as likely."""
IN_OTHERS, SPACED, NAMED, WITH_TOOLS = 0.15, 0.25, 0.7, 0.1
"""Shares: texts that are not ASCII, JSON with spaces between fields, with `user`, with tools."""
_PLAIN = (
    "my card was charged twice yesterday and the second charge is not mine what can i do please "
    'show me how long a transfer takes to another bank \n\n- "total" 1,250.00 EUR {note} [1]'
)
_FOREIGN = "die Überweisung läuft übers Wochenende où est ma carte déjà 日本語 でも 大丈夫"


def mixed_request(number: int) -> bytes:
    """The request of this number."""
    dice = random.Random(number)
    words = (_FOREIGN if dice.random() < IN_OTHERS else _PLAIN).split(" ")
    which = dice.randrange(len(SYSTEMS))
    shared = _prose(random.Random(which), _PLAIN.split(" "), SYSTEMS[which])
    messages = [{"role": "system", "content": shared}]
    for _ in range(dice.choice(TURNS)):
        messages.append({"role": "user", "content": _message(dice, words)})
        messages.append({"role": "assistant", "content": _message(dice, words)})
    messages.append({"role": "user", "content": _message(dice, words)})
    request: dict[str, Any] = {"model": SERVICE, "messages": messages, "max_tokens": 64}
    if dice.random() < NAMED:
        request["user"] = f"user-{dice.randrange(USERS):04d}"
    if dice.random() < WITH_TOOLS:
        request["tools"] = [_tool(name) for name in ("find_transaction", "block_card")]
    separators = None if dice.random() < SPACED else (",", ":")
    return json.dumps(request, separators=separators, ensure_ascii=False).encode()


def _message(dice: random.Random, words: list[str]) -> str:
    size = MESSAGE_MEDIAN * dice.lognormvariate(0.0, MESSAGE_SPREAD)
    return _prose(dice, words, min(MESSAGE_MAX, int(size)))


def _prose(dice: random.Random, words: list[str], size: int) -> str:
    text = ""
    while len(text) <= size:
        text += dice.choice(words) + " "
    return text[: size + 1]


def _tool(name: str) -> dict[str, Any]:
    known = {"type": "string", "description": "As the customer says it."}
    schema = {"type": "object", "properties": {"card": known}, "required": ["card"]}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


MIX = [mixed_request(number) for number in range(240)]
