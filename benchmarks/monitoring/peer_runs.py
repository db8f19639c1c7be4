"""Runs one peer on one stream, with its defaults; imports nothing of fairlead.

python peer_runs.py PEER STREAM.npz          (writes JSON)

ADWIN, CUSUM and the Cramér-von Mises test watch the distance to the nearest centroid, in the
reference's standard deviations.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

WINDOW, PSI_LIMIT = 1_000, 0.2
CHUNK = 250
"""Of NannyML, which learns from its reference's chunks how much they vary: of 1,500 prompts it has
six of these, and of larger ones too few (in windows of 1,000 it takes each for drift)."""
RUN_LENGTH = 1_000
"""Requests to a false alarm for Alibi's online test: what its default set-up is good for."""

Given = Mapping[str, Any]


def timed(detector: Any, given: Given) -> dict[str, Any]:
    """Alarms, CPU seconds to set up, CPU microseconds per request, megabytes of the process."""
    begun = time.process_time()
    watch = detector(given)
    ready = time.process_time()
    alarms = list(watch())
    done = time.process_time()
    return {
        "alarms": alarms,
        "us": round((done - ready) / len(given["stream"]) * 1e6, 1),
        "setup_s": round(ready - begun, 2),
        "mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }


def _windows(given: Given, name: str = "stream") -> Iterator[tuple[int, Any]]:
    rows = given[name]
    for end in range(WINDOW, len(rows) + 1, WINDOW):
        yield end, rows[end - WINDOW : end]


def psi(given: Given) -> Callable[[], Iterator[int]]:
    """The population stability index of the clusters' shares."""
    cells = given["reference_cells"]
    count = int(max(cells.max(), given["stream_cells"].max())) + 1
    usual = (np.bincount(cells, minlength=count) + 0.5) / (len(cells) + 0.5 * count)

    def watch() -> Iterator[int]:
        for end, window in _windows(given, "stream_cells"):
            now = (np.bincount(window, minlength=count) + 0.5) / (WINDOW + 0.5 * count)
            if float(((now - usual) * np.log(now / usual)).sum()) > PSI_LIMIT:
                yield end

    return watch


def _evidently(name: str) -> Any:
    def detector(given: Given) -> Callable[[], Iterator[int]]:
        import pandas as pd
        from evidently.legacy.metrics.data_drift import embedding_drift_methods as methods

        compare = getattr(methods, name)()
        usual = pd.DataFrame(given["reference"])

        def watch() -> Iterator[int]:
            for end, window in _windows(given):
                if compare(current_emb=pd.DataFrame(window), reference_emb=usual)[1]:
                    yield end

        return watch

    return detector


def _nannyml(given: Given) -> Callable[[], Iterator[int]]:
    os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
    import nannyml
    import pandas as pd

    names = [f"v{n}" for n in range(given["reference"].shape[1])]
    calculator = nannyml.DataReconstructionDriftCalculator(column_names=names, chunk_size=CHUNK)
    calculator.fit(pd.DataFrame(given["reference"], columns=names))

    def watch() -> Iterator[int]:
        rows = pd.DataFrame(given["stream"], columns=names)
        found = calculator.calculate(rows).filter(period="analysis").to_df()
        alerts = found["reconstruction_error"]["alert"].to_list()
        ends = (found["chunk"]["end_index"] + 1).to_list()
        yield from (int(end) for end, is_alert in zip(ends, alerts, strict=True) if is_alert)

    return watch


def _alibi(given: Given) -> Callable[[], Iterator[int]]:
    from alibi_detect.cd import CVMDriftOnline

    usual = np.asarray(given["reference_scores"], np.float32)
    made = CVMDriftOnline(usual, ert=RUN_LENGTH, window_sizes=[50, 200], verbose=False)

    def watch() -> Iterator[int]:
        for at, value in enumerate(given["stream_scores"].tolist(), 1):
            if made.predict(value)["data"]["is_drift"]:
                yield at
                made.reset_state()

    return watch


def _adwin(given: Given) -> Callable[[], Iterator[int]]:
    from river.drift import ADWIN

    made = ADWIN()

    def watch() -> Iterator[int]:
        for at, value in enumerate(given["stream_scores"].tolist(), 1):
            made.update(value)
            if made.drift_detected:
                yield at

    return watch


def _cusum(given: Given) -> Callable[[], Iterator[int]]:
    from frouros.detectors.concept_drift import CUSUM, CUSUMConfig

    made = CUSUM(config=CUSUMConfig())

    def watch() -> Iterator[int]:
        for at, value in enumerate(given["stream_scores"].tolist(), 1):
            made.update(value=value)
            if made.drift:
                yield at
                made.reset()

    return watch


PEERS: dict[str, Any] = {
    "evidently-model": _evidently("model"),
    "evidently-mmd": _evidently("mmd"),
    "evidently-distance": _evidently("distance"),
    "nannyml": _nannyml,
    "alibi-cvm": _alibi,
    "river-adwin": _adwin,
    "frouros-cusum": _cusum,
    "psi": psi,
}


def main() -> None:
    """Run the peer on the stream of the file."""
    with np.load(sys.argv[2]) as kept:
        given = {name: kept[name] for name in kept.files}
    print(json.dumps(timed(PEERS[sys.argv[1]], given)))


if __name__ == "__main__":
    main()
