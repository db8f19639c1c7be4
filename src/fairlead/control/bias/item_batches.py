"""Asks a release a few items of a published bias benchmark, and scores all that it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from fairlead.control.bias.items import ItemRefused, ask_item, value_of
from fairlead.control.bias.likelihood import NoLikelihoods
from fairlead.control.outside.ask import ReplicaClient
from fairlead.domain.errors import FairleadError
from fairlead.domain.quota import Price
from fairlead.evaluation.cases import Case
from fairlead.evaluation.stereotypes import Benchmark, scores_of
from fairlead.probing.tracked_model import UNREAD, Tracked, Value
from fairlead.stats.monitors.stereotypes import ALL

CONCURRENCY = 4


class ItemValue(NamedTuple):
    """Which option was chosen, or UNREAD, and what it cost."""

    item: int
    value: int
    usd: float


class Batch(NamedTuple):
    """The answers to the first items of what was asked, and why there are no more; empty if all.

    Attributes:
        is_forever: The release cannot be asked at all.
        lost_usd: What later answers have cost, which are not kept.
        others: Whether other items of the batch were answered than the one that was not.
    """

    answers: list[ItemValue]
    why: str
    is_forever: bool
    lost_usd: float = 0.0
    others: bool = False


async def ask_items(
    client: ReplicaClient,
    benchmark: Benchmark,
    cases: Sequence[Case],
    items: Sequence[int],
    price: Price | None,
    *,
    gives_up: bool = False,
) -> Batch:
    """The answers to these items, up to the first that has none; raises what is no FairleadError.

    A request that the release refuses is answered, by nothing that can be read.

    Args:
        gives_up: The first item has had no answer so often that none is waited for any more.
    """
    turns = asyncio.Semaphore(CONCURRENCY)

    async def one(item: int) -> ItemValue:
        async with turns:
            case = cases[item]
            try:
                said = await ask_item(client, benchmark, case, price)
            except ItemRefused:
                return ItemValue(item, UNREAD, 0.0)
            value = value_of(benchmark, case, said.score, said.answer)
            return ItemValue(item, UNREAD if value is None else value, said.usd)

    found = await asyncio.gather(*(one(item) for item in items), return_exceptions=True)
    answers: list[ItemValue] = []
    why, is_forever, lost_usd = "", False, 0.0
    others = any(isinstance(each, ItemValue) for each in found)
    if gives_up and isinstance(found[0], FairleadError) and (others or len(found) == 1):
        found[0] = ItemValue(items[0], UNREAD, 0.0)
    for each in found:
        if isinstance(each, ItemValue):
            if not why:
                answers.append(each)
            else:
                lost_usd += each.usd
        elif isinstance(each, NoLikelihoods):
            why, is_forever = str(each), True
        elif isinstance(each, FairleadError):
            why = why or each.one_line
        else:
            raise each
    return Batch(answers, why, is_forever, lost_usd, others)


def values_of(cases: Sequence[Case], tracked: Tracked) -> tuple[Value, ...]:
    """The release's scores over all categories, by its latest answers."""
    answers = [
        (case, value)
        for case, value in zip(cases, tracked.answers, strict=True)
        if value is not None and value != UNREAD
    ]
    return tuple(
        Value(each.measure, each.value, each.low, each.high, each.n, each.clusters)
        for each in scores_of(tracked.benchmark, answers)
        if each.category == ALL
    )
