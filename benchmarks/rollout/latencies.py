"""Real latencies: a llama.cpp replica that comes under contention and out of it again.

    python -m benchmarks.rollout.latencies           # measures, writes latencies.json

One client asks release b of the banking example, one question after the other, while processes that
compute in a loop come and go. The sequence is kept in its order, in microseconds: the benchmark
assigns its requests to arms at random, anew for each rollout, so that both arms meet the same real
drift.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
LATENCIES = HERE / "latencies.json"
REQUESTS = 4_000
PHASE = 500
"""Requests between changes of the contention: none, one process, two, none ..."""

SEED = 1_800


def _busy() -> None:
    while True:
        sum(k * k for k in range(10_000))


def measure() -> None:
    """Ask, and write the file."""
    import sys

    example = HERE.parents[1] / "examples" / "banking"
    sys.path.insert(0, str(example))
    from catalogue import load_rows
    from evaluate import ask, open_engine

    rows = load_rows(example / "traffic.csv")
    engine = open_engine(example / "models" / "b.gguf", 1)
    for row in rows[:50]:
        ask(engine, row.text)
    taken: list[int] = []
    load: list[multiprocessing.Process] = []
    for number in range(REQUESTS):
        if number % PHASE == 0:
            for process in load:
                process.kill()
            load = [
                multiprocessing.Process(target=_busy, daemon=True)
                for _ in range(number // PHASE % 3)
            ]
            for process in load:
                process.start()
        began = time.perf_counter()
        ask(engine, rows[number % len(rows)].text)
        taken.append(round((time.perf_counter() - began) * 1e6))
    for process in load:
        process.kill()
    LATENCIES.write_text(json.dumps(taken) + "\n", encoding="utf-8")
    for k in range(0, REQUESTS, PHASE):
        part = np.array(taken[k : k + PHASE]) / 1e3
        print(f"{k:5}: median {np.median(part):.1f} ms, p99 {np.quantile(part, 0.99):.1f} ms")
    sys.stdout.flush()
    os._exit(0)  # taking a server of xllamacpp down can hang


def replayed(rollouts: int) -> list[dict[str, Any]]:
    """False rollbacks of an equal canary, and canary requests until a slower one is rolled back.

    The history is the sequence's first 1,000 requests; the rollout goes through the rest, again and
    again up to 30,000 requests.
    """
    from fairlead.stats.slower import SlowerRae

    sequence = json.loads(LATENCIES.read_text(encoding="utf-8"))
    past, live = sequence[:1_000], sequence[1_000:]
    out = []
    for name, factor, most in (
        ("equal", 1.0, 6_000),
        ("+10 %", 1.1, 30_000),
        ("+30 %", 1.3, 30_000),
    ):
        found, served = 0, []
        for number in range(rollouts):
            dice = np.random.default_rng([SEED, number, round(10 * factor)])
            test, canary = SlowerRae(history=past), 0
            arms = (dice.random(most) < 0.1).tolist()
            offset = int(dice.integers(len(live)))
            for k, arm in enumerate(arms):
                value = live[(offset + k) % len(live)]
                canary += arm
                test.update(arm, 0.1, value * factor if arm else value)
                if k % 50 == 49 and test.log_e >= math.log(100):
                    found += 1
                    served.append(canary)
                    break
        out.append(
            {
                "canary": name,
                "rollouts": rollouts,
                "rolled_back": found,
                "canary_requests": float(np.median(served)) if served else None,
            }
        )
    return out


if __name__ == "__main__":
    measure()
