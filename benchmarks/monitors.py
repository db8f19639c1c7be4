"""Standing tests of quality, bias and latency: false alarms, delays, and river on the same streams.

`make bench-monitors` writes benchmarks/results/monitors.md; `--quick` prints a short form of it.
`--bias` measures the built-in pairs and real answers alone. `--latency --seconds 100` measures that
part alone and goes on where it stopped; its figures are kept in
benchmarks/results/monitors-latency.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from fairlead.stats.intervals import clopper_pearson
from fairlead.stats.monitors.counterfactual import BiasTests
from fairlead.stats.monitors.rates import (
    Counts,
    RateWatch,
    known_reference,
    reference_of,
)
from fairlead.stats.monitors.segments import SegmentGap, gaps

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "monitors.md"
HONEST = 0.05
DROPS = (0.10, 0.15, 0.25)
BEFORE, AFTER_MOST = 1_000, 20_000
CONFIDENCE = 0.95
LATENCY = "## Latency: slower, or more to do\n"

Detector = Callable[[float], bool]
"""Takes an outcome, 1 being bad; true where it says that something has changed."""


class Size(NamedTuple):
    """How much is run: honest streams and their length, runs with a change, honest hours."""

    streams: int
    length: int
    runs: int
    hours: int


FULL, QUICK = Size(40, 50_000, 41, 10), Size(4, 5_000, 7, 2)


class Row(NamedTuple):
    """One line of a table: false alarms among streams, median delay by change."""

    name: str
    wrong: int
    streams: int
    delays: list[float]
    cpu_us: float


def outcomes(seed: int, rate: float, after: int = 0) -> Iterator[float]:
    """Bad ones are 1: `HONEST` of them at first, then `rate`; endless."""
    dice, n = random.Random(seed), 0
    while True:
        yield float(dice.random() < (rate if n >= after else HONEST))
        n += 1


def in_fives(seed: int, rate: float, after: int = 0) -> Iterator[float]:
    """The same, each five times: sessions whose requests share a fate."""
    for outcome in outcomes(seed, rate, after // 5):
        yield from (outcome,) * 5


def measured(
    name: str,
    make: Callable[[int], Detector],
    size: Size,
    stream: Callable[..., Iterator[float]] = outcomes,
) -> Row:
    """False alarms in honest streams, and delays after `BEFORE` honest outcomes."""
    begun, seen, wrong = time.process_time(), 0, 0
    for seed in range(size.streams):
        detector = make(seed)
        for outcome, _ in zip(stream(seed, HONEST), range(size.length), strict=False):
            seen += 1
            if detector(outcome):
                wrong += 1
                break
    cpu = (time.process_time() - begun) / seen * 1e6
    delays = [
        median(_delay(make(seed), stream(1_000 + seed, rate, BEFORE)) for seed in range(size.runs))
        for rate in DROPS
    ]
    return Row(name, wrong, size.streams, delays, cpu)


def _delay(detector: Detector, stream: Iterator[float]) -> float:
    """Outcomes from the change to the first alarm after it."""
    for n, outcome in enumerate(stream):
        if detector(outcome) and n >= BEFORE:
            return n + 1 - BEFORE
        if n >= BEFORE + AFTER_MOST:
            return math.inf
    raise AssertionError("the stream is endless")


def sampled(accepted: int) -> Callable[[int], Detector]:
    """Against a pass rate that was measured: by so many outcomes, another sample each time."""

    def make(seed: int) -> Detector:
        dice = random.Random(-1 - seed)
        bad = sum(dice.random() < HONEST for _ in range(accepted))
        return RateWatch(reference_of(Counts(bad, accepted))).update

    return make


def ours(size: Size) -> list[Row]:
    """Fairlead's detector with a known rate, and with measured ones."""
    return [
        measured("fairlead, rate known", lambda _: RateWatch(known_reference(HONEST)).update, size),
        measured("fairlead, accepted by 10,000 outcomes", sampled(10_000), size),
        measured("fairlead, accepted by 2,000 outcomes", sampled(2_000), size),
        measured(
            "fairlead, outcomes in fives, design effect 5",
            lambda _: RateWatch(known_reference(HONEST), design_effect=5.0).update,
            size,
            in_fives,
        ),
    ]


def rivers(size: Size) -> list[Row]:
    """River's detectors with their defaults; runs in river's own environment."""
    from river import drift
    from river.drift import binary

    def of(make: Callable[[], object]) -> Callable[[int], Detector]:
        def started(_: int) -> Detector:
            detector = make()

            def take(outcome: float) -> bool:
                detector.update(outcome)  # type: ignore[attr-defined]
                return bool(detector.drift_detected)  # type: ignore[attr-defined]

            return take

        return started

    peers = {"ADWIN": drift.ADWIN, "DDM": binary.DDM, "EDDM": binary.EDDM}
    peers["PageHinkley"] = drift.PageHinkley
    return [measured(f"river {name}", of(make), size) for name, make in peers.items()]


def quality_table(rows: Sequence[Row], size: Size) -> Iterator[str]:
    """The comparison on binary outcomes."""
    yield (
        "| detector | false alarms in honest streams | 95 % interval | "
        + " | ".join(f"95 → {100 * (1 - rate):.0f} %" for rate in DROPS)
        + " | CPU/outcome |"
    )
    yield "| --- | --: | --: |" + " --: |" * (len(DROPS) + 1)
    for row in rows:
        low, high = clopper_pearson(row.wrong, row.streams, CONFIDENCE)
        delays = " | ".join(f"{each:,.0f}" if each < math.inf else "never" for each in row.delays)
        yield (
            f"| {row.name} | {row.wrong} of {row.streams} | {low:.0%}–{high:.0%} | {delays} "
            f"| {row.cpu_us:.1f} µs |"
        )
    yield ""
    yield (
        f"{size.streams} streams of {size.length:,} outcomes with 5 % bad; median outcomes from "
        f"the change to the alarm, {size.runs} runs each, after {BEFORE:,} honest ones. After a "
        "false alarm of a peer before the change, its first one after the change counts."
    )


def bias_table(size: Size) -> Iterator[str]:
    """Counterfactual pairs and segments at alpha = 1 %."""
    yield "| test | false alarms | 95 % interval | 5 → 10 % | 5 → 8 % |"
    yield "| --- | --: | --: | --: | --: |"
    for attributes in (1, 5):
        wrong = sum(
            math.isfinite(_pairs(seed, HONEST, attributes, size.length))
            for seed in range(size.streams)
        )
        found = [
            median(_pairs(9_000 + seed, rate, attributes, 10**5) for seed in range(size.runs))
            for rate in (0.10, 0.08)
        ]
        name = f"pairs, {attributes} attribute" + "s" * (attributes > 1)
        yield _bias_row(name, wrong, size.streams, found)
    wrong = sum(math.isfinite(_segment(seed, HONEST, size.length)) for seed in range(size.streams))
    found = [
        median(_segment(9_000 + seed, rate, 10**5) for seed in range(size.runs))
        for rate in (0.10, 0.08)
    ]
    yield _bias_row("live segment of 30 % of the traffic, 3 strata", wrong, size.streams, found)
    yield ""
    yield (
        f"{size.streams} streams of {size.length:,} pairs (or requests) without a gap; median "
        f"pairs (or requests) to the alarm from the first on, {size.runs} runs each. With 5 "
        "attributes one of them has the gap, and its own pairs are counted."
    )


def _bias_row(name: str, wrong: int, streams: int, found: Sequence[float]) -> str:
    low, high = clopper_pearson(wrong, streams, CONFIDENCE)
    delays = " | ".join(f"{each:,.0f}" for each in found)
    return f"| {name} | {wrong} of {streams} | {low:.0%}–{high:.0%} | {delays} |"


def _pairs(seed: int, changed: float, attributes: int, most: int) -> float:
    dice = random.Random(seed)
    tests = BiasTests([str(k) for k in range(attributes)])
    for n in range(1, most + 1):
        difference = (dice.random() < changed) - (dice.random() < HONEST)
        tests.update("0", float(difference))
        if difference and tests.gaps:
            return n
    return math.inf


def _segment(seed: int, rate: float, most: int) -> float:
    dice, test = random.Random(seed), SegmentGap()
    for n in range(1, most + 1):
        member = dice.random() < 0.3
        bad = dice.random() < (rate if member else HONEST)
        test.update(str(n % 3), member, bad, at=float(n))
        if n % 40 == 0 and gaps({"segment": test}, 0.01):
            return n
    return math.inf


def peers_rows(size: Size) -> list[Row]:
    """River's rows, measured in an environment of its own; none where it cannot be installed."""
    from benchmarks.gateway.environments import Environments
    from benchmarks.gateway.processes import BenchmarkFailed

    environments = Environments()
    try:
        environments.prepare("river")
    except BenchmarkFailed as error:
        print(error, file=sys.stderr)
        return []
    python = environments.program("river", "python")
    command = [python, "-m", "benchmarks.monitors", "--river", *(["--quick"] * (size == QUICK))]
    found = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=found)
    return [Row(*row) for row in json.loads(answer.stdout)]


def report(size: Size) -> str:
    """The whole page."""
    # What the simulated queues need is not in river's environment.
    from benchmarks import monitors_pairs, monitors_real
    from benchmarks.kept import read
    from benchmarks.monitors_latency import PART, latency_table, measure, measured

    if size == FULL:
        measure(size.hours, math.inf)
    lines = [
        "# Standing tests: how often they are wrong, how soon they see\n",
        "`make bench-monitors` measures this, with fixed seeds. What is compared is explained in "
        "[the monitors' page](../../docs/monitors.md). Fairlead's run length to a false alarm is a "
        "million outcomes at least; river's detectors have their defaults.\n",
        "## Quality: a pass rate that drops\n",
        *quality_table([*ours(size), *peers_rows(size)], size),
        "\n## Bias: a gap in refusals\n",
        *bias_table(size),
        "\n" + monitors_pairs.HEAD,
        *monitors_pairs.table(size.runs),
        "\n" + monitors_real.HEAD,
        *monitors_real.table(size.runs),
        "\n" + LATENCY,
        *latency_table(read(PART) if size == FULL else measured(size.hours)),
    ]
    return "\n".join(lines) + "\n"


def only_latency(size: Size, seconds: float) -> None:
    """Go on with the part about latency, and put it where it is in the page."""
    from benchmarks.kept import read
    from benchmarks.monitors_latency import PART, latency_table, measure

    if not measure(size.hours, seconds):
        print("goes on with the next run")
        return
    page = RESULT.read_text(encoding="utf-8").partition(LATENCY)[0]
    lines = (LATENCY, *latency_table(read(PART)))
    RESULT.write_text(page + "\n".join(lines) + "\n", encoding="utf-8")


def only_bias(size: Size) -> None:
    """Measure the built-in pairs and real answers, and put them where they are in the page."""
    from benchmarks import monitors_pairs, monitors_real

    parts = (monitors_pairs.HEAD, *monitors_pairs.table(size.runs), "")
    more = (monitors_real.HEAD, *monitors_real.table(size.runs), "")
    lines = "\n".join((*parts, *more)) + "\n"
    if size == QUICK:
        print(lines)
        return
    page = RESULT.read_text(encoding="utf-8")
    before, _, latency = page.partition(LATENCY)
    before = before.partition(monitors_pairs.HEAD)[0]
    RESULT.write_text(before + lines + LATENCY + latency, encoding="utf-8")


def main() -> None:
    """Run all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and short streams; prints only")
    parser.add_argument("--latency", action="store_true", help="the part about latency alone")
    parser.add_argument("--bias", action="store_true", help="built-in pairs and real answers alone")
    parser.add_argument("--seconds", type=float, default=1e9, help="of --latency: go on so long")
    parser.add_argument("--river", action="store_true", help="river's rows alone, as JSON")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    if options.river:
        print(json.dumps(rivers(size)))
        return
    if options.bias:
        only_bias(size)
        return
    if options.latency:
        only_latency(size, options.seconds)
        return
    page = report(size)
    if options.quick:
        print(page)
    else:
        RESULT.write_text(page, encoding="utf-8")
        print(f"written: {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
