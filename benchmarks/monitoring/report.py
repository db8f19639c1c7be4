"""The report of the monitoring benchmark, as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.monitoring.streams import BEFORE, CAUSES, CHANGES, HONEST
from benchmarks.monitoring.vectors import TITLES

from fairlead.stats.intervals import clopper_pearson

GOALS = {"10 % out-of-scope": 60, "surge of an intent": 500}


def report(told: Mapping[str, Any]) -> str:
    """The whole page."""
    made = told["embedders"]
    lines = [
        "# Drift detection, measured",
        "",
        "Made by `make bench-monitoring`. The reference is two fifths of Banking77's training "
        "questions, dealt anew for each stream; streams "
        f"change after {BEFORE:,} test questions, honest ones have {HONEST:,} requests without a "
        "change: *iid* (two other fifths of the training questions), *brief* (the test questions: "
        "other people, and intents in other shares), *bursty* (in each 500 requests half are of "
        "five intents; so is "
        "the reference). Out-of-scope and near-domain questions are CLINC150's. One setting for "
        "all: at least 10^6 requests to a false alarm on average.",
        *(f"\nLeft out: {each}." for each in told["left_out"]),
        "",
        "## False alarms",
        "",
        *_honest(made),
        "",
        "## Delay",
        "",
        *_delays(made),
        "",
        "## Cause",
        "",
        *_causes(made),
        "",
        "## Cost",
        "",
        *_cost(made),
        "",
        "## Beside others",
        "",
        *_peers(made),
    ]
    return "\n".join(lines) + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "| --- |" + " --: |" * (len(heads) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _honest(made: Mapping[str, Any]) -> Iterator[str]:
    yield "Streams with an alarm, of those that were run; all alarms per million requests; the"
    yield "95 % Clopper-Pearson limits are of streams with an alarm. The goal is at most one per"
    yield "million requests; to show it takes some 60 streams of each kind without any alarm.\n"
    yield "Each stream has a reference of its own, of questions that neither the embedder was"
    yield "fitted to nor come in the stream.\n"
    rows = []
    for kind, one in made.items():
        for stream, each in one["honest"].items():
            if not each["streams"]:
                continue
            low, high = clopper_pearson(each["alarmed"], each["streams"], 0.95)
            requests = each["streams"] * HONEST / 1e6
            rows.append(
                [TITLES[kind], stream, f"{each['alarmed']} of {each['streams']}",
                 f"{each['alarms'] / requests:.2f}", f"{low:.1%} to {high:.1%}"]
            )  # fmt: skip
    heads = ("vectors", "stream", "with an alarm", "alarms per million", "limits of streams")
    yield from _table(heads, rows)


def _delays(made: Mapping[str, Any]) -> Iterator[str]:
    counts = {len(one["changed"][name]) for one in made.values() for name in CHANGES}
    yield f"Median requests from the change to the alarm ({_range(counts)} streams of each kind; in"
    yield "brackets the slowest). *never*: not within 10,000 requests. An alarm before the change"
    yield "counts as false and is listed with a minus.\n"
    rows = []
    for name in CHANGES:
        row = [name]
        for one in made.values():
            delays = [each["delay"] for each in one["changed"][name]]
            row.append(f"{_count(statistics.median(delays))} ({_count(max(delays))})")
        goal = GOALS.get(name)
        rows.append([*row, "" if goal is None else f"{goal}"])
    yield from _table(("change", *(TITLES[kind] for kind in made), "goal"), rows)


def _causes(made: Mapping[str, Any]) -> Iterator[str]:
    yield "Of the alarms: which name the right channel, and which of the surges have the intent's"
    yield "cluster among the first three. The lower bound of the share of new content (median, at"
    yield "the alarm and about 1,000 requests later), and by how many requests the change is dated"
    yield "wrongly (median).\n"
    rows = []
    for kind, one in made.items():
        for name, runs in one["changed"].items():
            found = [each for each in runs if 0 < each["delay"] < float("inf")]
            if not found:
                continue
            right = sum(each["channel"] == CAUSES[name] for each in found)
            named = [each["topic_named"] for each in found if each["topic_named"] is not None]
            at, later = (
                statistics.median(each[key] for each in found)
                for key in ("new_share", "new_share_later")
            )
            off = statistics.median(abs(each["dated"]) for each in found)
            rows.append(
                [TITLES[kind], name, f"{right} of {len(found)}",
                 f"{sum(named)} of {len(named)}" if named else "",
                 f"{at:.1%}, {later:.1%}", f"{off:,.0f}"]
            )  # fmt: skip
    heads = ("vectors", "change", "channel", "cluster", "new content at least", "dated off by")
    yield from _table(heads, rows)


def _cost(made: Mapping[str, Any]) -> Iterator[str]:
    yield "CPU of one request on one core: of the monitor (vectors given), of the vector, and both."
    yield "Bytes: what the reference holds; a static table has 2 bytes per number beside it, mapped"
    yield "into memory once for all services. *phi*: design effects of the mix and of novelty that"
    yield "were learnt from the iid reference, then those from the bursty one.\n"
    rows = []
    for kind, one in made.items():
        times = [each["us"] for each in one["honest"].values() if each["streams"]]
        if not times:
            continue
        us = statistics.median(times)
        vector = 1e6 / one["rate"] if one["rate"] else None
        rows.append(
            [TITLES[kind], f"{us:.0f} µs", "–" if vector is None else f"{vector:.0f} µs",
             "–" if vector is None else f"{us + vector:.0f} µs",
             "–" if vector is None else f"{one['rate']:,.0f}", f"{one['bytes'] / 1e6:.1f} MB",
             ", ".join(f"{phi:.1f}" for phi in (*one["phi"]["iid"], *one["phi"]["bursty"]))]
        )  # fmt: skip
    heads = ("vectors", "monitor", "vector", "both", "texts per core-second", "reference", "phi")
    yield from _table(heads, rows)


def _peers(made: Mapping[str, Any]) -> Iterator[str]:
    yield "With their defaults. ADWIN and CUSUM watch the distance to the nearest centroid, PSI"
    yield "the shares of the 64 clusters. Honest: alarms per stream of 50,000. Delays are medians,"
    yield "from the change to the first alarm after it, whatever was alarmed before. Evidently,"
    yield "NannyML and Alibi Detect are not in this benchmark yet.\n"
    rows = []
    for kind, one in made.items():
        told = one.get("peers")
        if not told:
            continue
        for peer in next(iter(told.values())):
            false = [
                f"{statistics.mean(len(each[peer][0]) for each in picked):.1f}"
                for stream in ("iid", "brief", "bursty")
                if (picked := [v for k, v in told.items() if k.startswith(f"honest/{stream}/")])
            ]
            delays = []
            for name in CHANGES:
                runs = [v[peer][0] for k, v in told.items() if k.startswith(f"changed/{name}/")]
                first = [
                    next((at - BEFORE for at in run if at > BEFORE), float("inf")) for run in runs
                ]
                delays.append(_count(statistics.median(first)))
            rows.append([TITLES[kind], peer, " / ".join(false), *delays])
    if not rows:
        yield "Not run."
        return
    heads = ("vectors", "detector", "false alarms iid / brief / bursty", *CHANGES)
    yield from _table(heads, rows)


def _count(value: float) -> str:
    return f"{value:,.0f}" if value < float("inf") else "never"


def _range(counts: set[int]) -> str:
    least, most = min(counts), max(counts)
    return f"{least}" if least == most else f"{least} to {most}"
