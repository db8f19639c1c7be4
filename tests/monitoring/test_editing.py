"""What a person changes of the desk is checked, and touches nothing else."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.domain.errors import Conflict, InvalidInput, NotFound
from fairlead.monitoring.desk import Desk, Duties, Look, step
from fairlead.monitoring.editing import (
    add_silence,
    close_incident,
    end_silence,
    find_alert,
    merge_incidents,
    note_incident,
)
from fairlead.monitoring.incidents import TIMELINE_MAX, Event, note
from fairlead.monitoring.matching import parse_matcher
from fairlead.monitoring.silences import Silence
from monitoring.making import condition

T0 = 1_767_225_600.0
LOOK = Look(T0, (condition(), condition(service="shop")), (("slo", "bank"), ("slo", "shop")))
SILENCE = Silence("si-1", (parse_matcher("service=bank"),), T0, T0 + 60.0, "ana", "known")


def desk() -> Desk:
    return step(Desk(), Duties(), LOOK).desk


def test_a_note_is_kept_by_the_looks_that_follow_also_after_the_end() -> None:
    noted = note_incident(desk(), 1, "ana", "the cache was cold", T0 + 1.0)
    closed = close_incident(noted, 1, "ana", "it was b", T0 + 2.0, by_force=True)
    later = note_incident(closed, 1, "bob", "b is withdrawn", T0 + 3.0)
    read = msgspec.json.decode(msgspec.json.encode(later), type=Desk)
    after = step(read, Duties(), msgspec.structs.replace(LOOK, now=T0 + 60.0)).desk
    told = [(event.what, event.by) for event in after.incidents[0].timeline if event.by]
    assert told == [
        ("the cache was cold", "ana"), ("it was b", "ana"), ("b is withdrawn", "bob"),
    ]  # fmt: skip
    assert after.incidents[1].timeline == desk().incidents[1].timeline


def test_a_note_without_words_room_or_an_incident_of_its_own_is_refused() -> None:
    first, _ = desk().incidents
    with pytest.raises(InvalidInput, match="a note needs"):
        note(first, "ana", "\n", T0)
    full = tuple(Event(T0 - 1.0, "x", str(number)) for number in range(TIMELINE_MAX))
    with pytest.raises(Conflict, match="no room"):
        note(msgspec.structs.replace(first, timeline=full), "ana", "x", T0 + 1.0)
    merged = merge_incidents(desk(), (2, 1), "ana", T0 + 1.0)
    with pytest.raises(Conflict, match="incident 2 is part of incident 1"):
        note_incident(merged, 2, "ana", "x", T0 + 2.0)
    assert note_incident(merged, 1, "ana", "x", T0 + 2.0).incidents[0].timeline[-1].what == "x"


@pytest.mark.parametrize("by", ["", "  ", "x" * 101, "a\nb", "a\x1bb"])
def test_who_says_it_is_named_on_one_line(by: str) -> None:
    with pytest.raises(InvalidInput, match="`by` needs"):
        note_incident(desk(), 1, by, "x", T0)
    with pytest.raises(InvalidInput, match="`by` needs"):
        close_incident(desk(), 1, by, "x", T0, by_force=True)
    with pytest.raises(InvalidInput, match="`by` needs"):
        merge_incidents(desk(), (1, 2), by, T0)
    with pytest.raises(InvalidInput, match="`by` needs"):
        add_silence(desk(), msgspec.structs.replace(SILENCE, by=by), T0)


def test_a_silence_is_told_once_in_what_it_mutes_and_nowhere_else() -> None:
    silenced = add_silence(desk(), SILENCE, T0 + 1.0)
    bank, shop = silenced.incidents
    (event,) = (event for event in bank.timeline if event.by == "ana")
    assert event.what == 'silence si-1 of service="bank" for 59 s: known'
    assert shop == desk().incidents[1]
    assert silenced.silences == (SILENCE,)
    ended = end_silence(silenced, "si-1", T0 + 10.0)
    assert [one.until for one in ended.silences] == [T0 + 10.0]
    assert ended.incidents == silenced.incidents
    with pytest.raises(NotFound, match="si-2"):
        end_silence(silenced, "si-2", T0)


def test_an_empty_name_is_no_alert() -> None:
    with pytest.raises(NotFound):
        find_alert(desk(), "")
