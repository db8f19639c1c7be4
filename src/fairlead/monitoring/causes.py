"""What changed near an alert: candidates for its cause, the nearest first.

Nearness has two parts. In place: a change of the same replica is nearer than one of the release,
that one nearer than one of the service, and all of them nearer than one that names nothing of the
alert. In time: minutes before the alert was first seen. A step away in place counts as much as
being four times as long ago, so that a deployment of an hour ago on the same replica comes before
one elsewhere of twenty minutes ago. It is a list to begin with, and no proof.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

WITHIN_S = 6 * 3_600.0
"""Older changes are no candidates."""

AFTER_S = 60.0
"""A change that is noted so shortly after the alert may have been there before it."""

NOTED_LATE = frozenset({"provider", "clock", "traffic"})
"""Kinds of changes that are found by looking, some time after they came."""

CAUSES_MAX = 5
_STEP = 4.0
_PLACES = ("replica", "release", "service")


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that was changed, or changed by itself.

    Attributes:
        at: Unix time in seconds.
        kind: `release`, `rollout`, `replica`, `traffic`, `provider`, `action` or another noun.
        what: What happened, in words: `release b promoted`.
        labels: What it is about, as of an alert.
    """

    at: float
    kind: str
    what: str
    labels: tuple[tuple[str, str], ...] = ()


class Cause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A candidate.

    Attributes:
        before_s: Seconds from the change to the alert; a little below 0 at most.
        place: What both are about, at the narrowest; empty when they share nothing.
    """

    change: Change
    before_s: float
    place: str

    @property
    def words(self) -> str:
        """`release b promoted, 4 min before (same service)`."""
        place = f" (same {self.place})" if self.place else ""
        return f"{self.change.what}, {_ago(self.before_s)}{place}"


def causes_of(
    labels: Iterable[tuple[str, str]], first_seen: float, changes: Iterable[Change]
) -> tuple[Cause, ...]:
    """The nearest changes to an alert with these labels."""
    about = dict(labels)
    found = []
    for change in changes:
        before_s = first_seen - change.at
        place = _place(about, dict(change.labels))
        if place is not None and -AFTER_S <= before_s <= WITHIN_S:
            found.append(Cause(change, before_s, place))
    found.sort(key=lambda cause: (_distance(cause), cause.change.what))
    return tuple(found[:CAUSES_MAX])


def _place(alert: dict[str, str], change: dict[str, str]) -> str | None:
    """The narrowest label that both have; None when the change is about another service."""
    service = change.get("service")
    if service is not None and alert.get("service", service) != service:
        return None
    for place in _PLACES:
        if place in alert and alert[place] == change.get(place):
            return place
    return ""


def _distance(cause: Cause) -> float:
    steps = _PLACES.index(cause.place) if cause.place else len(_PLACES)
    return float((60.0 + abs(cause.before_s)) * _STEP**steps)


def _ago(seconds: float) -> str:
    if seconds < 0.0:
        return "at the same time"
    if seconds < 120.0:
        return f"{seconds:.0f} s before"
    if seconds < 7_200.0:
        return f"{seconds / 60:.0f} min before"
    return f"{seconds / 3600:.0f} h before"
