"""Other detectors on the same vectors, each in an environment of its own below build/."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmarks.monitoring import peer_runs
from benchmarks.monitoring.ours import HONEST_KINDS, Bench
from benchmarks.monitoring.streams import CHANGES, Rows
from benchmarks.monitoring.vectors import CACHE

from fairlead.stats.drift.clustering import nearest
from fairlead.stats.drift.reference import Reference, unit_rows

HONEST = 10_000
"""Honest requests that a peer sees of a stream: more would take hours of some."""
AFTER = 12_000


EVIDENTLY = ("evidently", "pandas<3")
"""It imports what pandas 3 has no more, and does not say so in its requirements."""


class Peer(NamedTuple):
    """A detector: how it is called, the packages that it needs, and how many streams it is given.

    `honest`: of each kind; `changed`: of each change.
    """

    title: str
    packages: tuple[str, ...]
    honest: int = 3
    changed: int = 5


PEERS = {
    "evidently-model": Peer("Evidently, domain classifier, windows of 1,000", EVIDENTLY),
    "evidently-mmd": Peer("Evidently, MMD, windows of 1,000", EVIDENTLY, 1, 3),
    "evidently-distance": Peer("Evidently, distance of means, windows of 1,000", EVIDENTLY),
    "nannyml": Peer("NannyML, reconstruction error, chunks of 250", ("nannyml", "statsmodels")),
    "alibi-cvm": Peer(
        "Alibi Detect, online Cramér-von Mises, set for one false alarm in 1,000",
        ("alibi-detect",),
        1,
        3,
    ),
    "river-adwin": Peer("river, ADWIN", ("river",)),
    "frouros-cusum": Peer("frouros, CUSUM", ("frouros",)),
    "psi": Peer("PSI above 0.2 on 64 clusters, windows of 1,000", ()),
}


def wanted(peer: str) -> dict[str, int]:
    """Runs by name of stream."""
    known = PEERS[peer]
    return {f"{peer}/honest/{kind}": known.honest for kind in HONEST_KINDS} | {
        f"{peer}/changed/{name}": known.changed for name in CHANGES
    }


def run(bench: Bench, name: str, number: int) -> dict[str, Any]:
    """Alarms (as requests seen by then) of a peer in one stream, and CPU microseconds a request.

    Raises OSError where the peer cannot be installed.
    """
    peer, kind, stream = name.split("/", 2)
    if kind == "honest":
        dealt, reference, rows = bench.honest_rows(stream, number)
        rows = rows[:HONEST]
    else:
        dealt, reference, rows = bench.changed_rows(stream, number)
    told = _given(bench, dealt.reference, reference, rows[:AFTER])
    if not PEERS[peer].packages:
        return peer_runs.timed(peer_runs.PEERS[peer], told)
    python = environment(peer)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream.npz"
        np.savez(path, **told)
        command = [str(python), str(Path(peer_runs.__file__)), peer, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{peer}: {done.stderr.strip().splitlines()[-1:]}")
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def _given(bench: Bench, known: Rows, reference: Reference, rows: Rows) -> dict[str, Any]:
    """Vectors of the reference and of the stream, and a score and a cluster of each.

    The reference's scores are those of its prompts that the clusters were not made of.
    """
    every = {"reference": unit_rows(bench.vectors[known]), "stream": unit_rows(bench.vectors[rows])}
    told: dict[str, Any] = dict(every)
    known_scores = reference.scores[0].astype(np.float64)
    scores = reference.novelty_scores(every["stream"])[0].astype(np.float64)
    usual = known_scores.mean(), known_scores.std()
    told["reference_scores"] = (known_scores - usual[0]) / usual[1]
    told["stream_scores"] = (scores - usual[0]) / usual[1]
    for name, vectors in every.items():
        told[f"{name}_cells"] = nearest(vectors, reference.cells)[0]
    return told


def environment(peer: str) -> Path:
    """The Python of the peer's environment, made if it is not there. OSError if that fails."""
    packages = PEERS[peer].packages
    folder = CACHE / "peers" / packages[0].partition("[")[0]
    python = folder / "bin" / "python"
    if (folder / ".ready").is_file():
        return python
    print(f"installing {' '.join(packages)} ...", file=sys.stderr, flush=True)
    uv = [sys.executable, "-m", "uv"]
    made = subprocess.run([*uv, "venv", "-q", "--clear", str(folder)], check=False)
    install = [*uv, "pip", "install", "-q", "--python", str(python), *packages]
    if made.returncode or subprocess.run(install, check=False).returncode:
        raise OSError(f"{' and '.join(packages)} cannot be installed")
    (folder / ".ready").touch()
    return python
