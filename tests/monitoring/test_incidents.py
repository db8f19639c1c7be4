"""Incidents: opened by alerts, told as a story, closed with words."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.domain.errors import Conflict, InvalidInput
from fairlead.monitoring.alerts import Alert, observe
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.causes import Change
from fairlead.monitoring.conditions import labels_of
from fairlead.monitoring.incidents import (
    QUIET_S,
    TIMELINE_MAX,
    Event,
    Incident,
    IncidentState,
    close,
    follow,
    merge,
    note,
)
from fairlead.monitoring.postmortem import postmortem
from monitoring.making import condition

BANK = labels_of(service="bank")
T0 = 1_767_225_600.0
SHIPPED = Change(T0 - 240.0, "rollout", "release b promoted", BANK)
BACK = Event(T0 + 300.0, "action", "rolled back to release a", BANK)


def outage() -> tuple[Incident, dict[str, Alert]]:
    """A page at T0 whose condition goes away after ten minutes."""
    alerts = observe({}, [condition(slo="availability")], {("slo", "bank")}, T0, [SHIPPED])
    (incident,) = follow((), alerts.values(), [], T0)
    alerts = observe(alerts, [condition(slo="availability")], {("slo", "bank")}, T0 + 600.0)
    (incident,) = follow((incident,), alerts.values(), [BACK], T0 + 600.0)
    return incident, alerts


def ended(incident: Incident, alerts: dict[str, Alert]) -> Incident:
    for now in (T0 + 660.0, T0 + 960.0, T0 + 960.0 + QUIET_S):
        alerts = observe(alerts, [], {("slo", "bank")}, now)
        (incident,) = follow((incident,), alerts.values(), [], now)
    return incident


def test_the_first_page_of_a_service_opens_one_and_others_join_it() -> None:
    alerts = observe(
        {}, [condition(), condition("drift")], {("slo", "bank"), ("drift", "bank")}, T0
    )
    (incident,) = follow((), alerts.values(), [], T0)
    assert (incident.number, incident.services, len(incident.members)) == (1, ("bank",), 2)
    more = observe(alerts, [condition(), condition(service="shop")], {("slo", "bank")}, T0 + 9.0)
    assert [one.number for one in follow((incident,), more.values(), [], T0 + 9.0)] == [1, 2]


def test_what_is_only_for_information_opens_none() -> None:
    alerts = observe({}, [condition(severity=Severity.INFO)], {("slo", "bank")}, T0)
    assert follow((), alerts.values(), [], T0) == ()


def test_the_same_alerts_and_events_again_change_nothing_also_after_a_crash() -> None:
    incident, alerts = outage()
    read = msgspec.json.decode(msgspec.json.encode(incident), type=Incident)
    assert read == incident
    assert follow((read,), alerts.values(), [BACK, BACK], T0 + 600.0) == (incident,)


def test_it_closes_by_itself_when_it_has_been_quiet_and_says_after_what() -> None:
    incident, alerts = outage()
    closed = ended(incident, alerts)
    assert closed.state is IncidentState.CLOSED
    assert closed.resolution is not None
    assert closed.resolution.words == "no alert for 15 minutes, after: rolled back to release a"


def test_an_alert_that_is_back_keeps_it_open() -> None:
    incident, alerts = outage()
    for now in (T0 + 660.0, T0 + 960.0):
        alerts = observe(alerts, [], {("slo", "bank")}, now)
        (incident,) = follow((incident,), alerts.values(), [], now)
    assert incident.state is IncidentState.QUIET
    alerts = observe(alerts, [condition(slo="availability")], {("slo", "bank")}, T0 + 1_000.0)
    (incident,) = follow((incident,), alerts.values(), [], T0 + 1_000.0)
    assert (incident.state, incident.quiet_since) == (IncidentState.OPEN, None)


def test_what_fires_after_it_is_closed_opens_another_one() -> None:
    closed = ended(*outage())
    alerts = observe({}, [condition()], {("slo", "bank")}, T0 + 9_000.0)
    assert [one.number for one in follow((closed,), alerts.values(), [], T0 + 9_000.0)] == [1, 2]


def test_a_person_closes_it_with_words_and_not_while_it_fires() -> None:
    incident, alerts = outage()
    with pytest.raises(Conflict, match="still fire"):
        close(incident, "ada", "fine", T0 + 700.0)
    for now in (T0 + 660.0, T0 + 960.0):
        alerts = observe(alerts, [], {("slo", "bank")}, now)
        (incident,) = follow((incident,), alerts.values(), [], now)
    with pytest.raises(InvalidInput, match="a resolution needs"):
        close(incident, "ada", " ", T0 + 1_000.0)
    closed = close(incident, "ada", "the prompt had lost its examples", T0 + 1_000.0)
    assert closed.state is IncidentState.CLOSED
    with pytest.raises(Conflict, match="closed already"):
        close(closed, "ada", "again", T0 + 1_001.0)


def test_one_that_is_part_of_another_one_lasts_no_longer() -> None:
    looked = {("slo", "bank"), ("slo", "shop")}
    alerts = observe({}, [condition(), condition(service="shop")], looked, T0)
    older, younger = follow((), alerts.values(), [], T0)
    _, gone = merge(older, younger, "ada", T0 + 600.0)
    page = postmortem(gone, T0 + 9_000.0)
    assert "| ended | 2026-01-01 00:10:00 UTC |" in page
    assert "It lasted 10 min." in page


def test_what_is_only_for_information_holds_none_open() -> None:
    looked = {("slo", "bank"), ("drift", "bank")}
    info = condition("drift", severity=Severity.INFO)
    alerts = observe({}, [condition(), info], looked, T0)
    (incident,) = follow((), alerts.values(), [], T0)
    assert len(incident.members) == 2
    for now in (T0 + 60.0, T0 + 360.0, T0 + 360.0 + QUIET_S):
        alerts = observe(alerts, [info], looked, now)
        (incident,) = follow((incident,), alerts.values(), [], now)
    assert not incident.is_open
    assert "| ended | 2026-01-01 00:00:00 UTC |" in postmortem(incident, T0 + 9_000.0)


def test_a_person_closes_it_by_force_with_a_reason_and_it_stays_closed() -> None:
    looked = {("slo", "bank")}
    incident, alerts = outage()
    with pytest.raises(InvalidInput, match="a resolution needs"):
        close(incident, "ada", "", T0 + 700.0, by_force=True)
    closed = close(incident, "ada", "the monitor is wrong", T0 + 700.0, by_force=True)
    still = [condition(slo="availability")]
    alerts = observe(alerts, still, looked, T0 + 800.0)
    assert follow((closed,), alerts.values(), [], T0 + 800.0) == (closed,)
    assert "| ended | 2026-01-01 00:11:40 UTC |" in postmortem(closed, T0 + 800.0)
    alerts = observe(alerts, [*still, condition(slo="ttft")], looked, T0 + 900.0)
    _, other = follow((closed,), alerts.values(), [], T0 + 900.0)
    assert [member.summary for member in other.members] == ["bank: slo is wrong"]
    for now in (T0 + 960.0, T0 + 1_260.0):
        alerts = observe(alerts, [], looked, now)
    alerts = observe(alerts, still, looked, T0 + 1_300.0)
    reopened = follow((closed,), alerts.values(), [], T0 + 1_300.0)
    assert [one.number for one in reopened] == [1, 2], "it has ended in between, and is another one"


def test_one_that_was_quiet_anyway_was_not_closed_by_force() -> None:
    incident, alerts = outage()
    for now in (T0 + 660.0, T0 + 960.0):
        alerts = observe(alerts, [], {("slo", "bank")}, now)
        (incident,) = follow((incident,), alerts.values(), [], now)
    assert not close(incident, "ada", "fine", T0 + 1_000.0, by_force=True).is_forced


def test_the_younger_of_two_becomes_part_of_the_older_one() -> None:
    alerts = observe({}, [condition(), condition(service="shop")], {("slo", "bank")}, T0)
    one, two = follow((), alerts.values(), [], T0)
    both, gone = merge(one, two, "ada", T0 + 60.0)
    assert (both.services, len(both.members)) == (("bank", "shop"), 2)
    assert (gone.state, gone.merged_into) == (IncidentState.CLOSED, 1)
    after = follow((both, gone), alerts.values(), [], T0 + 120.0)
    assert [one.number for one in after] == [1, 2]
    with pytest.raises(Conflict):
        merge(two, one, "ada", T0)
    with pytest.raises(Conflict, match="closed already"):
        merge(both, gone, "ada", T0)


def test_events_of_other_services_and_of_long_ago_are_left_out() -> None:
    alerts = observe({}, [condition()], {("slo", "bank")}, T0)
    events = [
        Event(T0 - 60.0, "rollout", "bank at 50%", BANK),
        Event(T0 - 60.0, "rollout", "shop at 50%", labels_of(service="shop")),
        Event(T0 - 7_200.0, "rollout", "bank at 10%", BANK),
        Event(T0 - 30.0, "provider", "the network was changed"),
    ]
    (incident,) = follow((), alerts.values(), events, T0)
    assert [event.what for event in incident.timeline] == [
        "bank at 50%", "the network was changed", "slo firing: bank: slo is wrong",
    ]  # fmt: skip


def test_a_timeline_has_an_end_and_says_so() -> None:
    alerts = observe({}, [condition()], {("slo", "bank")}, T0)
    events = [Event(T0 + i, "replica", f"r{i} restarted", BANK) for i in range(TIMELINE_MAX + 50)]
    (incident,) = follow((), alerts.values(), events, T0 + 600.0)
    assert (len(incident.timeline), incident.is_cut) == (TIMELINE_MAX, True)
    assert follow((incident,), alerts.values(), events, T0 + 600.0) == (incident,)
    assert "for which there was no room" in postmortem(incident, T0 + 600.0)


def test_the_page_of_an_incident_reads_like_a_post_mortem() -> None:
    page = postmortem(ended(*outage()), T0 + 9_000.0)
    assert page.splitlines()[0] == "# Incident 1: bank: slo is wrong"
    heads = [line for line in page.splitlines() if line.startswith("## ")]
    assert heads == [
        "## Summary", "## Impact", "## What was seen", "## What changed near it", "## Timeline",
        "## What was done", "## Resolution",
    ]  # fmt: skip
    assert "| lasted | 10 min |" in page
    assert "It lasted 10 min. Nearest change before it: release b promoted, 4 min before" in page
    assert "    - burn rate over 1 h: 20 (limit 14.4)" in page
    assert "- 00:05:00 action: rolled back to release a" in page
    assert "By itself, 2026-01-01 00:31:00 UTC: no alert for 15 minutes, after: rolled" in page


def test_a_cause_that_is_found_out_a_little_later_is_told_and_one_of_a_later_time_is_not() -> None:
    of, seen = labels_of(service="bank", release="b"), {("format", "bank")}
    found = condition("format", release="b")
    shipped = Change(T0 - 900.0, "release", "b promoted", of)
    alerts = observe({}, [found], seen, T0, [shipped])
    (incident,) = follow((), alerts.values(), [], T0)
    provider = Change(T0 + 20.0, "provider", "the provider answers otherwise", of, since=T0 - 9.0)
    alerts = observe(alerts, [found], seen, T0 + 22.0, [shipped, provider])
    (incident,) = follow((incident,), alerts.values(), [], T0 + 22.0)
    assert "Nearest change before it: the provider answers otherwise" in postmortem(
        incident, T0 + 30.0
    )
    (again,) = (alert for alert in alerts.values())
    later = msgspec.structs.replace(again, first_seen=T0 + 500.0, causes=())
    moved = Change(T0 + 490.0, "traffic", "twice as many requests", of)
    back = observe({}, [found], seen, T0 + 500.0, [moved])
    for alert in (later, *back.values()):
        (incident,) = follow((incident,), [alert], [], T0 + 500.0)
        assert "the provider answers otherwise" in str(incident.members[0].causes[0])


def test_the_page_of_one_that_goes_on_says_so() -> None:
    page = postmortem(outage()[0], T0 + 600.0)
    assert "It has lasted 10 min so far." in page
    assert page.endswith("It is not over.\n")


def test_words_from_outside_are_no_markup() -> None:
    bad = Event(T0 + 1.0, "person", "<script>x</script>\n# head | **b** [a](http://x)", BANK)
    alerts = observe({}, [condition()], {("slo", "bank")}, T0)
    (incident,) = follow((), alerts.values(), [bad], T0 + 2.0)
    page = postmortem(incident, T0 + 2.0)
    assert r"\<script\>x\</script\> \# head \| \*\*b\*\* \[a\](http:" + "\u200b//x)" in page
    assert "\n# head" not in page


def test_a_change_near_several_alerts_is_one_candidate_as_near_as_to_the_first() -> None:
    looked = {("slo", "bank"), ("drift", "bank")}
    alerts = observe({}, [condition()], looked, T0, [SHIPPED])
    alerts = observe(alerts, [condition(), condition("drift")], looked, T0 + 60.0, [SHIPPED])
    (incident,) = follow((), alerts.values(), [], T0 + 60.0)
    page = postmortem(incident, T0 + 60.0)
    assert page.count("release b promoted, ") == 2, "in the summary, and as a candidate"
    assert "1. release b promoted, 4 min before (same service)" in page


def test_what_people_note_is_no_action_and_is_told_as_what_they_said() -> None:
    incident, alerts = outage()
    for now in (T0 + 660.0, T0 + 960.0):
        alerts = observe(alerts, [], {("slo", "bank")}, now)
        (incident,) = follow((incident,), alerts.values(), [], now)
    noted = note(incident, "ana", "the cache was cold", T0 + 60.0)
    page = postmortem(noted, T0 + 9_000.0)
    assert "- First action 5 min after the first alert: rolled back to release a" in page
    done = page[page.index("## What was done") : page.index("## Resolution")]
    assert done == (
        "## What was done\n\n"
        "- 2026-01-01 00:05:00 UTC rolled back to release a\n\n"
        "What people said of it:\n\n"
        "- 2026-01-01 00:01:00 UTC the cache was cold (by ana)\n\n"
    )
    (alone,) = follow((), observe({}, [condition()], {("slo", "bank")}, T0).values(), [], T0)
    page = postmortem(note(alone, "ana", "looking at it", T0 + 60.0), T0 + 90.0)
    assert "- Nothing was done about it that is known here." in page
    assert "## What was done\n\nNothing that is known here.\n\nWhat people said of it:" in page
