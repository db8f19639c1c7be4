"""The report of a soak as Markdown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from benchmarks.gateway.quantiles import quantile

from support.soak import Answer, Soak, lives, median_slope_mb
from support.trend import Trend

ROWS = 12
LIFE_SKIP_S = 45.0
"""A worker has then taken up what it needs to serve."""


def markdown(soak: Soak, command: str, bystanders: float, *, compiled: bool) -> str:
    """The whole page.

    Args:
        bystanders: Share of the cores that other programs took meanwhile.
        compiled: Whether the gateway's request path was.
    """
    return "\n".join(_lines(soak, command, bystanders, compiled=compiled)) + "\n"


def _lines(soak: Soak, command: str, bystanders: float, *, compiled: bool) -> Iterator[str]:
    plan = soak.plan
    yield "# Soak\n"
    yield f"`{command}`, on {os.cpu_count()} cores, which the load shares. Other programs took"
    built = "compiled" if compiled else "not compiled"
    yield f"{bystanders:.0%} of them meanwhile. The gateway's request path was {built}.\n"
    yield "![Over time](soak.svg)\n"
    problems = soak.problems()
    yield "**Passed.**\n" if not problems else "**Not passed:**\n"
    yield from (f"- {problem}" for problem in problems)
    if problems:
        yield ""
    streams = sum(answer.stream for answer in soak.answers)
    asked = len(soak.answers) + len(soak.failed)
    yield "| | |"
    yield "| --- | --- |"
    yield f"| minutes | {plan.seconds / 60:g} |"
    yield f"| saturation | {soak.saturation:.0f} requests/s |"
    yield f"| load | {soak.rate:.1f} requests/s, {plan.streamed:.0%} streamed |"
    yield f"| requests | {asked:,} ({streams:,} right streams) |"
    yield f"| failed | {len(soak.failed)} |"
    yield f"| not sent, as too many were open | {soak.held_back:,} |"
    yield f"| replicas killed (SIGKILL) | {len(soak.kills)} |"
    yield f"| restarts of the gateway | {len(soak.restarts)} |"
    yield f"| streams cut by a kill and gone on with | {soak.continued} |"
    again = f"{soak.streams_again} streams, {soak.plain_again} plain"
    yield f"| took more than one replica | {again} |"
    yield f"| answers without a record; with two | {soak.unrecorded}; {soak.recorded_twice} |"
    yield (
        "\nEvery answer is compared with the only right one: its text, why it ended and its "
        "tokens; what differs has failed. A failed request is not sent again."
    )
    yield from _saturation(soak)
    yield from _growth(soak)
    yield from _latency(soak)


def _saturation(soak: Soak) -> Iterator[str]:
    yield "\n## Saturation\n"
    yield (
        "Higher and higher rates of the same requests, until more bring no more answers. It is "
        "that of the two llama.cpp replicas, which share the cores with clients and gateway: what "
        "the gateway alone can pass on is another matter ([gateway.md](gateway.md)).\n"
    )
    yield "| sent a second | answered a second |"
    yield "| --: | --: |"
    yield from (f"| {sent:.1f} | {answered:.1f} |" for sent, answered in soak.rates)


def _growth(soak: Soak) -> Iterator[str]:
    yield "\n## Memory and descriptors\n"
    yield (
        f"Growth after the first {soak.warm_up_s / 60:.1f} minutes: the slope of a line through 24 "
        "means, with its 95 % interval. RSS and descriptors are those of the role's largest "
        "process, PSS is the mean of its processes.\n"
    )
    yield "| process | RSS | growth, MB/h | PSS | growth, MB/h | descriptors | growth, 1/h |"
    yield "| --- | --: | --: | --: | --: | --: | --: |"
    for role in soak.roles():
        rss, pss, fds = (soak.trend(role, name) for name in ("rss_kb", "pss_kb", "fds"))
        cells = [*_memory(rss), *_memory(pss), *_count(fds)]
        yield f"| {role} | {' | '.join(cells)} |"
    yield f"\n{_of_workers(soak)}"


def _of_workers(soak: Soak) -> str:
    """How the memory of single gateway workers grows."""
    if not soak.plan.restart_every_s:
        return (
            "The gateway was not restarted: its workers were the same all the time, and its row is "
            "about these."
        )
    told = (
        f"A gateway worker is replaced every {soak.plan.restart_every_s:g} s, so the gateway's row "
        "says that new ones hold no more than earlier ones did. "
    )
    seen = lives(soak.samples, "gateway", LIFE_SKIP_S)
    slope = median_slope_mb(seen)
    if slope is None:
        told += f"Only {len(seen)} of them lived long enough to tell of growth within their lives. "
    else:
        middle, low, high = slope
        told += (
            f"Within the lives of the {len(seen)} gateway workers, after {LIFE_SKIP_S:.0f} s of "
            f"each: {middle:+.1f} MB/h in the median ({low:+.1f} to {high:+.1f}). "
        )
    return told + "`--restart-every 0` watches the same workers all the time."


def _memory(trend: Trend | None) -> list[str]:
    if trend is None:
        return ["", ""]
    slope, low, high = (each / 1024 for each in (trend.per_hour, trend.low, trend.high))
    return [f"{trend.level / 1024:.0f} MB", f"{slope:+.2f} ({low:+.2f} to {high:+.2f})"]


def _count(trend: Trend | None) -> list[str]:
    if trend is None:
        return ["", ""]
    return [
        f"{trend.level:.0f}",
        f"{trend.per_hour:+.1f} ({trend.low:+.1f} to {trend.high:+.1f})",
    ]


def _latency(soak: Soak) -> Iterator[str]:
    yield "\n## Latency\n"
    yield (
        "Milliseconds at the client, p50 / p99 / largest. The pause is the longest one within a "
        "stream.\n"
    )
    yield "| minutes | requests | plain | first event of a stream | pause |"
    yield "| --: | --: | --: | --: | --: |"
    length = soak.plan.seconds / ROWS
    for number in range(ROWS):
        begin = number * length
        here = [a for a in soak.answers if begin <= a.at < begin + length]
        yield _latency_row(f"{begin / 60:.1f}–{(begin + length) / 60:.1f}", here)
    yield _latency_row("all", soak.answers)


def _latency_row(name: str, answers: Sequence[Answer]) -> str:
    streams = [answer for answer in answers if answer.stream]
    cells = [
        _quantiles([answer.duration for answer in answers if not answer.stream]),
        _quantiles([answer.ttft for answer in streams]),
        _quantiles([answer.gap_max for answer in streams]),
    ]
    return f"| {name} | {len(answers):,} | {' | '.join(cells)} |"


def _quantiles(values: Sequence[float]) -> str:
    if not values:
        return ""
    ordered = sorted(values)
    return f"{quantile(ordered, 0.5):.0f} / {quantile(ordered, 0.99):.0f} / {ordered[-1]:.0f}"
