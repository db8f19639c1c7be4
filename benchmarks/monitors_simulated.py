"""The monitors of requests, as they are by default, on simulated traffic of one release.

    python -m benchmarks.monitors_simulated [--seconds 100]

Nine monitors see all requests of four replicas: bursts, waves of load, topics that change every 500
requests, failures that come in threes. Writes benchmarks/results/monitors-simulated.md; goes on
where it stopped, its figures are kept in benchmarks/results/monitors-simulated.json.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks.kept import RESULTS, Clock, Runs, go_on, read  # noqa: E402

from fairlead.monitoring.burning import Severity  # noqa: E402
from fairlead.monitoring.monitors.interface import Monitor, Seen  # noqa: E402
from fairlead.monitoring.monitors.keys import SlowKeyMonitor  # noqa: E402
from fairlead.monitoring.monitors.requests import build  # noqa: E402
from fairlead.monitoring.monitors.settings import MonitorSettings  # noqa: E402
from support.request_traffic import World, traffic  # noqa: E402

PART = "monitors-simulated"
PAGE = RESULTS / "monitors-simulated.md"
DIGEST = "sha256:" + 64 * "a"
HONEST_LENGTH, HONEST_STREAMS = 20_000, 20
BEFORE, AFTER, RUNS = 6_000, 6_000, 21
CHECK_EVERY, CHECK_EVERY_THEN = 100, 10
KEYS = ("a", "b")


class Change(NamedTuple):
    """What becomes of the traffic, and which monitor is to say so."""

    monitor: str
    world: World


HONEST = {
    "honest": World(keys=KEYS),
    "honest, failures in sixes": World(clump=6.0, keys=KEYS),
}
CHANGES = {
    "failures 0.5% → 5%": Change("errors", World(since=BEFORE, failing_then=0.05)),
    "refusals 2% → 10%": Change("refusals", World(since=BEFORE, refused_then=0.10)),
    "broken JSON 1% → 10% (of a third)": Change("format", World(since=BEFORE, malformed_then=0.10)),
    "answers 2× as long": Change("length", World(since=BEFORE, longer=2.0)),
    "guardrail hits 2% → 10%": Change("guardrails", World(since=BEFORE, hitting_then=0.10)),
    "all 1.5× as slow": Change("latency", World(since=BEFORE, slower=1.5)),
    "all 2× as slow": Change("latency", World(since=BEFORE, slower=2.0)),
    "one of four 2× as slow": Change(
        "slow_replica", World(since=BEFORE, slower=2.0, slow_replica=1)
    ),
}


class Honest(NamedTuple):
    """Who said something of a stream in which nothing happens, and what it took.

    Attributes:
        cpu_us: A request, for nine monitors together.
        key_us: A request, for `slow_key`.
        state_bytes: What is kept of the nine, as JSON.
    """

    wrong: list[str]
    cpu_us: float
    key_us: float
    state_bytes: int


class Found(NamedTuple):
    """Who was wrong before the change, who was first after it, and when the one that had to was.

    Attributes:
        wrong: Monitors with an alarm before the change; what they say after it does not count.
        others: Those that had one after it, and before the one that had to.
        after: Requests since the change until the monitor's first alarm; None for never.
    """

    wrong: list[str]
    others: list[str]
    after: int | None


def _alarms(monitors: Sequence[Monitor], seen: Seen) -> set[str]:
    """Monitors that say something that somebody is told; what is only to be known is left out."""
    at = seen.request.started_at
    return {
        one.monitor
        for monitor in monitors
        for one in monitor.conditions(at)
        if one.severity is not Severity.INFO
    }


def _honest(world: World, seed: int) -> Honest:
    requests = list(traffic(HONEST_LENGTH, seed, world=world))
    monitors, wrong = build("bank", DIGEST), set[str]()
    began = time.process_time()
    for number, seen in enumerate(requests, 1):
        for monitor in monitors:
            monitor.see(seen)
        if number % CHECK_EVERY == 0:
            wrong |= _alarms(monitors, seen)
    cpu_s = time.process_time() - began
    key = SlowKeyMonitor("bank", DIGEST, MonitorSettings())
    began = time.process_time()
    for seen in requests:
        key.see(seen)
    key_s = time.process_time() - began
    kept = len(json.dumps([monitor.state() for monitor in monitors]))
    per = 1e6 / len(requests)
    return Honest(sorted(wrong), cpu_s * per, key_s * per, kept)


def _found(change: Change, seed: int) -> Found:
    monitors, wrong, others = build("bank", DIGEST), set[str](), set[str]()
    requests = traffic(BEFORE + AFTER, 1_000 + seed, world=change.world)
    for since, seen in enumerate(requests, 1 - BEFORE):
        for monitor in monitors:
            monitor.see(seen)
        if since <= 0 and since % CHECK_EVERY == 0:
            wrong |= _alarms(monitors, seen)
        if since > 0 and since % CHECK_EVERY_THEN == 0:
            said = _alarms(monitors, seen) - wrong
            if change.monitor in said:
                return Found(sorted(wrong), sorted(others), since)
            others |= said
    return Found(sorted(wrong), sorted(others), None)


def _run(name: str, seed: int) -> Honest | Found:
    return _honest(HONEST[name], seed) if name in HONEST else _found(CHANGES[name], seed)


def _counted(words: Iterable[str]) -> str:
    counts = Counter(words)
    return ", ".join(f"`{who}` {n}" for who, n in sorted(counts.items())) or "nobody"


def _table(runs: Runs) -> Iterator[str]:
    honest = {name: [Honest(*one) for one in runs[name]] for name in HONEST}
    yield "| nothing happens | streams | with a false alarm | of |"
    yield "| --- | --: | --: | --- |"
    for name, streams in honest.items():
        whose = _counted(who for one in streams for who in one.wrong)
        yield f"| {name} | {len(streams)} | {sum(bool(one.wrong) for one in streams)} | {whose} |"
    yield f"\nStreams of {HONEST_LENGTH:,} requests.\n"
    yield "| what happens | monitor | found | median requests until then | spoke before it did |"
    yield "| --- | --- | --: | --: | --- |"
    for name, change in CHANGES.items():
        yield _row(name, change, [Found(*one) for one in runs[name]])
    first = next(iter(CHANGES))
    wrong = _counted(who for one in runs[first] for who in Found(*one).wrong)
    yield (
        f"\nThe change comes after {BEFORE:,} honest requests, of {RUNS} streams that are the same "
        f"in all rows; in them {wrong} had an alarm before it. It is looked for within {AFTER:,} "
        f"more, each {CHECK_EVERY_THEN} requests; a run in which it is not found counts as longer "
        "than that. What is only to be known (info) is no alarm. `quality` has nothing to see, "
        "since nobody gives feedback."
    )
    streams = honest["honest"]
    sizes = [one.state_bytes / 1e3 for one in streams]
    yield (
        f"\nNine monitors together take {median(one.cpu_us for one in streams):.0f} µs a request, "
        f"`slow_key` {median(one.key_us for one in streams):.0f}; their state is "
        f"{min(sizes):.0f} to {max(sizes):.0f} KB of JSON."
    )


def _row(name: str, change: Change, found: Sequence[Found]) -> str:
    delays = [math.inf if one.after is None else one.after for one in found]
    middle = median(delays)
    said = f"{middle:,.0f}" if middle < math.inf else f"over {AFTER:,}"
    others = _counted(who for one in found for who in one.others)
    count = f"{sum(one < math.inf for one in delays)} of {len(found)}"
    return f"| {name} | `{change.monitor}` | {count} | {said} | {others} |"


def main() -> None:
    """Go on, and write the page when all is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1e9, help="go on for so long")
    given = parser.parse_args()
    wanted = dict.fromkeys(HONEST, HONEST_STREAMS) | dict.fromkeys(CHANGES, RUNS)
    if not go_on(PART, wanted, _run, Clock(given.seconds)):
        print("goes on with the next run")
        return
    lines = [
        "# Monitors of requests on simulated traffic\n",
        "`python -m benchmarks.monitors_simulated` measures this, with fixed seeds: one release "
        "with four replicas (`tests/support/request_traffic.py`), the nine monitors of requests as "
        "they are by default, which is one false alarm in a million requests where these are "
        "independent. Here they are not: bursts, waves of load, topics that change every 500 "
        "requests, failures in threes.\n",
        *_table(read(PART)),
    ]
    text = "\n".join(lines) + "\n"
    PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
