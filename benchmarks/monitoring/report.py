"""The page of the monitoring benchmark, as Markdown, from what was kept."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.kept import Runs
from benchmarks.monitoring import goals, peer_report, peers
from benchmarks.monitoring.ours import HONEST_KINDS
from benchmarks.monitoring.streams import AFTER, BEFORE, CAUSES, CHANGES, HONEST
from benchmarks.monitoring.tables import count, median_delay, table
from benchmarks.monitoring.vectors import SETUPS

from fairlead.stats.intervals import clopper_pearson


def report(told: Mapping[str, Runs]) -> str:
    """The whole page; `told`: what was kept, by part."""
    lines = [
        "# Drift detection, measured",
        "",
        "Made by `make bench-monitoring` from the figures in `monitoring-*.json` beside it, one "
        "line per stream. Banking77's training questions are dealt anew for each stream: some "
        "are the reference, others come live. Streams "
        f"change after {BEFORE:,} test questions and go on for {AFTER:,}; honest ones have "
        f"{HONEST:,} requests without a change: *iid* (other training questions), *brief* (the "
        "test questions: other people, and intents in other shares), *bursty* (in each 500 "
        "requests half are of five intents; so is the reference). Out-of-scope and near-domain "
        "questions, and those of one new topic, are CLINC150's; typos and surges are made from the "
        "test questions. One "
        "setting for all: at least 10^6 requests to a false alarm on average.",
        "",
        "## Goals",
        "",
        *goals.lines(told),
        "",
        "Details, and a comparison with others (the goal is five times sooner), are below.",
        "",
        "## False alarms",
        "",
        *_honest(told["honest"]),
        "",
        "## Delay",
        "",
        *_delays(told["changed"]),
        "",
        "## Cause",
        "",
        *_causes(told["changed"]),
        "",
        "## Cost",
        "",
        *_cost(told["cost"], told["honest"]),
        "",
        "## Beside others",
        "",
        *_basis(told),
        "",
        *peer_report.lines(told["peers"], told["honest"], told["changed"]),
    ]
    return "\n".join(lines) + "\n"


def _measured(runs: Runs, names: Sequence[str]) -> list[str]:
    """The setups of which there is anything."""
    return [each for each in SETUPS if any(runs.get(f"{each}/{name}") for name in names)]


def _honest(runs: Runs) -> Iterator[str]:
    yield "The 95 % Clopper-Pearson limits are of streams with an alarm. The goal is at most one"
    yield "alarm per million requests; *at most*: as in the goals. *phi*: design effects of the mix"
    yield "and of novelty that were learnt from the reference (medians).\n"
    rows = []
    for setup in _measured(runs, HONEST_KINDS):
        for kind in HONEST_KINDS:
            streams = runs.get(f"{setup}/{kind}", [])
            if not streams:
                continue
            wrong = sum(bool(each["alarms"]) for each in streams)
            alarms = sum(len(each["alarms"]) for each in streams)
            low, high = clopper_pearson(wrong, len(streams), 0.95)
            phi = (statistics.median(each["phi"][n] for each in streams) for n in (0, 1))
            rows.append(
                [SETUPS[setup].title, kind, f"{wrong} of {len(streams)}",
                 f"{low:.1%} to {high:.1%}", f"{alarms / (len(streams) * HONEST / 1e6):.2f}",
                 f"{goals.at_most(alarms, len(streams) * HONEST):.1f}",
                 ", ".join(f"{each:.1f}" for each in phi)]
            )  # fmt: skip
    heads = ("vectors", "stream", "with an alarm", "limits", "alarms per million", "at most", "phi")
    yield from table(heads, rows)


def _delays(runs: Runs) -> Iterator[str]:
    setups = _measured(runs, list(CHANGES))
    yield "Median requests from the change to the alarm; in brackets the slowest, and how many"
    yield f"streams. *never*: not within {AFTER:,} requests. False alarms before the change are"
    yield "left out of the median and told.\n"
    rows = []
    for name in CHANGES:
        row = [name]
        for setup in setups:
            found = runs.get(f"{setup}/{name}", [])
            delays = [each["delay"] for each in found]
            false = sum(each is not None and each <= 0 for each in delays)
            median = median_delay(delays)
            if median is None:
                row.append("–")
                continue
            slowest = max(float("inf") if each is None else each for each in delays)
            said = f"{count(median)} ({count(slowest)}; {len(found)})"
            row.append(f"{said}, {false} false" if false else said)
        row.append(f"{goals.DELAYS[name]}" if name in goals.DELAYS else "")
        rows.append(row)
    yield from table(("change", *(SETUPS[each].title for each in setups), "goal"), rows)


def _causes(runs: Runs) -> Iterator[str]:
    yield "Of the true alarms. *Named*: of a surge, that the intent's cluster is among the three"
    yield "that grew most; of new content, that at least half of the texts of the first topic that"
    yield "is shown are really new. The lower bound of the share of new content (median, at the"
    yield "alarm and 1,000 requests later), and by how many requests the change is dated wrongly"
    yield "(median). Goals: the channel in 95 %, named in 90 %.\n"
    rows = []
    for setup in _measured(runs, list(CHANGES)):
        for name in CHANGES:
            found = [
                each
                for each in runs.get(f"{setup}/{name}", [])
                if each["delay"] is not None and each["delay"] > 0
            ]
            if not found:
                continue
            right = sum(each["channel"] == CAUSES[name] for each in found)
            named = [each["named"] for each in found if each["named"] is not None]
            at, later = (statistics.median(each["new"][n] for each in found) for n in (0, 1))
            off = statistics.median(abs(each["dated"]) for each in found)
            rows.append(
                [SETUPS[setup].title, name, f"{right} of {len(found)}",
                 f"{sum(named)} of {len(named)}" if named else "",
                 f"{at:.1%}, {later:.1%}", f"{off:,.0f}"]
            )  # fmt: skip
    heads = ("vectors", "change", "channel", "named", "new content at least", "dated off by")
    yield from table(heads, rows)


def _cost(cost: Runs, honest: Runs) -> Iterator[str]:
    yield "CPU of one text on one core, the best of three runs: of the whole monitor of a release's"
    yield "prompts (texts taken in by 32, vectors, detection, what is kept), of that the vector,"
    yield "and of the detector alone (median over honest streams). Memory: what the monitor and its"
    yield "vectors hold once it watches; the table of words is shared by all monitors of a process."
    yield "The goal is 100 µs and 100 MB.\n"
    rows = []
    for setup, known in SETUPS.items():
        made = cost.get(setup, [])
        us = [each["us"] for kind in HONEST_KINDS for each in honest.get(f"{setup}/{kind}", [])]
        if not made and not us:
            continue
        row = [known.title, *["–"] * 6]
        if us:
            row[3] = f"{statistics.median(us):.0f} µs"
        if made:
            best = min(made, key=lambda each: each["us"])
            row[1:3] = (f"{best[key]:.0f} µs" for key in ("us", "vector_us"))
            row[4:] = (
                f"{best['learn_s']:.1f} s", f"{best['mb']:.0f} MB", f"{best['state_mb']:.1f} MB",
            )  # fmt: skip
        rows.append(row)
    heads = ("vectors", "whole", "vector", "detector", "to learn", "memory", "stored state")
    yield from table(heads, rows)


def _basis(told: Mapping[str, Runs]) -> Iterator[str]:
    """How many streams and requests the comparison rests on, and what that leaves open."""
    titles = {name: peer.title for name, peer in peers.PEERS.items()}
    honest = {name: _streams(told["peers"], f"{name}/honest", HONEST_KINDS) for name in titles}
    changed = {name: _streams(told["peers"], f"{name}/changed", CHANGES) for name in titles}
    own, first = peer_report.DEFAULT, peers.HONEST
    alarms = {name: sum(len(run["alarms"]) for runs in honest[name] for run in runs)
              for name in titles}  # fmt: skip
    ours = _streams(told["honest"], own, HONEST_KINDS)
    false = sum(at < first for runs in ours for run in runs for at in run["alarms"])
    rows = [
        _row("**fairlead**", false, ours, _streams(told["changed"], own, CHANGES)),
        *(_row(titles[name], alarms[name], honest[name], changed[name]) for name in titles),
    ]
    yield f"Peers had fewer streams than fairlead. Of an honest one the first {first:,} requests"
    yield f"count; changed ones have {peers.AFTER:,}, the change after {BEFORE:,}. *At most*: the"
    yield "upper limit of false alarms in a million requests, as in the goals, of all kinds of"
    yield "honest streams together. No peer is shown to be as rarely wrong as fairlead is set to"
    yield "be (one in a million), not even one that had no false alarm: it had too few requests.\n"
    heads = (
        "detector", "honest streams of each kind", "requests of them", "false alarms", "at most",
        "streams of each change", "requests of them",
    )  # fmt: skip
    yield from table(heads, [row for row in rows if row])
    quiet = [name for name in titles if all(honest[name]) and not alarms[name]]
    silent = [name for name in quiet
              if not any(run["alarms"] for runs in changed[name] for run in runs)]  # fmt: skip
    if silent:
        yield "\nThese had no alarm in any stream, honest or changed:"
        yield "; ".join(titles[name] for name in silent) + "."
    if silent and silent == quiet:
        yield "All others here had false alarms. So the *best peer that had no false alarm* is"
        yield "one that never alarms, and to be sooner than that says nothing: it does not show"
        yield "that the goal is met."


def _streams(runs: Runs, prefix: str, names: Iterable[str]) -> list[list[Any]]:
    return [runs.get(f"{prefix}/{name}", []) for name in names]


def _row(
    title: str, alarms: int, honest: Sequence[list[Any]], changed: Sequence[list[Any]]
) -> list[str]:
    """Of a detector; empty where it had no honest streams."""
    requests = sum(map(len, honest)) * peers.HONEST
    if not requests:
        return []
    return [
        title, _range(honest), f"{requests:,}", f"{alarms:,}",
        f"{goals.at_most(alarms, requests):,.1f}", _range(changed),
        f"{sum(map(len, changed)) * peers.AFTER:,}",
    ]  # fmt: skip


def _range(runs: Sequence[list[Any]]) -> str:
    least, most = min(map(len, runs)), max(map(len, runs))
    return f"{most}" if least == most else f"{least} to {most}"
