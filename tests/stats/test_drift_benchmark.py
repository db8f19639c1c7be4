"""The drift benchmark's streams have nothing of their reference, nor of what embedders learnt."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import kept
from benchmarks.monitoring import peer_runs
from benchmarks.monitoring.report import report
from benchmarks.monitoring.streams import Dealt, Tables, dealt, honest, tables
from benchmarks.monitoring.texts import Texts

from fairlead.stats.drift.reference import halves

INTENTS = [f"intent {n % 20}" for n in range(4_000)]
QUESTIONS = [f"question {n}" for n in range(4_000)]
TEXTS = Texts(
    QUESTIONS, INTENTS, QUESTIONS[:400], INTENTS[:400], ["oos"], ["near"], ["routing"], ["tpyo"]
)


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


def test_a_run_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    ran: list[tuple[str, int]] = []

    def run(name: str, number: int) -> int:
        ran.append((name, number))
        return 10 * number

    def go_on(wanted: dict[str, int], seconds: float) -> bool:
        return kept.go_on("honest", wanted, run, kept.Clock(seconds), tmp_path)

    assert not go_on({"a": 2, "b": 1}, 0.0)
    assert ran == []
    assert go_on({"a": 1, "b": 1}, 60.0)
    assert go_on({"a": 3, "b": 1}, 60.0)
    assert ran == [("a", 0), ("b", 0), ("a", 1), ("a", 2)]
    assert kept.read("honest", tmp_path) == {"a": [0, 10, 20], "b": [0]}
    assert kept.read("changed", tmp_path) == {}


def test_the_page_is_made_of_what_there_is() -> None:
    assert report({"cost": {}, "changed": {}, "honest": {}, "peers": {}})
    found = {"delay": 40, "channel": "novelty", "dated": 3, "new": [0.01, 0.05], "named": True}
    told = report(
        {
            "cost": {},
            "honest": {"words/iid": [{"alarms": [7], "us": 9.0, "phi": [1.0, 1.0]}] * 4},
            "changed": {"words/10 % out-of-scope": [found, {"delay": None}, {"delay": -5}, found]},
            "peers": {
                **{
                    f"psi/honest/{kind}": [{"alarms": [], "us": 1.0, "setup_s": 0.1, "mb": 90}]
                    for kind in ("iid", "brief", "bursty")
                },
                "psi/changed/10 % out-of-scope": [
                    {"alarms": [1_000, 2_400], "us": 1.0, "setup_s": 0.1, "mb": 90}
                ],
            },
        }
    )
    assert "| 4 of 4 | 39.8% to 100.0% | 20.00 |" in told
    assert "40 (never; 4), 1 false" in told
    assert (
        "| 10 % out-of-scope | 40 | PSI above 0.2 on 64 clusters, windows of 1,000 | 400 " in told
    )


def test_psi_alarms_for_windows_with_other_shares() -> None:
    draw = np.random.default_rng(1)
    same, other = draw.integers(10, size=2_000), draw.integers(5, size=1_000)
    given = {
        "reference_cells": draw.integers(10, size=4_000),
        "stream_cells": np.concatenate([same, other]),
        "stream": np.zeros(3_000),
    }
    assert peer_runs.timed(peer_runs.psi, given)["alarms"] == [3_000]
