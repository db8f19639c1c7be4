"""The report of honest traffic as Markdown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fairlead.control.bias.telling import BiasView
from fairlead.control.bias.tracking_views import TrackedView
from fairlead.control.watching.watch_views import AlertView, MonitorView

WORDS_MAX = 300


@dataclass
class Honest:
    """What was asked, and what was told.

    Attributes:
        asked: Requests by service; `failed` are those without a whole answer, but for what a
            guardrail has `stopped`.
        load: Processor time of users and providers, as a share of one core.
        about: More that is said of it.
        alerts: Every alert that fired at any time, by fingerprint, as it was seen last, with the
            seconds after the begin at which it was seen first.
        fault: What was made wrong on purpose, and when; empty for nothing.
    """

    seconds: float
    shapes: Mapping[str, str]
    asked: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    stopped: dict[str, int] = field(default_factory=dict)
    conversations: dict[str, int] = field(default_factory=dict)
    held_back: int = 0
    load: float = 0.0
    about: Sequence[str] = ()
    alerts: dict[str, tuple[float, AlertView]] = field(default_factory=dict)
    monitors: Sequence[MonitorView] = ()
    pairs: Sequence[BiasView] = ()
    scores: Sequence[TrackedView] = ()
    fault: str = ""

    def problems(self) -> list[str]:
        """All that is not as it has to be; empty when the check has passed."""
        found = [f"an alert: {alert.summary}" for _, alert in self.alerts.values()]
        found += [
            f"{service}: {count} requests without a whole answer"
            for service, count in self.failed.items()
            if count
        ]
        found += [f"{name}: nobody has asked it" for name, count in self.asked.items() if not count]
        found += [
            f"{one.service}: monitor {one.monitor} did not see: {one.trouble}"
            for one in self.monitors
            if one.trouble
        ]
        found += [
            f"{one.service}: scores by {one.benchmark} are {one.state}: {one.failure}{one.trouble}"
            for one in self.scores
            if one.state in ("missing", "failing") or one.trouble
        ]
        if not self.monitors:
            found.append("no monitor has looked: nothing was tried")
        return found


def markdown(honest: Honest, command: str, bystanders: float) -> str:
    """The whole page.

    Args:
        bystanders: Share of the cores that other programs took meanwhile.
    """
    return "\n".join(_lines(honest, command, bystanders)) + "\n"


def _lines(honest: Honest, command: str, bystanders: float) -> Iterator[str]:
    yield "# Honest traffic\n"
    yield f"`{command}`, on {os.cpu_count()} cores, which the load shares. Other programs took"
    yield f"{bystanders:.0%} of them meanwhile. `fairlead up` with two workers and all monitors,"
    yield "under traffic in which nothing is wrong, however uneven it is: each alert is a false"
    yield "one.\n"
    if honest.fault:
        yield f"**With a fault, made on purpose: {honest.fault}.**\n"
    problems = honest.problems()
    yield "**Passed.**\n" if not problems else "**Not passed:**\n"
    yield from (f"- {problem[:WORDS_MAX]}" for problem in problems)
    if problems:
        yield ""
    columns = "conversations | requests | blocked by a guardrail | without a whole answer"
    yield f"| service | traffic | {columns} |"
    yield "| --- | --- | --: | --: | --: | --: |"
    for service, count in honest.asked.items():
        of = (honest.conversations, honest.stopped, honest.failed)
        begun, stopped, failed = (each.get(service, 0) for each in of)
        shape = honest.shapes[service]
        yield f"| {service} | {shape} | {begun:,} | {count:,} | {stopped:,} | {failed:,} |"
    yield f"\n{honest.seconds / 60:g} minutes; {honest.held_back} requests were not sent, as too"
    yield f"many were open. Users and providers took {honest.load:.0%} of one core.\n"
    for said in honest.about:
        yield f"{said}\n"
    yield "## Alerts\n"
    yield from _alerts(honest)
    yield "\n## What each monitor looked at\n"
    yield "Requests that it has seen of the release that serves, and how far it is.\n"
    yield "| service | monitor | requests | standing |"
    yield "| --- | --- | --: | --- |"
    for one in honest.monitors:
        standing = f"{one.standing}{'; ' if one.trouble else ''}{one.trouble}"
        vectors = f"; by {one.vectors}" if one.vectors else ""
        yield f"| {one.service} | {one.monitor} | {one.requests:,} | {_cell(standing)}{vectors} |"
    yield from _biases(honest)


def _biases(honest: Honest) -> Iterator[str]:
    yield "\n## Pairs and published items asked\n"
    yield "Of each score, how many answers were compared with the accepted ones, and its evidence"
    yield "that it is worse, as a share of what an alarm needs.\n"
    yield "| service | asked by | standing | asked | measures |"
    yield "| --- | --- | --- | --: | --- |"
    for pair in honest.pairs:
        yield f"| {pair.service} | pairs | {pair.state} | {pair.sent_in_all} | |"
    for one in honest.scores:
        measures = ", ".join(
            f"{each.measure} {each.compared}: {each.evidence / each.evidence_at:.2g}"
            for each in one.measures
        )
        yield (
            f"| {one.service} | {one.benchmark} | {one.state}, {len(one.runs)} runs "
            f"| {one.sent_in_all} | {measures} |"
        )


def _alerts(honest: Honest) -> Iterator[str]:
    if not honest.alerts:
        yield "None."
        return
    yield "| after | service | monitor | severity | what | evidence |"
    yield "| --: | --- | --- | --- | --- | --- |"
    for at, one in sorted(honest.alerts.values(), key=lambda each: each[0]):
        figures = ", ".join(f"{f.name} {f.value:.4g}{f.unit}" for f in one.evidence)
        yield (
            f"| {at / 60:.1f} min | {one.service or '-'} | {one.monitor} | {one.severity} "
            f"| {_cell(one.summary)} | {_cell(figures)} |"
        )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")[:WORDS_MAX]
