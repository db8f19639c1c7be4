"""An incident as a Markdown page that reads like a post-mortem: what, how long, why, what helped.

It says what is known and no more: a cause is a candidate, and what a person has to add is named.
Words from outside (summaries, resolutions) are written so that nothing in them is live where the
page is shown: no markup, no link, nobody's name that is called.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime

from fairlead.domain.release import shortened
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.causes import Cause
from fairlead.monitoring.impact import Impact
from fairlead.monitoring.incidents import MOVES, Event, Incident, Member
from fairlead.monitoring.monitors.moments import to_second
from fairlead.monitoring.plain import brief, inert, one_line

PLATFORM = "the platform"
"""What an incident is of whose alerts are of no service."""

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!~])")
_ACTING, _PERSON = ("action", *MOVES), "person"


def postmortem(incident: Incident, now: float, impact: Sequence[Impact] = ()) -> str:
    """The page, in UTC; `impact`: of its services, as far as it was counted."""
    lines = [f"# Incident {incident.number}: {_text(brief(incident.title))}", ""]
    lines += _facts(incident, now)
    lines += ["", "## Summary", "", _summary(incident, now)]
    lines += ["", "## Impact", "", *_impact(incident, impact)]
    lines += ["", "## What was seen", "", *_seen(incident)]
    lines += ["", "## What changed near it", "", *_causes(incident)]
    lines += ["", "## Timeline", "", *_timeline(incident)]
    lines += ["", "## What was done", "", *_done(incident)]
    lines += ["", "## Resolution", "", _resolution(incident)]
    return "\n".join(lines) + "\n"


def named(services: Sequence[str]) -> str:
    """Its services, for people."""
    return ", ".join(name or PLATFORM for name in services)


def _facts(incident: Incident, now: float) -> list[str]:
    ended = ended_at(incident)
    rows = [
        ("incident", str(incident.number)),
        ("services", _text(named(incident.services))),
        ("severity", incident.severity.value),
        ("state", incident.state.value),
        ("began", to_second(incident.opened_at)),
        ("ended", to_second(ended) if ended is not None else "not yet"),
        ("lasted", span((ended if ended is not None else now) - incident.opened_at)),
    ]
    if incident.merged_into is not None:
        rows.append(("part of", f"incident {incident.merged_into}"))
    lines = [f"| {name} | {value} |" for name, value in rows]
    return [lines[0], "| --- | --- |", *lines[1:]]


def ended_at(incident: Incident) -> float | None:
    """When the trouble was over: its last alert seen, and not the waiting after it."""
    if any(member.holds for member in incident.members):
        # Closed by force, or part of another one since then.
        return None if incident.resolution is None else incident.resolution.at
    if incident.is_open and incident.quiet_since is None:
        return None
    seen = (one.last_seen for one in incident.members if one.severity is not Severity.INFO)
    return max(seen, default=incident.opened_at)


def _summary(incident: Incident, now: float) -> str:
    ended = ended_at(incident)
    count = len(incident.members)
    what = f"{count} alert{'s' if count != 1 else ''} of {_text(named(incident.services))}"
    took = span((ended if ended is not None else now) - incident.opened_at)
    said = f"{what}, the gravest a {incident.severity.value}."
    said += f" It lasted {took}." if ended is not None else f" It has lasted {took} so far."
    first = _first_cause(incident)
    if first is None:
        return said
    if first.change.is_inferred:
        return f"{said} No change shortly before it is known: {_text(first.words)}."
    return f"{said} Nearest change before it: {_text(first.words)}."


def _first_cause(incident: Incident) -> Cause | None:
    """The nearest one of the first alert that has any."""
    return next((one for member in _by_time(incident) for one in member.causes), None)


def _impact(incident: Incident, impact: Sequence[Impact]) -> Iterator[str]:
    for one in impact:
        yield f"- {_text(one.service)}: {_cost(one)}."
    if not impact:
        yield "- How many requests it was about was not counted."
    yield f"- Noticed {_noticed(incident, impact)}."
    acts = _since(incident, ("action",))
    if acts:
        after = span(acts[0].at - incident.opened_at)
        yield f"- First action {after} after the first alert: {_line(acts[0])}"
    else:
        yield "- Nothing was done about it that is known here."


def _cost(one: Impact) -> str:
    said = f"{one.failed:,.0f} of {one.requests:,.0f} requests failed"
    if one.requests <= 0.0:
        return "no requests came"
    if one.budget is None:
        return said
    about = "about " if one.is_estimated else ""
    return f"{said}: {about}{one.budget:.1%} of the error budget of {one.period_days:g} days"


def _noticed(incident: Incident, impact: Sequence[Impact]) -> str:
    began = [one.began_at for one in impact if one.began_at is not None]
    if began:
        after = span(incident.opened_at - min(began))
        return f"{after} after more requests failed than is promised ({to_second(min(began))})"
    first = _first_cause(incident)
    changed = None if first is None or first.change.is_inferred else first.change.at
    if changed is not None and changed <= incident.opened_at:
        return f"{span(incident.opened_at - changed)} after the nearest change before it"
    return "by its first alert; since when it was there is not known here"


def _seen(incident: Incident) -> Iterator[str]:
    for member in incident.members:
        state = "firing" if member.is_firing else f"over at {to_second(member.last_seen)}"
        yield (
            f"- **{member.severity}** {_text(member.summary)} — first seen "
            f"{to_second(member.first_seen)}, {state}"
        )
        yield from (f"    - {_text(words)}" for words in member.evidence)


def _by_time(incident: Incident) -> list[Member]:
    return sorted(incident.members, key=lambda member: member.first_seen)


def _ranked(incident: Incident) -> list[str]:
    """Candidates of all alerts, those of the first and gravest first, each change once."""
    found: dict[tuple[object, str, str], str] = {}
    for cause in (cause for member in _by_time(incident) for cause in member.causes):
        change = cause.change
        # What is inferred is so of each alert, at its own time.
        when = change.labels if change.is_inferred else change.at
        found.setdefault((when, change.kind, change.what), _text(cause.words))
    return list(found.values())


def _causes(incident: Incident) -> list[str]:
    ranked = _ranked(incident)
    if not ranked:
        return ["Nothing that could be its cause is known to have changed in the six hours before."]
    lines = [f"{place}. {words}" for place, words in enumerate(ranked, 1)]
    return [*lines, "", "These are candidates by nearness; whether one of them is the cause is for "
            "people to say."]  # fmt: skip


def _timeline(incident: Incident) -> Iterator[str]:
    day = ""
    for event in incident.timeline:
        moment = datetime.fromtimestamp(event.at, UTC)
        if moment.strftime("%Y-%m-%d") != day:
            if day:
                yield ""
            day = moment.strftime("%Y-%m-%d")
            yield f"**{day}**"
            yield ""
        yield f"- {moment:%H:%M:%S} {_text(event.kind)}: {_line(event)}"
    if incident.is_cut:
        yield "- … and more, for which there was no room."


def _since(incident: Incident, kinds: Collection[str]) -> list[Event]:
    """What came since it began; what was before is in the timeline, and maybe its cause."""
    return [
        event
        for event in incident.timeline
        if event.kind in kinds and event.at >= incident.opened_at
    ]


def _done(incident: Incident) -> Iterator[str]:
    """What was done; what people said meanwhile may be that as well, or what they have found."""
    acts, said = _since(incident, _ACTING), _since(incident, (_PERSON,))
    yield from _moments(acts) if acts else ["Nothing that is known here."]
    if said:
        yield from ["", "What people said of it:", "", *_moments(said)]


def _moments(events: Iterable[Event]) -> list[str]:
    return [f"- {to_second(event.at)} {_line(event)}" for event in events]


def _line(event: Event) -> str:
    by = f" (by {_text(event.by)})" if event.by else ""
    return f"{_text(event.what)}{by}"


def _resolution(incident: Incident) -> str:
    if incident.resolution is None:
        return "It is not over."
    by = f"By {_text(incident.resolution.by)}" if incident.resolution.by else "By itself"
    return f"{by}, {to_second(incident.resolution.at)}: {_text(incident.resolution.words)}"


def _text(words: str) -> str:
    """Words on one line, in which nothing is live, and digests are short."""
    return inert(_MARKUP.sub(r"\\\1", shortened(one_line(words))))


def span(seconds: float) -> str:
    """A time as people say it: `90 s`, `10 min`, `3 h`, `2.5 days`."""
    if seconds < 120.0:
        return f"{max(0.0, seconds):.0f} s"
    if seconds < 7_200.0:
        return f"{seconds / 60:.0f} min"
    hours = round(seconds / 3_600)
    return f"{hours} h" if hours < 48 else f"{hours / 24:.1f} days"
