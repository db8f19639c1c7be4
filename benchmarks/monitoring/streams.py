"""The streams: honest ones of 50,000 requests, and ones that change after 2,000.

Each is a list of rows of one table of vectors. Banking77's training questions are dealt anew for
each stream, so that no question has two parts: a fifth (the same for all) is what embedders are
fitted to, two fifths are the reference, and two fifths are what comes live. Where a monitor gathers
a larger reference itself, all four fifths come for that, and that first fifth after it. The
reference of bursty streams is bursty as well: it is what the service saw before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from benchmarks.monitoring.texts import Texts
from numpy.typing import NDArray

from fairlead.stats.drift.reference import halves

Rows = NDArray[np.int64]
HONEST, BEFORE, AFTER, BURST = 50_000, 2_000, 10_000, 500
BURST_INTENTS, BURST_SHARE = 5, 0.5
SURGES = (
    "terminate_account", "pending_top_up", "Refund_not_showing_up", "passcode_forgotten",
    "exchange_rate", "compromised_card",
)  # fmt: skip


class Tables(NamedTuple):
    """Where each kind of text begins in the table of all vectors, and rows by intent.

    `train`: rows of the training questions that no embedder is fitted to, and `fitted` those that
    some are; `intents`: of each row.
    """

    starts: dict[str, int]
    sizes: dict[str, int]
    train: Rows
    fitted: Rows
    intents: Rows
    test_by_intent: dict[str, Rows]
    near_by_intent: list[Rows]

    def draw(self, kind: str, count: int, draw: np.random.Generator) -> Rows:
        """Texts of a kind, with replacement."""
        return self.starts[kind] + draw.integers(self.sizes[kind], size=count)


def tables(texts: Texts) -> Tables:
    """Of texts whose vectors lie one kind after the other."""
    starts, sizes, at = {}, {}, 0
    for kind, each in texts.lists().items():
        starts[kind], sizes[kind] = at, len(each)
        at += len(each)
    asked, near = np.array(texts.test_intents), np.array(texts.near_intents)
    names = sorted(set(texts.train_intents))
    return Tables(
        starts,
        sizes,
        np.setdiff1d(np.arange(sizes["train"]), texts.for_embedders()),
        np.array(texts.for_embedders()),
        np.searchsorted(names, texts.train_intents),
        {name: starts["test"] + np.flatnonzero(asked == name) for name in names},
        [starts["near"] + np.flatnonzero(near == name) for name in np.unique(near)],
    )


class Dealt(NamedTuple):
    """The training questions of one stream: rows of the reference in order, and what comes live."""

    reference: Rows
    live: Rows


def dealt(kind: str, table: Tables, draw: np.random.Generator, count: int | None = None) -> Dealt:
    """A fresh reference of so many questions, or of half of them; the other half comes live.

    Of a bursty one its two halves draw from different questions, as they repeat them.
    """
    rows = draw.permutation(table.train)
    known, live = rows[: len(rows) // 2][:count], rows[len(rows) // 2 :]
    if kind == "bursty":
        count = len(known)
        fitting, held = halves(count)
        ordered = np.empty(count, np.int64)
        ordered[fitting] = bursty(known[: count // 2], table, count, draw)[fitting]
        ordered[held] = bursty(known[count // 2 :], table, count, draw)[held]
        known = ordered
    return Dealt(known, live)


def usual(kind: str, table: Tables, count: int, draw: np.random.Generator) -> Rows:
    """So many training questions, as they come where nothing changes; with replacement."""
    if kind == "bursty":
        return bursty(table.train, table, count, draw)
    return draw.choice(table.train, count)


def honest(
    kind: str, live: Rows, table: Tables, draw: np.random.Generator, count: int = HONEST
) -> Rows:
    """A stream without a change: `iid`, `brief` or `bursty`."""
    if kind == "iid":
        return draw.choice(live, count)
    if kind == "brief":
        return table.draw("test", count, draw)
    return bursty(live, table, count, draw)


def bursty(pool: Rows, table: Tables, count: int, draw: np.random.Generator) -> Rows:
    """Of these questions; in each 500 requests, half are of five intents drawn anew."""
    intents = table.intents[pool]
    by_intent = [pool[intents == intent] for intent in np.unique(intents)]
    out = draw.choice(pool, count)
    offset = int(draw.integers(BURST))
    for start in range(-offset, count, BURST):
        rows = np.arange(max(start, 0), min(start + BURST, count))
        chosen = draw.choice(len(by_intent), BURST_INTENTS, replace=False)
        for row in rows[draw.random(len(rows)) < BURST_SHARE]:
            out[row] = draw.choice(by_intent[int(draw.choice(chosen))])
    return out


CHANGES = {
    "5 % out-of-scope": ("oos", 0.05),
    "10 % out-of-scope": ("oos", 0.10),
    "25 % out-of-scope": ("oos", 0.25),
    "10 % near-domain": ("near", 0.10),
    "10 % of one new topic": ("topic", 0.10),
    "25 % typos": ("typos", 0.25),
    "gradual, to 25 %": ("oos", 0.25),
    "surge of an intent": ("surge", 0.10),
    "label shift": ("shift", 1.0),
}
CAUSES = {name: "mix" if kind in ("surge", "shift") else "novelty"
          for name, (kind, _) in CHANGES.items()}  # fmt: skip


def changed(name: str, number: int, table: Tables, draw: np.random.Generator) -> Rows:
    """A stream that changes after its first 2,000 requests; `number` chooses its intent.

    Gradual: the share rises evenly over 2,000 requests. Label shift: each intent's share is
    multiplied by a factor drawn from an exponential distribution.
    """
    kind, share = CHANGES[name]
    out = table.draw("test", BEFORE + AFTER, draw)
    after = np.arange(AFTER)
    shares = share * np.minimum(1.0, after / 2_000) if name.startswith("gradual") else share
    new = after[draw.random(AFTER) < shares]
    if kind == "surge":
        rows = table.test_by_intent[SURGES[number % len(SURGES)]]
        out[BEFORE + new] = draw.choice(rows, len(new))
    elif kind == "topic":
        out[BEFORE + new] = draw.choice(table.near_by_intent[number % len(table.near_by_intent)],
                                        len(new))  # fmt: skip
    elif kind == "shift":
        groups = list(table.test_by_intent.values())
        weights = draw.exponential(size=len(groups))
        which = draw.choice(len(groups), AFTER, p=weights / weights.sum())
        out[BEFORE:] = [draw.choice(groups[one]) for one in which]
    else:
        out[BEFORE + new] = table.draw(kind, len(new), draw)
    return out
