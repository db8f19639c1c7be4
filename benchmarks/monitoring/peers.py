"""Other detectors on the same streams: river's ADWIN, frouros' CUSUM, PSI on 64 clusters.

The first two watch the same score, the distance to the nearest centroid, in the reference's
standard deviations; they run in an environment of their own below the cache folder:

    python peers.py SCORES.npz          (a file of streams by name; writes JSON)
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("river", "frouros", "typing_extensions", "pandas")
PSI_WINDOW, PSI_LIMIT = 1_000, 0.2


def environment(cache: Path) -> Path:
    """The Python of the peers' environment, made if it is not there. OSError if that fails."""
    folder = cache / "peers"
    python = folder / "bin" / "python"
    there = [str(python), "-c", "import river.drift, frouros"]
    if not python.is_file() or subprocess.run(there, check=False).returncode:
        made = subprocess.run([sys.executable, "-m", "venv", str(folder)], check=False)
        pip = [str(python), "-m", "pip", "install", "-q", *PACKAGES]
        if made.returncode or subprocess.run(pip, check=False).returncode:
            raise OSError(f"cannot install {' and '.join(PACKAGES)}")
    return python


def psi(reference: Any, cells: Any) -> list[int]:
    """Ends of the windows whose population stability index is above 0.2."""
    count = int(reference.max()) + 1
    usual = (np.bincount(reference, minlength=count) + 0.5) / (len(reference) + 0.5 * count)
    alarms = []
    for end in range(PSI_WINDOW, len(cells) + 1, PSI_WINDOW):
        window = cells[end - PSI_WINDOW : end]
        now = (np.bincount(window, minlength=count) + 0.5) / (PSI_WINDOW + 0.5 * count)
        if float(((now - usual) * np.log(now / usual)).sum()) > PSI_LIMIT:
            alarms.append(end)
    return alarms


def _run(detector: Any, values: list[float], drifted: Any, update: Any) -> tuple[list[int], float]:
    alarms, begun = [], time.process_time()
    for at, value in enumerate(values, 1):
        update(detector, value)
        if drifted(detector):
            alarms.append(at)
            if hasattr(detector, "reset"):
                detector.reset()
    return alarms, (time.process_time() - begun) / len(values) * 1e6


def main() -> None:
    """Run both on each stream of the file."""
    from frouros.detectors.concept_drift import CUSUM, CUSUMConfig
    from river.drift import ADWIN

    told: dict[str, Any] = {}
    with np.load(sys.argv[1]) as kept:
        for name in kept.files:
            values = kept[name].tolist()
            told[name] = {
                "river ADWIN": _run(
                    ADWIN(), values, lambda d: d.drift_detected, lambda d, v: d.update(v)
                ),
                "frouros CUSUM": _run(
                    CUSUM(config=CUSUMConfig()),
                    values,
                    lambda d: d.drift,
                    lambda d, v: d.update(value=v),
                ),
            }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
