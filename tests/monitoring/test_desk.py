"""From counted requests to the post-mortem, on simulated time, with a crash at every step."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.monitoring.actions import (
    ActionKind,
    ActionPolicy,
    ActionVerdict,
    Circumstances,
)
from fairlead.monitoring.alerts import ALERTS_MAX, FORGET_S
from fairlead.monitoring.burning import Bucket, Severity, assess
from fairlead.monitoring.carrying_out import LATE_S
from fairlead.monitoring.causes import Change
from fairlead.monitoring.conditions import Condition, labels_of
from fairlead.monitoring.desk import CONDITIONS_MAX, Desk, Duties, Look, note_done, note_told, step
from fairlead.monitoring.incidents import QUIET_S, Event, IncidentState
from fairlead.monitoring.inhibition import BLIND
from fairlead.monitoring.objectives import Objective, ObjectiveKind
from fairlead.monitoring.postmortem import postmortem
from fairlead.monitoring.promising import conditions_of
from fairlead.monitoring.telling import Message, Route
from fairlead.monitoring.watchers import Report, Watch
from monitoring.making import condition

UP = Objective(ObjectiveKind.AVAILABILITY, 0.995)
ROUTE = Route("ops", (Severity.PAGE,), wait_s=0.0)
BACK = ActionPolicy(ActionKind.ROLL_BACK, ("slo",), cooldown_s=600.0)
DUTIES = Duties((ROUTE,), {"bank": (BACK,)})
SHIPPED = Change(400 * 60.0, "rollout", "release b promoted", labels_of(service="bank"))


def reread(desk: Desk) -> Desk:
    """The desk as a control finds it that was started again."""
    found = msgspec.json.decode(msgspec.json.encode(desk), type=Desk)
    assert found == desk
    return found


class World:
    """A service whose release b fails 30 % of the requests until it is rolled back."""

    def __init__(self) -> None:
        self.desk, self.buckets = Desk(), [Bucket(60.0 * i, 20, 0) for i in range(1, 401)]
        self.champion, self.sent = "b", list[Message]()
        self.rolled_back: list[float] = []

    def minute(self, minute: int) -> None:
        now = 60.0 * minute
        self.buckets.append(Bucket(now, 20, 6 if self.champion == "b" else 0))
        found = conditions_of("bank", assess(UP, self.buckets, now))
        seen = Circumstances(self.champion, SHIPPED.at, "a" if self.champion == "b" else None)
        look = Look(
            now, found, (("slo", "bank"),), changes=(SHIPPED,), circumstances={"bank": seen},
        )  # fmt: skip
        outcome = step(reread(self.desk), DUTIES, look)
        assert step(outcome.desk, DUTIES, look) == outcome, "the same look changes nothing"
        self.desk = outcome.desk
        for message in outcome.messages:
            self.sent.append(message)
            self.desk = note_told(self.desk, {message.key: message.told})
        for entry in outcome.actions:
            self.champion = entry.target
            self.rolled_back.append(now)
            self.desk = note_done(self.desk, entry, "release a serves", now)


def test_a_bad_release_is_paged_rolled_back_and_told_as_a_story() -> None:
    world = World()
    for minute in range(401, 1_000):
        world.minute(minute)
    assert len(world.rolled_back) == 1
    assert world.rolled_back[0] <= 420 * 60.0, "within twenty minutes of a failure rate of 30 %"
    begin, end = world.sent
    assert end.at - world.rolled_back[0] < 3_600.0, "the pager hears of the end within the hour"
    assert (len(begin.firing), len(end.firing), len(end.resolved)) == (1, 0, 1)
    (incident,) = world.desk.incidents
    assert incident.state is IncidentState.CLOSED
    page = postmortem(incident, 1_000 * 60.0)
    assert "1. release b promoted, " in page
    assert "roll\\_back a: release a serves" in page
    assert "after: roll\\_back a: release a serves" in page.splitlines()[-1]


def test_an_action_is_due_until_it_is_done_also_after_a_crash_and_not_too_late() -> None:
    seen = {"bank": Circumstances("b", 0.0, "a")}
    look = Look(100.0, (condition(),), (("slo", "bank"),), circumstances=seen)
    outcome = step(Desk(), DUTIES, look)
    (entry,) = outcome.actions
    again = step(reread(outcome.desk), DUTIES, msgspec.structs.replace(look, now=160.0))
    assert again.actions == [entry]
    done = note_done(again.desk, entry, "done", 170.0)
    assert step(done, DUTIES, msgspec.structs.replace(look, now=180.0)).actions == []
    late = step(again.desk, DUTIES, msgspec.structs.replace(look, now=100.0 + LATE_S))
    assert late.actions == []
    assert [one.verdict for one in late.desk.audit] == [ActionVerdict.ACT]


def test_an_action_that_nobody_carried_out_is_given_up_and_told() -> None:
    seen = {"bank": Circumstances("b", 0.0, "a")}
    look = Look(100.0, (condition(),), (("slo", "bank"),), circumstances=seen)
    outcome = step(Desk(), DUTIES, look)
    (entry,) = outcome.actions
    late = msgspec.structs.replace(look, now=100.0 + LATE_S)
    desk = step(outcome.desk, DUTIES, late).desk
    assert step(desk, DUTIES, late).desk == desk
    assert desk.audit[0].outcome == "given up: not carried out within ten minutes"
    (told,) = (alert for alert in desk.alerts.values() if alert.of["monitor"] == "actions")
    assert told.summary == (
        "bank: roll_back a was decided; it is given up: not carried out within ten minutes"
    )
    for now in (800.0, 4_400.0, 4_800.0, 4_800.0 + QUIET_S):
        desk = step(desk, DUTIES, Look(now, (), (("slo", "bank"),))).desk
    assert not any(alert.is_firing for alert in desk.alerts.values())
    (incident,) = desk.incidents
    assert incident.resolution is not None
    assert "nothing was done" in incident.resolution.words
    assert "roll\\_back a: given up" in postmortem(incident, 9_000.0)
    done = note_done(desk, entry, "release a serves, late", 900.0)
    assert done.audit[0].outcome == "release a serves, late"
    assert note_done(done, entry, "again", 901.0) == done


def test_what_was_decided_and_came_to_nothing_helped_nobody() -> None:
    seen = {"bank": Circumstances("b", 0.0, None)}
    desk, looked = Desk(), (("slo", "bank"),)
    desk = step(desk, DUTIES, Look(100.0, (condition(),), looked, circumstances=seen)).desk
    assert desk.audit[0].verdict is ActionVerdict.IMPOSSIBLE
    for now in (200.0, 500.0, 500.0 + QUIET_S):
        desk = step(desk, DUTIES, Look(now, (), looked)).desk
    (incident,) = desk.incidents
    assert incident.resolution is not None
    assert "nothing was done" in incident.resolution.words
    assert "no earlier release" in postmortem(incident, 9_000.0)


def test_a_flood_of_decisions_makes_no_limit_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.monitoring.desk.AUDIT_MAX", 5)
    seen = {"bank": Circumstances("b", 0.0, "a")}
    duties = Duties(actions={"bank": (msgspec.structs.replace(BACK, cooldown_s=0.0),)})
    look = Look(100.0, (condition(),), (("slo", "bank"),), circumstances=seen)
    desk = step(Desk(), duties, look).desk
    (act,) = desk.audit
    stuck = {"bank": Circumstances("b", 0.0, None)}
    for minute in range(2, 10):
        found = (condition(release=f"r{minute}"),)
        look = Look(60.0 * minute, found, (("slo", "bank"),), circumstances=stuck)
        desk = step(desk, duties, look).desk
    assert len(desk.audit) == 5
    assert [entry.verdict.value for entry in desk.audit] == ["act", *["impossible"] * 4]
    assert desk.audit[0].key == act.key
    assert desk.audit[-1].at == 540.0


def test_without_circumstances_nothing_is_decided() -> None:
    outcome = step(Desk(), DUTIES, Look(100.0, (condition(),), (("slo", "bank"),)))
    assert (outcome.actions, outcome.desk.audit) == ([], ())
    assert len(outcome.messages) == 1


def test_a_monitor_that_says_nonsense_stops_no_other_and_is_an_alert() -> None:
    bad = Condition(labels_of(monitor="drift", service="x" * 300), Severity.PAGE, "broken")
    desk = step(
        Desk(), DUTIES, Look(100.0, (bad, condition()), (("slo", "bank"), ("drift", "bank")))
    ).desk
    found = {alert.of["monitor"]: alert for alert in desk.alerts.values()}
    assert set(found) == {"slo", BLIND}
    assert "a label has more than 256 characters" in found[BLIND].summary


def test_more_conditions_than_there_is_room_for_are_said_and_the_first_are_kept() -> None:
    many = tuple(condition(replica=str(index)) for index in range(CONDITIONS_MAX + 5))
    desk = step(Desk(), Duties(), Look(100.0, many, (("slo", "bank"),))).desk
    assert len(desk.alerts) == CONDITIONS_MAX + 1
    assert any(alert.of["monitor"] == BLIND for alert in desk.alerts.values())
    others = tuple(condition(shard=str(index)) for index in range(CONDITIONS_MAX))
    again = tuple(condition(place=str(index)) for index in range(CONDITIONS_MAX))
    for now, found in ((200.0, others), (300.0, again)):
        desk = step(desk, Duties(), Look(now, found, (("slo", "bank"),))).desk
    assert len(desk.alerts) == ALERTS_MAX


def test_a_silent_monitor_is_found_by_the_desk_and_its_alerts_stay() -> None:
    duties = Duties((ROUTE,), watches=(Watch("slo", "bank", 60.0),))
    report = Report("slo", "bank", 100.0, self_tested_at=100.0)
    look = Look(100.0, (condition(),), (("slo", "bank"),), (report,), 0.0)
    desk = step(Desk(), duties, look).desk
    assert [alert.of["monitor"] for alert in desk.alerts.values()] == ["slo"]
    later = Look(1_000.0, reports=(report,))
    desk = step(desk, duties, later).desk
    firing = {alert.of["monitor"] for alert in desk.alerts.values() if alert.is_firing}
    assert firing == {"slo", BLIND}


def test_promises_that_nobody_sees_for_long_call_somebody() -> None:
    duties = Duties((ROUTE,), watches=(Watch("slo", "bank", 60.0, page_after_s=900.0),))
    desk, sent = Desk(), list[Message]()
    for minute in range(20):
        report = Report("slo", "bank", 60.0 * minute, error="no", self_tested_at=0.0)
        outcome = step(desk, duties, Look(60.0 * minute, reports=(report,)))
        sent += outcome.messages
        desk = note_told(outcome.desk, {one.key: one.told for one in outcome.messages})
    (message,) = sent
    assert (message.at, message.severity) == (900.0, Severity.PAGE)


@pytest.mark.parametrize(
    ("champion", "why"),
    [("sha256:" + "cd" * 32, "release {} is not what serves now"), ("sha256:" + "ab" * 32, "away")],
)
def test_that_another_release_serves_is_no_sign_that_it_is_over(champion: str, why: str) -> None:
    """Nobody looks any more for what was wrong with the one before; its incident says so."""
    drift = condition("drift", severity=Severity.TICKET, release="sha256:" + "ab" * 32)
    looked, moved = (drift.seen_by,), Event(200.0, "rollout", "b serves", labels_of(service="bank"))
    desk = step(Desk(), Duties(), Look(100.0, (drift,), looked)).desk
    seen = {"bank": Circumstances(champion)}
    for now in (300.0, 600.0, 600.0 + QUIET_S):
        look = Look(now, (), looked, events=(moved,), circumstances=seen)
        desk = step(reread(desk), Duties(), look).desk
        assert step(desk, Duties(), look).desk == desk
    ((alert,), (incident,)) = desk.alerts.values(), desk.incidents
    assert alert.history[-1].why.startswith(why.format(alert.of["release"]))
    assert incident.resolution is not None
    assert incident.resolution.words == "no alert for 15 minutes, after: b serves"
    assert why.format(alert.of["release"]) in postmortem(incident, 2_000.0)


def test_what_a_receiver_knows_is_forgotten_with_the_alert() -> None:
    """One that is told of no ends would otherwise know more with each alert."""
    duties = Duties((msgspec.structs.replace(ROUTE, resolved=False),))
    looked = (("slo", "bank"),)
    outcome = step(Desk(), duties, Look(100.0, (condition(),), looked))
    (message,) = outcome.messages
    desk = note_told(outcome.desk, {message.key: message.told})
    assert len(desk.told[message.key].firing) == 1
    for now in (200.0, 500.0, 500.0 + FORGET_S):
        desk = step(desk, duties, Look(now, (), looked)).desk
    assert (desk.alerts, desk.told[message.key].firing) == ({}, ())


def test_no_open_incident_is_dropped_and_no_number_given_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fairlead.monitoring.desk.INCIDENTS_MAX", 2)
    desk, lasting = Desk(), [condition(service="bank"), condition(service="cafe")]
    for index in range(4):
        short = condition(service=f"shop{index}")
        looked = tuple(one.seen_by for one in (*lasting, short))
        for wait, found in ((0.0, (*lasting, short)), *((t, lasting) for t in (60.0, 400.0, 1e4))):
            look = Look(2e4 * (index + 1) + wait, tuple(found), looked)
            desk = step(desk, Duties(), look).desk
    assert [(one.number, one.is_open) for one in desk.incidents] == [
        (1, True), (2, True), (6, False),
    ]  # fmt: skip


def test_an_end_that_was_not_told_is_kept_also_for_a_receiver_with_a_service_in_its_name() -> None:
    duties = Duties((msgspec.structs.replace(ROUTE, receiver="bank/ops"),))
    looked = (("slo", "bank"),)
    outcome = step(Desk(), duties, Look(100.0, (condition(),), looked))
    (message,) = outcome.messages
    desk = note_told(outcome.desk, {message.key: message.told})
    for now in (200.0, 500.0, 500.0 + 2 * FORGET_S):
        outcome = step(desk, duties, Look(now, (), looked))
        desk = outcome.desk
    (end,) = outcome.messages
    assert (end.receiver, len(end.resolved)) == ("bank/ops", 1)


BOTH = (("slo", "bank"), ("slo", "shop"))
LONG = "x" * 300


def ended(look: Look, duties: Duties = DUTIES) -> set[str]:
    """Services whose page, open for an hour, ends when this is seen for an hour."""
    pages = (condition(), condition(service="shop"))
    desk = step(Desk(), Duties(), Look(100.0, pages, BOTH)).desk
    for now in (3_600.0, 7_200.0):
        desk = step(desk, duties, msgspec.structs.replace(look, now=now)).desk
    return {
        alert.of["service"]
        for alert in desk.alerts.values()
        if alert.of["monitor"] == "slo" and not alert.is_firing
    }


def test_a_monitor_that_looked_at_one_service_ends_no_alert_of_another() -> None:
    assert ended(Look(0.0, looked=BOTH)) == {"bank", "shop"}
    assert ended(Look(0.0, looked=BOTH[1:])) == {"shop"}


@pytest.mark.parametrize(
    ("labels", "services"),
    [
        (labels_of(monitor="slo", service="bank", slo=LONG), {"shop"}),
        (labels_of(monitor="slo", service=LONG), set()),
        (labels_of(service="bank"), set()),
        (labels_of(monitor="drift", service="bank", release=LONG), {"bank", "shop"}),
    ],
)
def test_a_monitor_that_says_nonsense_ends_no_alert_of_what_it_may_have_meant(
    labels: tuple[tuple[str, str], ...], services: set[str]
) -> None:
    bad = Condition(labels, Severity.PAGE, "broken")
    assert ended(Look(0.0, (bad,), (*BOTH, ("drift", "bank")))) == services


def test_what_had_no_room_ends_no_alert_of_the_monitor_that_said_it() -> None:
    many = tuple(condition("drift", replica=str(index)) for index in range(CONDITIONS_MAX))
    look = Look(0.0, (*many, condition(slo="cut")), (*BOTH, ("drift", "bank")))
    assert ended(look) == {"shop"}


@pytest.mark.parametrize(
    ("fields", "services"),
    [
        ({"error": "the store does not answer"}, {"shop"}),
        ({"requests": 50}, {"shop"}),
        ({"self_test_error": "it did not find its fault"}, {"shop"}),
        ({"self_tested_at": -1e6}, {"bank", "shop"}),
    ],
)
def test_a_monitor_that_could_not_see_ends_nothing_though_it_says_that_it_looked(
    fields: dict[str, Any], services: set[str]
) -> None:
    seen: dict[str, Any] = {"at": 7_200.0, "self_tested_at": 7_000.0, **fields}
    duties = Duties(watches=(Watch("slo", "bank", 3_600.0),))
    assert ended(Look(0.0, (), BOTH, (Report("slo", "bank", **seen),)), duties) == services


def test_an_error_counts_also_where_nothing_is_expected_of_the_monitor() -> None:
    report = Report("slo", "bank", 7_200.0, error="the store does not answer")
    assert ended(Look(0.0, (), BOTH, (report,))) == {"shop"}


YEAR_S = 365 * 86_400.0


def test_a_clock_that_was_set_back_mutes_nothing() -> None:
    """It was a year ahead when the alert began, and is put right."""
    now, looked = 1e6, (("slo", "bank"),)
    seen = {"bank": Circumstances("b", now + YEAR_S, "a")}
    found = (condition(),)
    outcome = step(Desk(), DUTIES, Look(now + YEAR_S, found, looked, circumstances=seen))
    (message,), (entry,) = outcome.messages, outcome.actions
    desk = note_told(outcome.desk, {message.key: message.told})
    desk = note_done(desk, entry, "release a serves", now + YEAR_S)
    desk = step(desk, DUTIES, Look(now, found, looked)).desk
    assert reread(desk) == desk
    times = msgspec.json.decode(msgspec.json.encode(desk))
    assert max(numbers(times)) <= now
    quick = msgspec.structs.replace(ROUTE, interval_s=0.0)
    repeated = step(desk, Duties((quick,)), Look(now + quick.repeat_s, found, looked))
    assert len(repeated.messages) == 1, "it is told again after four hours and not after a year"
    again = (condition(slo="ttft"),)
    seen = {"bank": Circumstances("c", now, "b")}
    acted = step(desk, DUTIES, Look(now + 601.0, again, looked, circumstances=seen))
    assert len(acted.actions) == 1, "it has cooled down after ten minutes"
    for after in (60.0, 360.0, 360.0 + QUIET_S):
        desk = step(desk, DUTIES, Look(now + after, (), looked)).desk
    assert not any(alert.is_firing for alert in desk.alerts.values())
    assert not desk.incidents[0].is_open


def test_what_was_done_is_noted_though_the_clock_was_set_back_in_between() -> None:
    seen = {"bank": Circumstances("b", 5_000.0, "a")}
    looked = (("slo", "bank"),)
    outcome = step(Desk(), DUTIES, Look(5_000.0, (condition(),), looked, circumstances=seen))
    (entry,) = outcome.actions
    desk = step(outcome.desk, DUTIES, Look(1_000.0, (condition(),), looked)).desk
    assert step(note_done(desk, entry, "done", 1_010.0), DUTIES, Look(1_020.0)).actions == []


def numbers(document: object) -> list[float]:
    """Every number in a document that is no figure of evidence or severity."""
    if isinstance(document, dict):
        kept = [value for name, value in document.items() if name not in ("evidence", "keep_s")]
        return [one for value in kept for one in numbers(value)]
    if isinstance(document, list):
        return [one for value in document for one in numbers(value)]
    return [float(document)] if isinstance(document, int | float) else []


@pytest.mark.parametrize("damage", [b"{", b'{"alerts": 5}', b'{"more": 1}', b'{"told":{"a":1}}'])
def test_a_damaged_desk_is_refused_whole(damage: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(damage, type=Desk)


FOUND = st.sets(st.sampled_from(["r1", "r2", "r3", "r4"]), max_size=4)


@given(st.lists(st.tuples(st.integers(1, 900), FOUND, st.booleans()), max_size=25))
def test_told_alerts_are_told_over_once_and_the_desk_survives_every_step(
    looks: list[tuple[int, set[str], bool]],
) -> None:
    """Whoever was told that something fires hears of its end; a crash loses nothing."""
    desk, now = Desk(), 0.0
    open_ones: set[str] = set()
    route = Route("ops", wait_s=0.0, interval_s=0.0)
    idle = [(4_000, set[str](), True)] * 3
    for wait, replicas, arrives in [*looks, *idle]:
        now += wait
        conditions: tuple[Condition, ...] = tuple(
            condition("latency", replica=replica) for replica in sorted(replicas)
        )
        outcome = step(
            reread(desk), Duties((route,)), Look(now, conditions, (("latency", "bank"),))
        )
        desk = outcome.desk
        for message in outcome.messages if arrives else []:
            assert not {a.fingerprint for a in message.resolved} - open_ones
            open_ones |= {alert.fingerprint for alert in message.firing}
            open_ones -= {alert.fingerprint for alert in message.resolved}
            desk = note_told(desk, {message.key: message.told})
    assert open_ones == set()
    assert all(not incident.is_open for incident in desk.incidents)


def test_every_alert_says_where_it_is_read_what_to_do() -> None:
    """Also what the platform, the desk itself and the courier say of a service, or of none."""
    own = msgspec.structs.replace(condition("drift"), runbook="https://y.example/")
    nobody = Condition(labels_of(monitor="notifications", receiver="x"), Severity.PAGE, "x: no")
    found = (condition("service_down"), condition("service_down", "shop"), own, nobody)
    duties = Duties(
        watches=(Watch("slo", "bank", 60.0),), runbooks={"bank": "https://x.example/{monitor}#now"}
    )
    desk = step(Desk(), duties, Look(1_000.0, found, ())).desk
    assert {
        (alert.of["monitor"], alert.of.get("service")): alert.runbook
        for alert in desk.alerts.values()
    } == {
        ("service_down", "bank"): "https://x.example/service_down#now",
        ("service_down", "shop"): "docs/alerts.md#service_down",
        ("drift", "bank"): "https://y.example/",
        ("notifications", None): "https://x.example/notifications#now",
        (BLIND, "bank"): "https://x.example/monitor_blind#now",
    }
    two = {"bank": "https://x.example/", "shop": "https://y.example/"}
    alone = step(Desk(), Duties(runbooks=two), Look(1_000.0, (nobody,), ())).desk
    assert [one.runbook for one in alone.alerts.values()] == ["docs/alerts.md#notifications"]
