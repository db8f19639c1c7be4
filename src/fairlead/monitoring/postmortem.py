"""An incident as a Markdown page that reads like a post-mortem: what, how long, why, what helped.

It says what is known and no more: a cause is a candidate, and what a person has to add is named.
Words from outside (summaries, resolutions) are written so that they cannot become markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from fairlead.monitoring.burning import Severity
from fairlead.monitoring.incidents import Event, Incident, Member

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!~])")
_ACTING = ("action", "person", "rollout")


def postmortem(incident: Incident, now: float) -> str:
    """The page, in UTC."""
    lines = [f"# Incident {incident.number}: {_text(incident.title)}", ""]
    lines += _facts(incident, now)
    lines += ["", "## Summary", "", _summary(incident, now)]
    lines += ["", "## What was seen", "", *_seen(incident)]
    lines += ["", "## What changed near it", "", *_causes(incident)]
    lines += ["", "## Timeline", "", *_timeline(incident)]
    lines += ["", "## What was done", "", *_done(incident)]
    lines += ["", "## Resolution", "", _resolution(incident)]
    return "\n".join(lines) + "\n"


def _facts(incident: Incident, now: float) -> list[str]:
    ended = ended_at(incident)
    rows = [
        ("incident", str(incident.number)),
        ("services", ", ".join(_text(name) for name in incident.services)),
        ("severity", incident.severity.value),
        ("state", incident.state.value),
        ("began", _moment(incident.opened_at)),
        ("ended", _moment(ended) if ended is not None else "not yet"),
        ("lasted", span((ended if ended is not None else now) - incident.opened_at)),
    ]
    if incident.merged_into is not None:
        rows.append(("part of", f"incident {incident.merged_into}"))
    lines = [f"| {name} | {value} |" for name, value in rows]
    return [lines[0], "| --- | --- |", *lines[1:]]


def ended_at(incident: Incident) -> float | None:
    """When the trouble was over: its last alert seen, and not the waiting after it."""
    if incident.is_forced and incident.resolution is not None:
        return incident.resolution.at
    if any(member.holds for member in incident.members):
        return None
    if incident.is_open and incident.quiet_since is None:
        return None
    seen = (one.last_seen for one in incident.members if one.severity is not Severity.INFO)
    return max(seen, default=incident.opened_at)


def _summary(incident: Incident, now: float) -> str:
    ended = ended_at(incident)
    count = len(incident.members)
    what = f"{count} alert{'s' if count != 1 else ''} of {_text(', '.join(incident.services))}"
    took = span((ended if ended is not None else now) - incident.opened_at)
    said = f"{what}, the gravest a {incident.severity.value}: {_text(incident.title)}."
    said += f" It lasted {took}." if ended is not None else f" It has lasted {took} so far."
    causes = _ranked(incident)
    if causes:
        said += f" Nearest change before it: {causes[0]}."
    return said


def _seen(incident: Incident) -> Iterator[str]:
    for member in incident.members:
        state = "firing" if member.is_firing else f"over at {_moment(member.last_seen)}"
        yield (
            f"- **{member.severity}** {_text(member.summary)} — first seen "
            f"{_moment(member.first_seen)}, {state}"
        )
        yield from (f"    - {_text(words)}" for words in member.evidence)


def _ranked(incident: Incident) -> list[str]:
    """Candidates of all alerts, those of the first and gravest first, each change once."""
    order: list[Member] = sorted(incident.members, key=lambda member: member.first_seen)
    found: dict[tuple[float, str, str], str] = {}
    for cause in (cause for member in order for cause in member.causes):
        change = cause.change
        found.setdefault((change.at, change.kind, change.what), _text(cause.words))
    return list(found.values())


def _causes(incident: Incident) -> list[str]:
    ranked = _ranked(incident)
    if not ranked:
        return ["Nothing that is known here changed in the six hours before."]
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


def _done(incident: Incident) -> list[str]:
    acts = [event for event in incident.timeline if event.kind in _ACTING]
    if not acts:
        return ["Nothing that is known here."]
    return [f"- {_moment(event.at)} {_line(event)}" for event in acts]


def _line(event: Event) -> str:
    by = f" (by {_text(event.by)})" if event.by else ""
    return f"{_text(event.what)}{by}"


def _resolution(incident: Incident) -> str:
    if incident.resolution is None:
        return "It is not over."
    by = f"By {_text(incident.resolution.by)}" if incident.resolution.by else "By itself"
    return f"{by}, {_moment(incident.resolution.at)}: {_text(incident.resolution.words)}"


def _text(words: str) -> str:
    """Words on one line, in which nothing is markup."""
    line = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    return _MARKUP.sub(r"\\\1", line)


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def span(seconds: float) -> str:
    """A time as people say it: `90 s`, `10 min`, `3 h`, `2.5 days`."""
    if seconds < 120.0:
        return f"{max(0.0, seconds):.0f} s"
    if seconds < 7_200.0:
        return f"{seconds / 60:.0f} min"
    hours = round(seconds / 3_600)
    return f"{hours} h" if hours < 48 else f"{hours / 24:.1f} days"
