"""What each function of the request path costs, and what it comes to: no sockets, one process."""

from __future__ import annotations

import gc
import logging
import statistics
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path

from benchmarks.gateway import features
from benchmarks.gateway.environments import platform_line
from benchmarks.gateway.functions import functions
from benchmarks.gateway.mix import MIX
from benchmarks.gateway.report import table
from benchmarks.gateway.traffic import USERS, chat_request
from benchmarks.gateway.whole import event_us, plain_us

REPEATS = 7
SAMPLE_S = 0.03


def markdown() -> str:
    """Measure everything; the table as text."""
    empty = _time(lambda: None)
    rows = [_row("an empty call (in each of those below)", empty)]
    rows += [_row(f"`{name}`", _time(call)) for name, call in functions()]
    whole = [_row(name, values) for name, values in _whole()]
    return "\n".join(
        [
            "# The request path, microseconds of processor time per call",
            "",
            "    make bench-gateway ARGS=--micro",
            "",
            f"Without sockets, not compiled, on {platform_line()}; {REPEATS} times each. "
            "The smallest is what the code costs; the median is also what else the machine did.",
            "",
            f"Where nothing else is said, one request of {len(chat_request(0))} bytes is asked "
            f"again and again, which is the best case. _The mix_ are {len(MIX)} requests of "
            f"{_sizes()}, from {USERS} users, with and without earlier turns, tools, spaces in "
            "JSON and letters beyond ASCII (`benchmarks/gateway/mix.py`). It is made up.",
            "",
            table(["function", "smallest", "median"], rows),
            "",
            "A whole worker between transports that are no sockets: parser, keys, split, routing, "
            "record to a spool on disk, metrics, answer.",
            "",
            table(["", "smallest", "median"], whole),
            "",
            "What each feature costs a plain request: two such workers that differ in it alone, "
            f"each turn asked all requests of the mix once, {features.PAIRS} pairs of turns. The "
            "first six are part of the figures above.",
            "",
            _features(),
            "",
        ]
    )


def write(results: Path) -> None:
    """Print the table and keep it."""
    text = markdown()
    sys.stdout.write(text)
    results.mkdir(exist_ok=True)
    (results / "gateway-micro.md").write_text(text, encoding="utf-8")


def _row(name: str, values: list[float]) -> list[str]:
    return [name, f"{min(values):.2f}", f"{statistics.median(values):.2f}"]


def _time(call: Callable[[], object]) -> list[float]:
    """Microseconds of processor time per call, measured some times."""
    timer = timeit.Timer(call, timer=time.process_time)
    number = 1
    while (took := timer.timeit(number)) < SAMPLE_S / 4:
        number *= 4
    number = max(1, round(number * SAMPLE_S / took))
    return [took / number * 1e6 for took in timer.repeat(REPEATS, number)]


def _sizes() -> str:
    sizes = sorted(len(body) for body in MIX)
    return f"{sizes[0]:,} to {sizes[-1]:,} bytes (median {sizes[len(sizes) // 2]:,})"


def _features() -> str:
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
        return features.markdown(Path(folder))


def _whole() -> list[tuple[str, list[float]]]:
    cases: list[tuple[str, Callable[[Path], float]]] = [
        (
            "a plain request, one at a time",
            lambda folder: plain_us(folder, clients=1, requests=3000),
        ),
        (
            "a plain request, 64 at a time (records of a turn are written together)",
            lambda folder: plain_us(folder, clients=64, requests=100),
        ),
        (
            "a plain request of the mix, 64 at a time",
            lambda folder: plain_us(folder, clients=64, requests=100, bodies=MIX),
        ),
        (
            "an event of a stream, 100 to a request, 64 streams at a time",
            lambda folder: event_us(folder, clients=64, requests=2, events=100),
        ),
    ]
    results: list[tuple[str, list[float]]] = []
    logging.getLogger("fairlead.gateway").setLevel(logging.ERROR)  # Control is down, as meant.
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
        for name, case in cases:
            values = []
            for number in range(REPEATS):
                gc.collect()
                values.append(case(Path(folder) / f"{len(results)}-{number}"))
            results.append((name, values))
    return results
