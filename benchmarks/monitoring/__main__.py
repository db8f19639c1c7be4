"""Drift detection on real questions: false alarms, delays, causes and cost, beside others.

    python -m benchmarks.monitoring                            # all of it: hours on one core
    python -m benchmarks.monitoring --seconds 100              # goes on for so long, and stops
    python -m benchmarks.monitoring --part honest --setup words --seconds 100
    python -m benchmarks.monitoring --report                   # the page from what was measured
    python -m benchmarks.monitoring --quick                    # a few streams; fails beyond limits

Figures are kept in benchmarks/results as JSON, a file for each part, with one line per stream; a
run measures what is not there yet, with fixed seeds, and writes benchmarks/results/monitoring.md.
`--anew` forgets those of the part and setup first, as is right after a change of the method. The
data sets are read where FAIRLEAD_DATA says, and have to be there. MiniLM, of which the table of
word vectors is made, and the peers come from the package index, into build/; what cannot be had is
left out, and the page says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from benchmarks import kept
from benchmarks.monitoring import ours, peers, streams
from benchmarks.monitoring.report import report
from benchmarks.monitoring.texts import DATA, load
from benchmarks.monitoring.vectors import SETUPS

RESULT = kept.RESULTS / "monitoring.md"
FILES = "monitoring-"
PARTS = ("cost", "changed", "honest", "peers")
DEFAULT = next(iter(SETUPS))
HONEST, CHANGED = 50, 30
QUICK_DELAYS = {"10 % out-of-scope": 300, "surge of an intent": 3_000}


class Run:
    """What is measured, and for how long."""

    def __init__(self, setups: Sequence[str], honest: int, changed: int, seconds: float) -> None:
        self.texts = load()
        self.clock = kept.Clock(seconds)
        self._setups, self._honest, self._changed = setups, honest, changed
        self.bench: Callable[[str], ours.Bench] = lru_cache(maxsize=1)(
            lambda setup: ours.Bench(SETUPS[setup], self.texts)
        )

    def part(self, name: str) -> bool:
        """Go on with a part; whether there is nothing left of it."""
        if name == "peers":
            done = [self._peer(peer) for peer in peers.PEERS]
        else:
            done = [self._of(name, setup) for setup in self._setups]
        return all(done)

    def _of(self, part: str, setup: str) -> bool:
        wanted = {
            "cost": {} if SETUPS[setup].vectors == "minilm" else {setup: 3},
            "honest": {f"{setup}/{kind}": self._honest for kind in ours.HONEST_KINDS},
            "changed": {f"{setup}/{name}": self._changed for name in streams.CHANGES},
        }[part]
        return self._go_on(part, wanted, lambda name, n: self._measured(part, name, n))

    def _measured(self, part: str, name: str, number: int) -> Any:
        setup, _, stream = name.partition("/")
        if part == "cost":
            return ours.cost(SETUPS[setup], self.texts)
        bench = self.bench(setup)
        return bench.honest(stream, number) if part == "honest" else bench.changed(stream, number)

    def _peer(self, peer: str) -> bool:
        def measured(name: str, number: int) -> Any:
            return peers.run(self.bench(DEFAULT), name, number)

        return self._go_on("peers", peers.wanted(peer), measured)

    def _go_on(self, part: str, wanted: dict[str, int], run: Callable[[str, int], Any]) -> bool:
        try:
            return kept.go_on(FILES + part, wanted, run, self.clock)
        except OSError as error:
            print(f"left out: {error}", file=sys.stderr)
            return False


def forget(part: str, setups: Sequence[str]) -> None:
    """Drop what was measured of a part with these setups."""
    runs = kept.read(FILES + part)
    names = [name for name in runs if part == "peers" or name.partition("/")[0] in setups]
    kept.write(FILES + part, {name: made for name, made in runs.items() if name not in names})


def quick(run: Run) -> int:
    """Few streams, nothing kept; exit code 1 for a false alarm, or a change that is found late."""
    bench, wrong = run.bench(DEFAULT), []
    for kind in ours.HONEST_KINDS:
        told = bench.honest(kind, 0)
        print(kind, told, flush=True)
        wrong += [f"a false alarm in a stream of kind {kind}"] if told["alarms"] else []
    for name, most in QUICK_DELAYS.items():
        told = bench.changed(name, 0)
        print(name, told, flush=True)
        if told["delay"] is None or not 0 < told["delay"] <= most:
            wrong.append(f"{name}: delay {told['delay']}, at most {most} are allowed")
    for each in wrong:
        print(f"FAILED: {each}")
    return 1 if wrong else 0


def main() -> int:
    """Measure what is asked for, keep it, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--report", action="store_true", help="measure nothing, write the page")
    parser.add_argument("--anew", action="store_true", help="forget what was measured before")
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--setup", choices=list(SETUPS), action="append")
    parser.add_argument("--honest", type=int, default=HONEST, help="honest streams of each kind")
    parser.add_argument("--changed", type=int, default=CHANGED, help="streams of each change")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin nothing new after that")
    options = parser.parse_args()
    setups = options.setup or list(SETUPS)
    try:
        run = Run(setups, options.honest, options.changed, options.seconds)
    except FileNotFoundError as error:
        sys.exit(f"no data sets in {DATA}: {error}")
    if options.quick:
        return quick(run)
    for part in options.part or PARTS:
        if options.anew:
            forget(part, setups)
        is_whole = options.report or run.part(part)
        print(f"{part}: {'whole' if is_whole else 'goes on with the next run'}", flush=True)
    RESULT.write_text(report({part: kept.read(FILES + part) for part in PARTS}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
