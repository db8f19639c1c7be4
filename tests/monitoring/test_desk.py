"""From counted requests to the post-mortem, on simulated time, with a crash at every step."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.monitoring.actions import (
    LATE_S,
    ActionKind,
    ActionPolicy,
    ActionVerdict,
    Circumstances,
)
from fairlead.monitoring.alerts import ALERTS_MAX, Condition, labels_of
from fairlead.monitoring.burning import Bucket, Severity, assess
from fairlead.monitoring.causes import Change
from fairlead.monitoring.desk import CONDITIONS_MAX, Desk, Duties, Look, note_done, note_told, step
from fairlead.monitoring.incidents import IncidentState
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
            now, found, ("slo",), changes=(SHIPPED,), circumstances={"bank": seen},
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
    look = Look(100.0, (condition(),), ("slo",), circumstances=seen)
    outcome = step(Desk(), DUTIES, look)
    (entry,) = outcome.actions
    again = step(reread(outcome.desk), DUTIES, msgspec.structs.replace(look, now=160.0))
    assert again.actions == [entry]
    done = note_done(again.desk, entry, "done", 170.0)
    assert step(done, DUTIES, msgspec.structs.replace(look, now=180.0)).actions == []
    late = step(again.desk, DUTIES, msgspec.structs.replace(look, now=100.0 + LATE_S))
    assert late.actions == []
    assert [one.verdict for one in late.desk.audit] == [ActionVerdict.ACT]


def test_without_circumstances_nothing_is_decided() -> None:
    outcome = step(Desk(), DUTIES, Look(100.0, (condition(),), ("slo",)))
    assert (outcome.actions, outcome.desk.audit) == ([], ())
    assert len(outcome.messages) == 1


def test_a_monitor_that_says_nonsense_stops_no_other_and_is_an_alert() -> None:
    bad = Condition(labels_of(monitor="drift", service="x" * 300), Severity.PAGE, "broken")
    desk = step(Desk(), DUTIES, Look(100.0, (bad, condition()), ("slo", "drift"))).desk
    found = {alert.of["monitor"]: alert for alert in desk.alerts.values()}
    assert set(found) == {"slo", BLIND}
    assert "a label has more than 256 characters" in found[BLIND].summary


def test_more_conditions_than_there_is_room_for_are_said_and_the_first_are_kept() -> None:
    many = tuple(condition(replica=str(index)) for index in range(CONDITIONS_MAX + 5))
    desk = step(Desk(), Duties(), Look(100.0, many, ("slo",))).desk
    assert len(desk.alerts) == CONDITIONS_MAX + 1
    assert any(alert.of["monitor"] == BLIND for alert in desk.alerts.values())
    others = tuple(condition(shard=str(index)) for index in range(CONDITIONS_MAX))
    again = tuple(condition(place=str(index)) for index in range(CONDITIONS_MAX))
    for now, found in ((200.0, others), (300.0, again)):
        desk = step(desk, Duties(), Look(now, found, ("slo",))).desk
    assert len(desk.alerts) == ALERTS_MAX


def test_a_silent_monitor_is_found_by_the_desk_and_its_alerts_stay() -> None:
    duties = Duties((ROUTE,), watches=(Watch("slo", "bank", 60.0),))
    report = Report("slo", "bank", 100.0, self_tested_at=100.0)
    look = Look(100.0, (condition(),), ("slo",), (report,), 0.0)
    desk = step(Desk(), duties, look).desk
    assert [alert.of["monitor"] for alert in desk.alerts.values()] == ["slo"]
    later = Look(1_000.0, reports=(report,))
    desk = step(desk, duties, later).desk
    firing = {alert.of["monitor"] for alert in desk.alerts.values() if alert.is_firing}
    assert firing == {"slo", BLIND}


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
        outcome = step(reread(desk), Duties((route,)), Look(now, conditions, ("latency",)))
        desk = outcome.desk
        for message in outcome.messages if arrives else []:
            assert not {a.fingerprint for a in message.resolved} - open_ones
            open_ones |= {alert.fingerprint for alert in message.firing}
            open_ones -= {alert.fingerprint for alert in message.resolved}
            desk = note_told(desk, {message.key: message.told})
    assert open_ones == set()
    assert all(not incident.is_open for incident in desk.incidents)
