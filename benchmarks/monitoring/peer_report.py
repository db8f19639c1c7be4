"""The comparison with peers, as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.kept import Runs
from benchmarks.monitoring import peers
from benchmarks.monitoring.ours import HONEST_KINDS
from benchmarks.monitoring.streams import BEFORE, CHANGES
from benchmarks.monitoring.tables import count, median_delay, table
from benchmarks.monitoring.vectors import SETUPS

DEFAULT = next(iter(SETUPS))


def lines(told: Runs, honest: Runs, changed: Runs) -> Iterator[str]:
    """The table of peers, and how much sooner fairlead is than the best of them."""
    yield "Peers have the same vectors and references, and their own defaults where they have any."
    yield "Alibi's test has to be told how often it may be wrong, and was told: once in 1,000"
    yield "requests, so it cannot be without a false alarm here. NannyML learns its limits from the"
    yield "chunks of its reference, of which there are six. Those that watch one number"
    yield "watch the distance to the nearest centroid. Honest: alarms in all, of so many"
    yield f"streams of {peers.HONEST:,} requests of each kind (fairlead's row: the first as many"
    yield "requests of its streams). Delays: medians from the change to the first alarm after it,"
    yield "whatever was alarmed before. CPU without the set-up, vectors given; megabytes of the"
    yield "whole process.\n"
    medians = {name: _of_peer(told, name) for name in peers.PEERS}
    rows = [_ours(honest, changed)]
    for name, peer in peers.PEERS.items():
        runs = [run for key, made in told.items() if key.startswith(f"{name}/") for run in made]
        if not runs:
            continue
        rows.append(
            [peer.title, _false(told, name), *(_said(medians[name][each]) for each in CHANGES),
             f"{statistics.median(run['us'] for run in runs):,.0f} µs",
             f"{max(run['setup_s'] for run in runs):,.1f} s",
             f"{max(run['mb'] for run in runs):,.0f} MB"]
        )  # fmt: skip
    heads = ("detector", "false alarms iid / brief / bursty", *CHANGES, "CPU", "set-up", "memory")
    yield from table(heads, rows)
    yield ""
    yield from _best(medians, told, changed)


def _best(medians: dict[str, dict[str, float | None]], told: Runs, changed: Runs) -> Iterator[str]:
    quiet = [name for name in peers.PEERS if _alarms(told, name, HONEST_KINDS) == 0]
    if not quiet and any(_alarms(told, name, HONEST_KINDS) is not None for name in peers.PEERS):
        yield "None of these peers was without a false alarm in these honest streams."
        return
    yield "Beside the best peer that had no false alarm in these honest streams (the goal is five"
    yield "times sooner):\n"
    yield from _beside(quiet, medians, changed)
    independent = HONEST_KINDS[:2]
    alike = [name for name in peers.PEERS if _alarms(told, name, independent) == 0]
    if alike == quiet:
        return
    yield "\nBeside the best that had none where requests are independent of each other (iid and"
    yield "brief), whatever it said of topics that come in bursts:\n"
    yield from _beside(alike, medians, changed)


def _beside(
    alike: list[str], medians: dict[str, dict[str, float | None]], changed: Runs
) -> Iterator[str]:
    rows = []
    for change in CHANGES:
        own = median_delay([run["delay"] for run in changed.get(f"{DEFAULT}/{change}", [])])
        known = {name: value for name in alike if (value := medians[name][change]) is not None}
        if own is None or not known:
            continue
        best = min(known, key=lambda name: known[name])
        is_found = known[best] < float("inf")
        rows.append(
            [change, count(own), peers.PEERS[best].title if is_found else "none finds it",
             count(known[best]),
             f"{known[best] / own:.1f} times" if is_found and own < float("inf") else ""]
        )  # fmt: skip
    yield from table(("change", "fairlead", "best of them", "its delay", "sooner by"), rows)


def _ours(honest: Runs, changed: Runs) -> list[str]:
    false, us = [], []
    for kind in HONEST_KINDS:
        made = honest.get(f"{DEFAULT}/{kind}", [])
        alarms = sum(at < peers.HONEST for run in made for at in run["alarms"])
        false.append(f"{alarms} in {len(made)}")
        us += [run["us"] for run in made]
    delays = (
        median_delay([run["delay"] for run in changed.get(f"{DEFAULT}/{name}", [])])
        for name in CHANGES
    )
    cost = f"{statistics.median(us):,.0f} µs" if us else "–"
    return ["**fairlead**", " / ".join(false), *(_said(each) for each in delays), cost, "", ""]


def _of_peer(told: Runs, peer: str) -> dict[str, float | None]:
    return {
        name: median_delay(
            [
                next((at - BEFORE for at in run["alarms"] if at > BEFORE), None)
                for run in told.get(f"{peer}/changed/{name}", [])
            ]
        )
        for name in CHANGES
    }


def _false(told: Runs, peer: str) -> str:
    made = [told.get(f"{peer}/honest/{kind}", []) for kind in HONEST_KINDS]
    return " / ".join(f"{sum(len(run['alarms']) for run in runs)} in {len(runs)}" for runs in made)


def _alarms(told: Runs, peer: str, kinds: Sequence[str]) -> int | None:
    """In honest streams of these kinds; None where one was not run."""
    made = [told.get(f"{peer}/honest/{kind}", []) for kind in kinds]
    return sum(len(run["alarms"]) for runs in made for run in runs) if all(made) else None


def _said(value: float | None) -> str:
    return "–" if value is None else count(value)
