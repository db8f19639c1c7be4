"""How fast the judge is, how soon it decides, and how often it is wrong.

    python benchmarks/judge.py            # a minute or two on one core

Rollouts are simulated (units with fixed failure rates, a 10 % canary); the judge is the one that
decides live rollouts. The table goes to benchmarks/results/judge.md.
"""

from __future__ import annotations

import math
import random
import statistics
import sys
import time
from pathlib import Path

from fairlead.stats.rae import BinaryRae, NonInferiorityRae

ALPHA, BETA, RHO = 0.01, 0.05, 0.10
ROLLOUTS = 200
HORIZON = 100_000
WORLDS = (
    ("pass 92 -> 90 %", 0.08, 0.10),
    ("pass 92 -> 87 %", 0.08, 0.13),
    ("error 0.5 -> 2 %", 0.005, 0.02),
)
RESULTS = Path(__file__).parent / "results"


def delay(champion: float, canary: float, seed: int) -> int | None:
    """Canary units until the rollback, looking every 50 units; None if there was none."""
    dice = random.Random(seed)
    test = BinaryRae(tol=0.0, alpha=ALPHA, prior_rate=champion, prior_units=2000)
    served = 0
    for number in range(HORIZON):
        is_canary = dice.random() < RHO
        served += is_canary
        rate = canary if is_canary else champion
        test.update(is_canary, RHO, float(dice.random() < rate))
        if number % 50 == 49 and test.log_e >= -_log(ALPHA):
            return served
    return None


def promoted(champion: float, canary: float, margin: float, units: int, seed: int) -> bool:
    """Whether a canary is promoted within so many units."""
    dice = random.Random(seed)
    test = NonInferiorityRae(margin=margin, prior_rate=champion, prior_units=2000)
    for number in range(units):
        is_canary = dice.random() < 0.5
        rate = canary if is_canary else champion
        test.update(is_canary, 0.5, float(dice.random() < rate))
        if number % 50 == 49 and test.log_e >= -_log(BETA):
            return True
    return False


def cost_us() -> float:
    """Microseconds for one unit in the rollback test."""
    dice = random.Random(1)
    units = [(dice.random() < RHO, float(dice.random() < 0.1)) for _ in range(20_000)]
    test = BinaryRae(tol=0.0, alpha=ALPHA, prior_rate=0.1, prior_units=2000)
    began = time.perf_counter()
    for is_canary, y in units:
        test.update(is_canary, RHO, y)
    return (time.perf_counter() - began) / len(units) * 1e6


def _log(x: float) -> float:
    return math.log(x)


def main() -> None:
    """Print the table and keep it."""
    count = ROLLOUTS // 10 if "--quick" in sys.argv else ROLLOUTS
    lines = [
        "# The judge",
        "",
        f"{count} simulated rollouts each, {RHO:.0%} canary, alpha {ALPHA:.0%}.",
        "",
        "| world | rolled back | median canary units |",
        "| --- | --: | --: |",
    ]
    for name, champion, canary in WORLDS:
        delays = [delay(champion, canary, seed) for seed in range(count)]
        found = [d for d in delays if d is not None]
        lines.append(f"| {name} | {len(found) / count:.1%} | {statistics.median(found):,.0f} |")
    alarms = sum(delay(0.08, 0.08, 1000 + seed) is not None for seed in range(count))
    wrong = sum(promoted(0.08, 0.11, 0.03, 20_000, 2000 + seed) for seed in range(count))
    lines += [
        f"| no change, over {HORIZON:,} units | {alarms / count:.1%} | |",
        "",
        f"Promoted although worse by exactly the margin: {wrong / count:.1%} (beta {BETA:.0%}).",
        f"Cost: {cost_us():.1f} µs a unit.",
    ]
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "judge.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
