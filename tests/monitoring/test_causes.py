"""Changes of which is known only between which two looks they came, as causes of alerts."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from fairlead.monitoring import clock
from fairlead.monitoring.alerts import Alert, observe
from fairlead.monitoring.causes import AFTER_S, WITHIN_S, Change, causes_of
from fairlead.monitoring.conditions import Condition, labels_of
from fairlead.monitoring.desk import Desk, Duties, Look, step
from fairlead.monitoring.incidents import follow
from monitoring.making import condition

OF = labels_of(service="bank", release="b")
SHIPPED = Change(-3_000.0, "release", "b promoted", OF)
REFUSALS = condition("refusals", release="b")
SEEN = {("refusals", "bank")}
HOUR_S = 3_600.0
ASKED_S, BEGAN_S, TOLD_S = 0.0, 2_400.0, 3_600.0
"""The last round of probes that was as before, an alert, and the round that told the change."""
PROVIDER = Change(TOLD_S, "provider", "the provider answers otherwise", OF, since=ASKED_S)


def look(
    alerts: dict[str, Alert], now: float, *changes: Change, found: tuple[Condition, ...] = ()
) -> dict[str, Alert]:
    return observe(alerts, found or [REFUSALS], SEEN, now, changes)


def causes(alerts: dict[str, Alert]) -> list[str]:
    (alert,) = alerts.values()
    return [cause.words for cause in alert.causes]


def test_refusals_that_began_twenty_minutes_before_the_probes_have_the_provider_on_top() -> None:
    alerts = look({}, BEGAN_S, SHIPPED)
    assert causes(alerts) == ["b promoted, 90 min before (same release)"]
    alerts = look(alerts, TOLD_S, SHIPPED, PROVIDER)
    expected = [
        "the provider answers otherwise, at most 40 min before (same release)",
        "b promoted, 90 min before (same release)",
    ]
    assert causes(alerts) == expected
    assert look(alerts, TOLD_S, SHIPPED, PROVIDER) == alerts, "the same look changes nothing"
    assert causes(look(alerts, TOLD_S + 2.0)) == expected, "and nothing is forgotten"


@pytest.mark.parametrize(
    ("began", "words"),
    [
        (ASKED_S - AFTER_S - 1.0, ""),
        (ASKED_S - AFTER_S, "at the same time"),
        (ASKED_S, "at most 0 s before"),
        (TOLD_S - 1.0, "at most 60 min before"),
        (TOLD_S, "0 s to 60 min before"),
        (TOLD_S + 60.0, "60 s to 61 min before"),
        (TOLD_S + WITHIN_S, "6 h to 7 h before"),
        (TOLD_S + WITHIN_S + 1.0, ""),
    ],
)
def test_it_is_near_to_what_began_while_it_can_have_come_or_later(began: float, words: str) -> None:
    said = [cause.words for cause in causes_of(OF, began, [PROVIDER])]
    assert said == ([f"{PROVIDER.what}, {words} (same release)"] if words else [])


def test_it_is_as_near_as_it_can_have_been() -> None:
    """What may have come in the very moment before is nearer than what came half a minute ago."""
    edited = Change(BEGAN_S - 30.0, "settings", "limits changed", OF)
    (first, second) = causes_of(OF, BEGAN_S, [edited, PROVIDER])
    assert (first.change, second.change) == (PROVIDER, edited)
    (first, second) = causes_of(OF, TOLD_S + HOUR_S, [edited, PROVIDER])
    assert first.change is PROVIDER, "an hour before at least"
    restarted = Change(BEGAN_S - 30.0, "replica", "r1 ended", (*OF, ("replica", "r1")))
    assert causes_of((*OF, ("replica", "r1")), BEGAN_S, [PROVIDER, restarted])[0].place == "replica"


def test_an_interval_that_ends_before_it_begins_is_none() -> None:
    odd = msgspec.structs.replace(PROVIDER, since=TOLD_S + 5.0)
    assert causes_of(OF, TOLD_S + 10.0, [odd])[0].words.endswith(", 10 s before (same release)")


def test_a_jump_of_traffic_that_is_seen_minutes_later_is_a_cause_and_a_promotion_is_not() -> None:
    alerts = look({}, 1_000.0, SHIPPED)
    rose = Change(960.0, "traffic", "traffic rose", labels_of(service="bank"))
    moved = Change(1_010.0, "release", "c promoted", OF)
    alerts = look(alerts, 1_180.0, SHIPPED, rose, moved)
    assert [words.partition(",")[0] for words in causes(alerts)] == ["traffic rose", "b promoted"]


def test_only_the_nearest_are_kept_however_many_are_found_late() -> None:
    alerts = look({}, BEGAN_S, SHIPPED)
    many = [
        msgspec.structs.replace(PROVIDER, what=f"change {number}", at=TOLD_S + number)
        for number in range(9)
    ]
    for number in range(len(many)):
        alerts = look(alerts, TOLD_S + number, *many[: number + 1])
    said = [words.partition(",")[0] for words in causes(alerts)]
    assert said == [f"change {number}" for number in range(5)]


def test_an_open_incident_has_it_too_also_of_an_alert_that_has_ended_or_is_back() -> None:
    alerts = look({}, BEGAN_S, SHIPPED)
    other = condition("format", release="b")
    looked = SEEN | {("format", "bank")}
    incidents = follow((), alerts.values(), [], BEGAN_S)
    for now, found in (
        (BEGAN_S + 100.0, [other]),  # away
        (BEGAN_S + 500.0, [other]),  # resolved
        (BEGAN_S + 800.0, [other, REFUSALS]),  # back
        (BEGAN_S + 900.0, [other]),
    ):
        alerts = observe(alerts, found, looked, now, [SHIPPED])
        incidents = follow(incidents, alerts.values(), [], now)
    alerts = observe(alerts, [other], looked, TOLD_S, [SHIPPED, PROVIDER])
    (incident,) = follow(incidents, alerts.values(), [], TOLD_S)
    first = {member.summary: member.causes[0] for member in incident.members}
    assert {cause.change for cause in first.values()} == {PROVIDER}
    assert "at most 40 min before" in first["bank: refusals is wrong"].words, "of its first time"
    assert follow((incident,), alerts.values(), [], TOLD_S) == (incident,)


def test_the_desk_learns_it_late_and_tells_it_in_the_timeline() -> None:
    desk = Desk()
    for now, changes in ((BEGAN_S, (SHIPPED,)), (TOLD_S, (SHIPPED, PROVIDER))):
        seen = Look(now, (REFUSALS,), tuple(SEEN), changes=changes)
        desk = step(desk, Duties(), seen).desk
    (incident,) = desk.incidents
    assert incident.members[0].causes[0].change == PROVIDER
    told = [event.what for event in incident.timeline if event.kind == "provider"]
    assert told == [PROVIDER.what]
    read = msgspec.json.decode(msgspec.json.encode(desk), type=Desk)
    assert read == desk


def test_causes_that_are_known_survive_a_clock_that_is_set_back() -> None:
    alerts = look(look({}, BEGAN_S, SHIPPED), TOLD_S, SHIPPED, PROVIDER)
    back = {key: clock.alert_until(alert, ASKED_S - HOUR_S) for key, alert in alerts.items()}
    jump = Change(ASKED_S - HOUR_S, "traffic", "traffic fell", labels_of(service="bank"))
    after = look(back, ASKED_S - HOUR_S + 2.0, jump)
    said = [words.partition(",")[0] for words in causes(after)]
    assert set(said) == {"the provider answers otherwise", "b promoted", "traffic fell"}


def test_an_old_desk_without_intervals_is_read() -> None:
    old = {"at": 5.0, "kind": "provider", "what": "it answers otherwise", "labels": []}
    assert msgspec.json.decode(msgspec.json.encode(old), type=Change).earliest == 5.0


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_in_which_changes_are_told_does_not_matter(order: tuple[int, ...]) -> None:
    three = [SHIPPED, PROVIDER, Change(BEGAN_S - 5.0, "traffic", "traffic rose", OF)]
    found = causes_of(OF, BEGAN_S, [three[place] for place in order])
    assert [cause.change.kind for cause in found] == ["provider", "traffic", "release"]


def test_what_is_about_the_platform_is_nearer_to_its_alerts_than_what_services_do() -> None:
    skew = labels_of(monitor="clock_skew")
    off = Change(1_010.0, "clock", "the clock of worker 1 is 5 s ahead")
    starts = [
        Change(999.0, "replica", f"replica {name} starts", labels_of(service="bank", replica=name))
        for name in "abcdef"
    ]
    found = causes_of(skew, 1_000.0, [*starts, off])
    assert found[0].words == "the clock of worker 1 is 5 s ahead, at the same time (same platform)"
    assert [cause.place for cause in found[1:]] == [""] * 4
    assert causes_of(OF, 1_000.0, [*starts, off])[-1].place != "platform"


def test_what_changed_of_a_service_that_is_needed_is_a_cause_also_where_it_is_noted_later() -> None:
    """A replica that makes the vectors ends: who is blind by that is told a moment before."""
    blind = condition("monitor_blind", watched="drift", fault="failed", needs="vectors")
    seen = {("monitor_blind", "bank")}
    begun = Change(-600.0, "release", "b promoted", labels_of(service="bank", release="b"))
    other = Change(-1.0, "replica", "replica x ended", labels_of(service="shop", replica="x"))
    alerts = observe({}, [blind], seen, 0.0, [begun, other])
    assert causes(alerts) == ["b promoted, 10 min before (same service)"]
    ended = Change(2.0, "replica", "replica v ended", labels_of(service="vectors", replica="v"))
    later = msgspec.structs.replace(ended, at=AFTER_S + 10.0)
    alerts = observe(alerts, [blind], seen, 2.0, [begun, other, ended])
    alerts = observe(alerts, [blind], seen, AFTER_S + 10.0, [begun, other, ended, later])
    assert causes(alerts) == [
        "replica v ended, at the same time (of vectors, which it needs)",
        "b promoted, 10 min before (same service)",
    ]
