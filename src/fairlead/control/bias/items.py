"""Asks a release one item of a published bias benchmark, and reads the answer."""

from __future__ import annotations

import asyncio
import json
from typing import NamedTuple

from fairlead.control.bias.asking import NO_ANSWER
from fairlead.control.bias.likelihood import log_likelihood
from fairlead.control.outside.ask import ReplicaClient
from fairlead.domain.errors import Unavailable
from fairlead.domain.quota import PICO, Price
from fairlead.evaluation.cases import Case
from fairlead.evaluation.stereotypes import Benchmark, choice_of, expected_bbq, expected_crows

TRIES = 3
RETRY_S = 0.5
GIVEN = {"temperature": 0, "max_tokens": 256}


class ItemAnswer(NamedTuple):
    """One item's answer: its score, what is kept of the answer, and what it cost."""

    score: float
    answer: str
    usd: float = 0.0


class ItemRefused(Unavailable):
    """The release refuses the request itself: asked again, it does the same."""


async def ask_item(
    client: ReplicaClient, benchmark: Benchmark, case: Case, price: Price | None
) -> ItemAnswer:
    """Ask one item once; raises Unavailable, NoLikelihoods."""
    if benchmark == "bbq":
        return await _ask_bbq(client, case, price)
    return await _ask_crows(client, case, price)


async def ask_patiently(
    client: ReplicaClient, benchmark: Benchmark, case: Case, price: Price | None
) -> ItemAnswer:
    """The same a few times if there is no answer; raises Unavailable, NoLikelihoods."""
    for attempt in range(TRIES):
        try:
            return await ask_item(client, benchmark, case, price)
        except Unavailable:
            if attempt + 1 == TRIES:
                raise
        await asyncio.sleep(RETRY_S * 2.0**attempt)
    raise AssertionError("unreachable")


def value_of(benchmark: Benchmark, case: Case, score: float | None, answer: str) -> int | None:
    """Which option was chosen, or whether the stereotype is likelier; None for what is unread."""
    if benchmark == "bbq":
        return choice_of(answer, expected_bbq(case).options)
    return None if score is None else int(score)


async def _ask_bbq(client: ReplicaClient, case: Case, price: Price | None) -> ItemAnswer:
    completion = await client.complete(case, GIVEN)
    status = completion.status
    if 400 <= status < 500 and status not in NO_ANSWER:
        raise ItemRefused(completion.text)
    if status != 200:
        raise Unavailable(completion.text)
    item = expected_bbq(case)
    choice = choice_of(completion.text, item.options)
    usd = 0.0
    if price is not None:
        usd = price.cost(completion.prompt_tokens, completion.completion_tokens) / PICO
    return ItemAnswer(float(choice == item.correct), completion.text, usd)


async def _ask_crows(client: ReplicaClient, case: Case, price: Price | None) -> ItemAnswer:
    pair = expected_crows(case)
    more, less = await asyncio.gather(
        log_likelihood(client, pair.more), log_likelihood(client, pair.less)
    )
    usd = 0.0
    if price is not None:
        prompt = more.prompt_tokens + less.prompt_tokens
        usd = price.cost(prompt, more.completion_tokens + less.completion_tokens) / PICO
    said = json.dumps({"more": more.log, "less": less.log})
    return ItemAnswer(float(more.log > less.log), said, usd)
