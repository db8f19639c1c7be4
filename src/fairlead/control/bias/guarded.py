"""What the guardrails of a release do to what it is asked beside its users' requests.

The looks are the gateway's own, so that an answer is what a user would have got. Nothing of it is
counted as a hit: these are no users' requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec

from fairlead.domain.guardrail import Guardrail, On
from fairlead.gateway.guardrails.said import answered
from fairlead.gateway.guardrails.watching import Answer, Hits, Looks, prompt_looks


def blocks_prompt(guardrails: Iterable[Guardrail], text: str) -> str:
    """Name of the guardrail that does not let this request pass; empty if all do."""
    own = _on("prompt", guardrails)
    if not own:
        return ""
    body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    return _blocking(_hits(prompt_looks(own, body)))


def blocks_answer(guardrails: Iterable[Guardrail], body: bytes) -> str:
    """Name of the guardrail that withholds this answer; empty if none does.

    Args:
        body: As the engine gave it.
    """
    own = _on("answer", guardrails)
    if not own:
        return ""
    answer = Answer(own)
    try:
        said = answered(body)
    except msgspec.DecodeError:
        return _blocking(answer.unread())
    return _blocking(_hits(answer.looks(said, is_last=True)))


def _on(on: On, guardrails: Iterable[Guardrail]) -> tuple[Guardrail, ...]:
    return tuple(guardrail for guardrail in guardrails if guardrail.on == on)


def _hits(looks: Looks) -> Hits:
    """All that is hit."""
    hits: Hits = []
    while True:
        try:
            hits += next(looks)
        except StopIteration as end:
            return [*hits, *end.value]


def _blocking(hits: Hits) -> str:
    return next((guardrail.name for guardrail in hits if guardrail.action == "block"), "")
