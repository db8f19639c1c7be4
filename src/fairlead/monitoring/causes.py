"""What changed near an alert: candidates for its cause, the nearest first.

Nearness has two parts. In place: a change of the same replica is nearer than one of the release,
that one nearer than one of the service, and all of them nearer than one that names nothing of the
alert. What became of the very part of fairlead that the alert is about is as near as the same
replica. In time: minutes before the alert was first seen. A step away in place counts as much as
being four times as long ago, so that a deployment of an hour ago on the same replica comes before
one elsewhere of twenty minutes ago. It is a list to begin with, and no proof.

Of some changes it is known only between which two looks they came. Such a one is as near as it can
have been: an alert that began between the looks may have begun with it. It is mostly found after
the alert, and is a candidate all the same.

What an alert compares with was learnt from what came first (`Baseline`). A change that was there
when that began is part of it, and no candidate. What is left may be nothing: then it can be said
who has changed, all the same. What users ask is theirs; and where a provider answers, it is the
provider, or it is asked otherwise. Such an inferred change is a candidate behind all that is known
to have changed of the same service within the hour before.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fairlead.monitoring.baseline import Baseline, Compared

WITHIN_S = 6 * 3_600.0
"""Older changes are no candidates."""

AFTER_S = 60.0
"""A change that is noted so shortly after the alert may have been there before it."""

CLOCK = "clock"
FOUND_LATE = frozenset({CLOCK, "traffic"})
"""Kinds of changes that are found by looking, a little after they came."""

APART_S = 2.0
"""Clocks of a gateway and of control are this far apart, at most, unless it is told."""

INFERRED_S = 3_600.0
"""What is known to have changed so shortly before, of the same service, is nearer than what is
inferred."""

CAUSES_MAX = 5
_STEP = 4.0
_PLACES = ("replica", "release", "service")
PLATFORM = "platform"
"""The place of what is about no service, and so about all of them: as near as the same service."""
MONITOR = "monitor"
PART = "part"
"""The place of what became of that which the alert's monitor looks at: its labels name the monitor,
and nothing but what the alert's do."""
NEEDS = "needs"
"""Label of an alert: a service without which the one that it is about cannot see. What changed
there is as near as a change of its own, and may be noted after the alert."""

_AS_NEAR = {PART: "replica", PLATFORM: "service", NEEDS: "service"}


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that was changed, or changed by itself.

    Attributes:
        at: Unix time in seconds; where there is a `since`, that by which it had come.
        kind: `release`, `rollout`, `replica`, `traffic`, `provider`, `action` or another noun.
        what: What happened, in words: `release b promoted`.
        labels: What it is about, as of an alert.
        since: Unix time after which it came, if that is all that is known; None where `at` is when.
        is_inferred: Whether nobody saw it, and it follows from what else was found; `at` is then
            when the alert was first seen.
    """

    at: float
    kind: str
    what: str
    labels: tuple[tuple[str, str], ...] = ()
    since: float | None = None
    is_inferred: bool = False

    @property
    def earliest(self) -> float:
        """Unix time before which it cannot have come."""
        return self.at if self.since is None else min(self.since, self.at)

    @property
    def is_found_late(self) -> bool:
        """Whether it may become known after what it caused."""
        return self.since is not None or self.kind in FOUND_LATE


class Cause(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A candidate.

    Attributes:
        before_s: Seconds from the change (its `at`) to the alert; below 0 where the alert began
            before that.
        place: What both are about, at the narrowest; empty when they share nothing, `platform` when
            neither is about a service, `part` when the change is about what the alert's monitor
            looks at, `needs` when it is about a service that is needed.
    """

    change: Change
    before_s: float
    place: str

    @property
    def before_s_max(self) -> float:
        """The same from the earliest that the change can have come."""
        return self.before_s + self.change.at - self.change.earliest

    @property
    def words(self) -> str:
        """`release b promoted, 4 min before (same service)`."""
        if self.change.is_inferred:
            return f"{self.change.what} (inferred, not seen)"
        place = f" (same {self.place})" if self.place else ""
        if self.place == NEEDS:
            place = f" (of {dict(self.change.labels)['service']}, which it needs)"
        return f"{self.change.what}, {_when(self)}{place}"


def causes_of(
    labels: Iterable[tuple[str, str]],
    first_seen: float,
    changes: Iterable[Change],
    since: float | None = None,
) -> tuple[Cause, ...]:
    """The nearest changes to an alert with these labels.

    Args:
        since: Unix time from which on it was learnt what the alert is held against; what changed
            before is none.
    """
    about = dict(labels)
    found = []
    for change in changes:
        if since is not None and change.at < since + APART_S and change.kind != CLOCK:
            continue
        place = _place(about, dict(change.labels))
        if place is not None:
            cause = Cause(change, first_seen - change.at, place)
            if cause.before_s_max >= -AFTER_S and cause.before_s <= WITHIN_S:
                found.append(cause)
    return nearest(found)


def needed_by(labels: Iterable[tuple[str, str]], changes: Iterable[Change]) -> list[Change]:
    """Those of the service that an alert with these labels names as needed."""
    about = dict(labels)
    if NEEDS not in about:
        return []
    return [change for change in changes if _is_needed(about, dict(change.labels))]


def nearest(causes: Iterable[Cause]) -> tuple[Cause, ...]:
    """Of candidates of one alert those that are kept, in order."""
    order = sorted(causes, key=lambda cause: (_distance(cause), cause.change.what))
    known = [cause for cause in order if not cause.change.is_inferred]
    near = [bool(one.place) and one.before_s <= INFERRED_S for one in known]
    late = max((n for n, is_near in enumerate(near, 1) if is_near), default=0)
    inferred = [cause for cause in order if cause.change.is_inferred]
    return tuple([*known[:late], *inferred, *known[late:]][:CAUSES_MAX])


def inferred(
    labels: Iterable[tuple[str, str]], first_seen: float, baseline: Baseline
) -> tuple[Cause, ...]:
    """Who has changed, if nothing that is known did: by what such an alert is held against."""
    if baseline.of is None or baseline.since_before(first_seen) is None:
        return ()
    kind, what = "users", "users ask otherwise than they did"
    if baseline.of is not Compared.ASKED and baseline.is_remote:
        kind, what = "provider", "the provider answers otherwise, or is asked otherwise"
    elif baseline.of is Compared.ANSWERED:
        return ()
    about = tuple(one for one in labels if one[0] in ("release", "service"))
    return (Cause(Change(first_seen, kind, what, about, is_inferred=True), 0.0, "release"),)


def _place(alert: dict[str, str], change: dict[str, str]) -> str | None:
    """The narrowest label that both have; None when the change is about another service."""
    service = change.get("service")
    if service is not None and alert.get("service", service) != service:
        return NEEDS if _is_needed(alert, change) else None
    if MONITOR in change and change.items() <= alert.items():
        return PART
    for place in _PLACES:
        if place in alert and alert[place] == change.get(place):
            return place
    return PLATFORM if service is None and "service" not in alert else ""


def _is_needed(alert: dict[str, str], change: dict[str, str]) -> bool:
    return NEEDS in alert and alert[NEEDS] == change.get("service")


def _distance(cause: Cause) -> float:
    place = _AS_NEAR.get(cause.place, cause.place)
    steps = _PLACES.index(place) if place else len(_PLACES)
    apart_s = max(cause.before_s, -cause.before_s_max, 0.0)
    return float((60.0 + apart_s) * _STEP**steps)


def _when(cause: Cause) -> str:
    """How long before the alert it came; in bounds, where no more is known."""
    if cause.before_s_max < 0.0:
        return "at the same time"
    least, most = _span(max(0.0, cause.before_s)), _span(cause.before_s_max)
    if cause.before_s < 0.0:
        return f"at most {most} before"
    return f"{least} before" if least == most else f"{least} to {most} before"


def _span(seconds: float) -> str:
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    if seconds < 7_200.0:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
