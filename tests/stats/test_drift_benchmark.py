"""The drift benchmark's streams have nothing of their reference, nor of what embedders learnt."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.monitoring.streams import Dealt, Tables, dealt, honest, tables
from benchmarks.monitoring.texts import Texts

from fairlead.stats.drift.reference import halves

INTENTS = [f"intent {n % 20}" for n in range(4_000)]
QUESTIONS = [f"question {n}" for n in range(4_000)]
TEXTS = Texts(QUESTIONS, INTENTS, QUESTIONS[:400], INTENTS[:400], ["oos"], ["near"], ["routing"], ["tpyo"])


def of(kind: str, seed: int) -> tuple[Tables, Dealt]:
    table = tables(TEXTS)
    return table, dealt(kind, table, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", ["iid", "bursty"])
def test_no_question_has_two_parts(kind: str) -> None:
    table, made = of(kind, 1)
    live = set(honest(kind, made.live, table, np.random.default_rng(2), count=3_000).tolist())
    known, learnt = set(made.reference.tolist()), set(TEXTS.for_embedders())
    assert not live & known
    assert not learnt & (live | known)
    fitting, held = (set(made.reference[half].tolist()) for half in halves(len(made.reference)))
    assert not fitting & held
    assert len(made.reference) >= 1_000


def test_each_stream_has_a_reference_of_its_own() -> None:
    first, second = (set(of("iid", seed)[1].reference.tolist()) for seed in (1, 2))
    assert 0.3 * len(first) < len(first & second) < 0.7 * len(first)


def test_half_of_a_block_is_of_five_intents() -> None:
    table, made = of("bursty", 3)
    rows = honest("bursty", made.live, table, np.random.default_rng(4), count=3_000)
    intents = table.intents[rows]
    largest = [
        np.sort(np.bincount(intents[at : at + 250]))[-5:].sum() for at in range(0, 3_000, 250)
    ]
    usual = table.intents[honest("iid", made.live, table, np.random.default_rng(4), count=250)]
    assert np.median(largest) > 1.2 * np.sort(np.bincount(usual))[-5:].sum()
