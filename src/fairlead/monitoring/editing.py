"""What a person changes of the desk: silences, and the words of incidents. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from fairlead.domain.errors import Conflict, InvalidInput, NotFound
from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.desk import Desk
from fairlead.monitoring.incidents import WORDS_MAX, Incident, close, merge, note
from fairlead.monitoring.postmortem import span
from fairlead.monitoring.silences import DAYS_MAX, Silence, check_silence, silenced_by

SILENCES_MAX = 500
BY_MAX = 100
NAMED_MAX = 5
"""Alerts that are named when a prefix means several."""


def find_alert(desk: Desk, prefix: str) -> Alert:
    """The alert whose fingerprint begins so; raises NotFound, or InvalidInput for several."""
    found = [key for key in desk.alerts if prefix and key.startswith(prefix.lower())]
    if not found:
        raise NotFound(
            f"there is no alert {prefix[:80]!r}",
            hint="`fairlead alerts --all` lists them; an hour after its end one is forgotten",
        )
    if len(found) > 1:
        some = ", ".join(sorted(found)[:NAMED_MAX]) + (", ..." if len(found) > NAMED_MAX else "")
        raise InvalidInput(f"{len(found)} alerts begin with {prefix!r}: {some}")
    return desk.alerts[found[0]]


def find_incident(desk: Desk, number: int) -> Incident:
    """The incident of this number; raises NotFound."""
    for incident in desk.incidents:
        if incident.number == number:
            return incident
    raise NotFound(
        f"there is no incident {number}",
        hint="`fairlead incidents --all` lists them; the oldest closed ones are forgotten",
    )


def check_by(by: str) -> None:
    """Raises InvalidInput unless somebody is named, on one line."""
    if not 0 < len(by.strip()) <= BY_MAX or not by.isprintable():
        raise InvalidInput(
            f"`by` needs 1 to {BY_MAX} characters on one line", hint="say who wants it"
        )


def close_incident(
    desk: Desk, number: int, by: str, words: str, now: float, *, by_force: bool = False
) -> Desk:
    """The desk with this incident closed; raises NotFound, Conflict or InvalidInput."""
    check_by(by)
    incident = find_incident(desk, number)
    return _with(desk, [close(incident, by, words, now, by_force=by_force)])


def note_incident(desk: Desk, number: int, by: str, words: str, now: float) -> Desk:
    """The desk with a note on this incident; raises NotFound, Conflict or InvalidInput."""
    check_by(by)
    return _with(desk, [note(find_incident(desk, number), by, words, now)])


def merge_incidents(desk: Desk, numbers: tuple[int, int], by: str, now: float) -> Desk:
    """The desk with the younger of two as part of the older; raises NotFound or Conflict."""
    check_by(by)
    older, younger = (find_incident(desk, number) for number in sorted(numbers))
    if older.number == younger.number:
        raise InvalidInput(f"incident {older.number} cannot be part of itself")
    return _with(desk, merge(older, younger, by, now))


def add_silence(desk: Desk, silence: Silence, now: float) -> Desk:
    """The desk with one more silence, told in its incidents; raises InvalidInput or Conflict."""
    check_by(silence.by)
    check_silence(silence)
    if silence.since - now > DAYS_MAX * 86_400:
        raise InvalidInput(f"a silence begins within {DAYS_MAX} days")
    if sum(now < one.until for one in desk.silences) >= SILENCES_MAX:
        raise Conflict(
            f"there are {SILENCES_MAX} silences already",
            hint="end those that are not needed: fairlead silences end ID",
        )
    told = [_silenced(one, silence, now) for one in _muted(desk, silence, now)]
    return msgspec.structs.replace(_with(desk, told), silences=(*desk.silences, silence))


def _muted(desk: Desk, silence: Silence, now: float) -> Iterator[Incident]:
    """Incidents that go on, and of whose alerts nobody is told because of it."""
    muted = {
        alert.fingerprint
        for alert in desk.alerts.values()
        if alert.is_firing and silenced_by(alert, (silence,), now) is not None
    }
    for incident in desk.incidents:
        if incident.is_open and any(one.fingerprint in muted for one in incident.members):
            yield incident


def _silenced(incident: Incident, silence: Silence, now: float) -> Incident:
    matchers = " ".join(str(matcher) for matcher in silence.matchers)
    words = f"silence {silence.id} of {matchers} for {span(silence.until - now)}: {silence.why}"
    try:
        return note(incident, silence.by, words[:WORDS_MAX], now)
    except Conflict:  # No room in its story; the silence is none the less.
        return incident


def find_silence(desk: Desk, silence: str) -> Silence:
    """The silence of this id; raises NotFound."""
    for one in desk.silences:
        if one.id == silence:
            return one
    raise NotFound(f"there is no silence {silence[:80]!r}", hint="see `fairlead silences`")


def end_silence(desk: Desk, silence: str, now: float) -> Desk:
    """The desk with this silence over from now on; raises NotFound."""
    ended = find_silence(desk, silence).ended(now)
    silences = tuple(ended if one.id == silence else one for one in desk.silences)
    return msgspec.structs.replace(desk, silences=silences)


def _with(desk: Desk, changed: Iterable[Incident]) -> Desk:
    by_number = {incident.number: incident for incident in changed}
    incidents = tuple(by_number.get(one.number, one) for one in desk.incidents)
    return msgspec.structs.replace(desk, incidents=incidents)
