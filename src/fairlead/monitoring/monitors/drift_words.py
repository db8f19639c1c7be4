"""An alarm of drift as a condition, in figures; what people wrote stands in its quotes alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fairlead.monitoring.baseline import Baseline, Compared
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import (
    QUOTE_CHARS_MAX,
    TEXT_CHARS_MAX,
    Condition,
    Figure,
    labels_of,
)
from fairlead.monitoring.monitors.interface import SeenText
from fairlead.monitoring.monitors.moments import moment
from fairlead.monitoring.monitors.topics import Cluster, Explanation


class About(NamedTuple):
    """Which texts of which release: `prompt` or `answer`; `segment` is empty for all users."""

    name: str
    service: str
    release: str
    text: str
    segment: str = ""

    def of(self, seen: SeenText) -> str:
        """The text that is watched."""
        return seen.prompt if self.text == "prompt" else seen.answer


CHANNELS = {"novelty": "new_content", "mix": "mix"}
"""The label `channel`, by the channel of the statistics."""


def condition_of(
    about: About, told: Explanation, began: float, learnt_since: float | None, now: float
) -> Condition:
    """What is wrong, since when, and what it is about.

    `learnt_since`: Unix time of the first text that it is held against; None if not known.
    """
    compared = Compared.ASKED if about.text == "prompt" else Compared.ANSWERED
    channel = CHANNELS[told.channel]
    says = _new_content if channel == "new_content" else _mix
    since = moment(began)
    whose = f"segment {about.segment}, " if about.segment else ""
    summary = f"{about.service}: {whose}since {since}, {says(about.text, told)}"
    return Condition(
        labels=labels_of(
            monitor=about.name,
            service=about.service,
            release=about.release,
            channel=channel,
            segment=about.segment,
        ),
        severity=Severity.TICKET,
        summary=summary[:TEXT_CHARS_MAX],
        evidence=tuple(_figures(about, told, began, now)),
        baseline=Baseline(compared, learnt_since),
        quotes=tuple(_quote(name, cluster)[:QUOTE_CHARS_MAX] for name, cluster in _topics(told)),
    )


def _topics(told: Explanation) -> Iterator[tuple[str, Cluster]]:
    """Each with its name: its words are people's own, and may be a name or a number of theirs."""
    yield from ((f"new topic {number}", each) for number, each in enumerate(told.new, 1))
    yield from ((f"topic {number}", each) for number, each in enumerate(told.grown, 1))


def _quote(name: str, cluster: Cluster) -> str:
    """`new topic 1: cable, bill ("pay my cable bill")`."""
    return f"{name}: {cluster.title}"


def _new_content(text: str, told: Explanation) -> str:
    share = told.cause.new_share
    much = f"at least {share:.1%} of {text}s are" if share >= 0.001 else f"more {text}s are"
    return f"{much} unlike those that it began with"


def _mix(text: str, told: Explanation) -> str:
    grown = "; ".join(
        f"topic {number} {cluster.usual_share:.1%} → {cluster.share:.1%}"
        for number, cluster in enumerate(told.grown, 1)
    )
    return f"{text}s come in other shares than at first" + (f": {grown}" if grown else "")


def _figures(about: About, told: Explanation, began: float, now: float) -> Iterator[Figure]:
    yield Figure("new content, at least", 100.0 * told.cause.new_share, "%")
    yield Figure(f"{about.text}s since the change, of the last 2,000", float(told.cause.requests))
    yield Figure("began", max(0.0, now - began) / 60.0, "min ago")
    for name, cluster in _topics(told):
        if cluster.kind == "grown":
            yield Figure(f"share of {name}", 100 * cluster.share, "%", 100 * cluster.usual_share)
        else:
            yield Figure(f"of what is new, {name}", 100 * cluster.share, "%")
