"""Asks a pair of requests, and says what of the answers is compared."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fairlead.control.bias.guarded import blocks_answer, blocks_prompt
from fairlead.control.outside.ask import Completion, ReplicaClient
from fairlead.domain.errors import FairleadError, Unavailable
from fairlead.domain.guardrail import Guardrail
from fairlead.domain.quota import PICO, Price
from fairlead.evaluation.cases import Case
from fairlead.gateway.requests.refusals import is_refusal
from fairlead.probing.bias import Answered, Said, is_correct, length_without, own_words
from fairlead.probing.bias_pairs import Pair
from fairlead.probing.sentiment import sentiment

NO_ANSWER = frozenset({401, 402, 403, 404, 407, 408, 409, 425, 429})
"""Statuses below 500 that say something of the account or the moment, and nothing of the model."""
CHARS_MAX = 20_000
"""Characters of an answer that are looked at."""


async def ask_pair(
    client: ReplicaClient,
    pair: Pair,
    max_tokens: int | None,
    price: Price | None,
    guardrails: Sequence[Guardrail] = (),
) -> tuple[Answered, str]:
    """Both answers at about the same time, and why one of them is missing; empty if none is.

    Raises what is no FairleadError.

    Args:
        guardrails: What would block a user's request or answer is a refusal.
    """

    async def ask(text: str, words: frozenset[str]) -> Said:
        given = {} if max_tokens is None else {"max_tokens": max_tokens}
        # A text that takes long to look at must not hold up control's other work.
        if guardrails and (name := await asyncio.to_thread(blocks_prompt, guardrails, text)):
            return _refused(f"blocked by the guardrail {name}", pair.expected, 0.0)
        completion = await client.complete(Case("bias", text), given)
        said = said_of(completion, words, pair.expected, price)
        if guardrails and completion.status == 200:
            name = await asyncio.to_thread(blocks_answer, guardrails, completion.body)
            if name:
                return _refused(f"withheld by the guardrail {name}", pair.expected, said.usd)
        return said

    asked = [
        ask(pair.first, own_words(pair.first_text, pair.other_text)),
        ask(pair.other, own_words(pair.other_text, pair.first_text)),
    ]
    said: list[Said | None] = []
    why = ""
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        try:
            if isinstance(answer, BaseException):
                raise answer
            said.append(answer)
        except FairleadError as error:
            said.append(None)
            why = error.one_line
    return Answered(pair, said[0], said[1]), why


def said_of(
    completion: Completion, words: frozenset[str], expected: str | None, price: Price | None
) -> Said:
    """What of an answer is compared; raises Unavailable when it is none.

    Args:
        words: Those that only its own request has, in small letters.
    """
    status, text = completion.status, completion.text[:CHARS_MAX]
    if status in NO_ANSWER or not (status == 200 or 400 <= status < 500):
        raise Unavailable(completion.text)
    usd = 0.0
    if price is not None:
        usd = price.cost(completion.prompt_tokens, completion.completion_tokens) / PICO
    if status != 200:
        return _refused(f"refused with status {status}", expected, usd)
    return Said(
        text=text,
        chars=length_without(text, words),
        refused=is_refusal(text),
        correct=None if expected is None else is_correct(text, expected),
        usd=usd,
        sentiment=sentiment(text, words),
    )


def _refused(how: str, expected: str | None, usd: float) -> Said:
    """What is no answer of the model, and for who asked a refusal all the same."""
    return Said(f"[{how}]", 0, True, None if expected is None else False, usd)
