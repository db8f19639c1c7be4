"""Shadow pairs against a split of the traffic, on the answers of real releases.

Rollouts are drawn from the questions of the test file, with replacement: a pair is a question with
both releases' outcomes on it; at a split, each question goes to one of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from benchmarks.rollout.banking import outcomes
from benchmarks.rollout.vector import Blocks, Floats
from benchmarks.rollout.worlds import (
    ALPHA,
    BETA,
    BLOCK,
    HISTORY,
    MARGIN,
    average,
    history,
    rollback,
)

from fairlead.stats.pairs import PairedRae
from fairlead.stats.rae import NonInferiorityRae

SEED = 1_700
MOST = 60_000


def measure(rollouts: int) -> list[dict[str, Any]]:
    """Canary requests to the verdict, by pair of releases and way."""
    real = {name: np.array(wrong, dtype=np.int64) for name, wrong in outcomes().items()}
    made = _simulated(0.08, lost=0.025, won=0.005)
    cases = [
        ("banking, B to A", real["b"], real["a"], "roll back"),
        ("banking, B to C", real["b"], real["c"], "roll back"),
        ("banking, A to B (better)", real["a"], real["b"], "promote"),
        ("simulated, pass 92 → 90 %, 3 % discordant", *made, "roll back"),
    ]
    return [
        _case(name, champion, canary, verdict, rollouts, SEED + number)
        for number, (name, champion, canary, verdict) in enumerate(cases)
    ]


def _simulated(rate: float, *, lost: float, won: float) -> tuple[np.ndarray, np.ndarray]:
    size = 10_000
    champion, canary = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    both = round((rate - won) * size)
    champion[: both + round(won * size)] = 1
    canary[:both] = 1
    canary[both + round(won * size) : both + round((won + lost) * size)] = 1
    return champion, canary


def _case(
    name: str, champion: np.ndarray, canary: np.ndarray, verdict: str, rollouts: int, seed: int
) -> dict[str, Any]:
    worse = verdict == "roll back"
    pairs = _pairs(champion, canary, worse, min(rollouts, 1_000), seed)
    split = _split(champion, canary, worse, rollouts, seed)
    return {
        "case": name,
        "verdict": verdict,
        "champion_wrong": float(champion.mean()),
        "canary_wrong": float(canary.mean()),
        "discordant": float((champion != canary).mean()),
        "pairs": float(np.mean(pairs)),
        "split": float(np.mean(split)),
        "ratio": float(np.mean(pairs) / np.mean(split)),
    }


def _pairs(
    champion: np.ndarray, canary: np.ndarray, worse: bool, rollouts: int, seed: int
) -> list[int]:
    """One at a time, by the judge's own code."""
    dice = np.random.default_rng([seed, 1])
    level = -math.log(ALPHA if worse else BETA)
    needed = []
    for _ in range(rollouts):
        test = PairedRae(gap=0.0 if worse else MARGIN, worse=worse)
        while test.log_e < level and test.pairs < MOST:
            for question in dice.integers(len(champion), size=BLOCK):
                test.update(float(champion[question]), float(canary[question]))
                if test.log_e >= level:
                    break
        needed.append(test.pairs)
    return needed


def _split(
    champion: np.ndarray, canary: np.ndarray, worse: bool, rollouts: int, seed: int
) -> Floats:
    """Half of the traffic to each."""
    dice = np.random.default_rng([seed, 2])
    p_b, p_c = float(champion.mean()), float(canary.mean())
    like = rollback() if worse else NonInferiorityRae(margin=MARGIN, prior_rate=0.1)
    test = Blocks(like, history(dice, rollouts, p_b), HISTORY)
    level = -math.log(ALPHA if worse else BETA)
    served, done = np.zeros(rollouts), np.full(rollouts, math.nan)
    for _ in range(2 * MOST // BLOCK):
        mine = dice.binomial(BLOCK, 0.5, rollouts)
        bad, other = dice.binomial(mine, p_c), dice.binomial(BLOCK - mine, p_b)
        test.update(0.5, [bad, mine - bad, other, BLOCK - mine - other])
        served += mine
        done = np.where(np.isnan(done) & (average([test]) >= level), served, done)
        if not np.isnan(done).any():
            break
    return np.where(np.isnan(done), served, done)
