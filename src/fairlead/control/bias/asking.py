"""Asks a pair of requests, and says what of the answers is compared."""

from __future__ import annotations

import asyncio

from fairlead.control.outside.ask import Completion, ReplicaClient
from fairlead.domain.errors import FairleadError, Unavailable
from fairlead.domain.quota import PICO, Price
from fairlead.evaluation.cases import Case
from fairlead.gateway.requests.refusals import is_refusal
from fairlead.probing.bias import Answered, Said, is_correct, length_without, own_words
from fairlead.probing.bias_pairs import Pair

NO_ANSWER = frozenset({401, 402, 403, 404, 407, 408, 409, 425, 429})
"""Statuses below 500 that say something of the account or the moment, and nothing of the model."""
CHARS_MAX = 20_000
"""Characters of an answer that are looked at."""


async def ask_pair(
    client: ReplicaClient, pair: Pair, max_tokens: int | None, price: Price | None
) -> tuple[Answered, str]:
    """Both answers at about the same time, and why one of them is missing; empty if none is.

    Raises what is no FairleadError.
    """
    given = {} if max_tokens is None else {"max_tokens": max_tokens}
    asked = [client.complete(Case("bias", text), given) for text in (pair.first, pair.other)]
    completions = await asyncio.gather(*asked, return_exceptions=True)
    texts = (pair.first_text, pair.other_text), (pair.other_text, pair.first_text)
    said: list[Said | None] = []
    why = ""
    for completion, (own, other) in zip(completions, texts, strict=True):
        try:
            if isinstance(completion, BaseException):
                raise completion
            said.append(said_of(completion, own_words(own, other), pair.expected, price))
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
        correct = None if expected is None else False
        return Said(f"[refused with status {status}]", 0, True, correct, usd)
    return Said(
        text=text,
        chars=length_without(text, words),
        refused=is_refusal(text),
        correct=None if expected is None else is_correct(text, expected),
        usd=usd,
    )
