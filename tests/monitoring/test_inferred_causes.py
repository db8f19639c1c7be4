"""What was there while the usual was learnt is no cause; what is left may be inferred."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.monitoring.alerts import Alert, observe
from fairlead.monitoring.baseline import Baseline, Compared
from fairlead.monitoring.causes import APART_S, INFERRED_S, WITHIN_S, Cause, Change, inferred
from fairlead.monitoring.conditions import Condition, labels_of
from fairlead.monitoring.desk import Desk, Duties, Look, step
from fairlead.monitoring.postmortem import postmortem
from monitoring.making import condition

OF = labels_of(service="bank", release="b")
LEARNT_FROM, BEGAN = 1_000.0, 2_000.0
SHIPPED = Change(LEARNT_FROM - 1.0, "release", "b promoted", OF)
SEEN = {("errors", "bank")}
ERRORS = condition("errors", release="b")


def with_baseline(baseline: Baseline, of: Condition = ERRORS) -> Condition:
    return msgspec.structs.replace(of, baseline=baseline)


def held(compared: Compared, *, is_remote: bool = True, of: Condition = ERRORS) -> Condition:
    return with_baseline(Baseline(compared, LEARNT_FROM, is_remote), of)


def causes(*changes: Change, found: Condition = ERRORS, at: float = BEGAN) -> tuple[Cause, ...]:
    (alert,) = observe({}, [found], SEEN, at, changes).values()
    return alert.causes


def kinds(*changes: Change, found: Condition = ERRORS) -> list[tuple[str, bool]]:
    return [(one.change.kind, one.change.is_inferred) for one in causes(*changes, found=found)]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (ERRORS, [("release", False)]),
        (with_baseline(Baseline(Compared.ASKED, None)), [("release", False)]),
        (with_baseline(Baseline(None, LEARNT_FROM)), []),
        (held(Compared.ANSWERED), [("provider", True)]),
        (held(Compared.ANSWERED, is_remote=False), []),
        (held(Compared.ASKED), [("users", True)]),
        (held(Compared.ASKED, is_remote=False), [("users", True)]),
        (held(Compared.BOTH), [("provider", True)]),
        (held(Compared.BOTH, is_remote=False), [("users", True)]),
    ],
)
def test_a_promotion_before_what_it_is_held_against_is_no_cause(
    found: Condition, expected: list[tuple[str, bool]]
) -> None:
    assert kinds(SHIPPED, found=found) == expected


def test_clocks_that_are_a_little_apart_hide_nothing_and_bring_nothing_back() -> None:
    """The first requests may be dated before the switch that brought them."""
    moved = msgspec.structs.replace(SHIPPED, at=LEARNT_FROM + APART_S - 0.1)
    assert kinds(moved, found=held(Compared.ANSWERED)) == [("provider", True)]
    clock = msgspec.structs.replace(SHIPPED, kind="clock")
    assert kinds(clock, found=held(Compared.ANSWERED)) == [("clock", False), ("provider", True)]


def test_a_change_while_it_was_learnt_or_later_is_one() -> None:
    for at in (LEARNT_FROM + APART_S, BEGAN):
        moved = msgspec.structs.replace(SHIPPED, at=at)
        assert kinds(moved, found=held(Compared.ANSWERED)) == [
            ("release", False), ("provider", True),
        ]  # fmt: skip


@pytest.mark.parametrize("labels", [OF, labels_of(service="bank")])
@pytest.mark.parametrize(
    ("before_s", "is_first"), [(1.0, True), (INFERRED_S, True), (INFERRED_S + 1.0, False)]
)
def test_what_is_known_to_have_changed_within_the_hour_comes_first(
    labels: tuple[tuple[str, str], ...], before_s: float, is_first: bool
) -> None:
    found = with_baseline(Baseline(Compared.ANSWERED, 0.0, is_remote=True))
    at = 5.0 * INFERRED_S
    known = Change(at - before_s, "settings", "limits changed", labels)
    ranked = [one.change.is_inferred for one in causes(known, found=found, at=at)]
    assert ranked == ([False, True] if is_first else [True, False])


def test_what_names_nothing_of_the_alert_comes_behind_it_however_near() -> None:
    gone = Change(BEGAN - 1.0, "replica", "a replica of another service is gone", ())
    said = [one.change.what for one in causes(gone, found=held(Compared.ANSWERED))]
    assert said[0].startswith("the provider")
    assert said[1] == gone.what


def test_it_comes_behind_the_last_of_these_and_takes_the_place_of_the_furthest() -> None:
    found = with_baseline(Baseline(Compared.ANSWERED, 0.0, is_remote=True))
    at = 5.0 * INFERRED_S
    old = [Change(at - INFERRED_S - n, "settings", f"old {n}", OF) for n in range(1, 4)]
    recent = Change(at - INFERRED_S + 1.0, "traffic", "recent", labels_of(service="bank"))
    said = [one.change.what for one in causes(*old, recent, found=found, at=at)]
    assert said[:3] == ["old 1", "old 2", "old 3"], "nearer in place"
    assert said[3] == "recent"
    assert said[4].startswith("the provider")
    said = [one.change.what for one in causes(*old, *old, *old, found=found, at=at)]
    assert said[0].startswith("the provider")


def test_its_words_say_that_nobody_saw_it_and_its_labels_what_it_is_about() -> None:
    (cause,) = causes(found=held(Compared.ANSWERED))
    said = "the provider answers otherwise, or is asked otherwise (inferred, not seen)"
    assert cause.words == said
    assert cause.change.labels == OF
    (cause,) = causes(found=held(Compared.ASKED))
    assert cause.words == "users ask otherwise than they did (inferred, not seen)"


def test_what_was_learnt_at_a_time_that_is_not_yet_mutes_nothing() -> None:
    """The clock of the gateway was ahead."""
    found = with_baseline(Baseline(Compared.ANSWERED, BEGAN + 7_200.0, is_remote=True))
    assert kinds(SHIPPED, found=found) == [("release", False)]


def test_it_is_inferred_once_however_often_the_alert_comes_back() -> None:
    found, alerts = held(Compared.ANSWERED), dict[str, Alert]()
    late = Change(BEGAN + 20.0, "provider", "probes differ", OF, since=BEGAN - 10.0)
    for now, there, changes in (
        (BEGAN, True, []),
        (BEGAN + 20.0, True, [late]),
        (BEGAN + 30.0, False, []),
        (BEGAN + 900.0, False, []),
        (BEGAN + 1_000.0, True, [late]),
    ):
        alerts = observe(alerts, [found] if there else [], SEEN, now, changes)
    (alert,) = alerts.values()
    assert alert.returns
    assert [one.change.is_inferred for one in alert.causes] == [False, True]
    assert alert.causes[1].change.at == BEGAN + 1_000.0


def test_what_is_found_late_but_was_there_before_is_no_cause() -> None:
    found = held(Compared.ANSWERED)
    alerts = observe({}, [found], SEEN, BEGAN, [])
    early = Change(LEARNT_FROM - 5.0, "traffic", "traffic rose", labels_of(service="bank"))
    (alert,) = observe(alerts, [found], SEEN, BEGAN + 5.0, [early]).values()
    assert [one.change.kind for one in alert.causes] == ["provider"]


def test_a_post_mortem_names_it_once_and_dates_nothing_by_it() -> None:
    """Each alert of an incident infers it for itself, at its own time."""
    both = (held(Compared.ANSWERED), held(Compared.ANSWERED, of=condition("format", release="b")))
    looked, desk = tuple(SEEN | {("format", "bank")}), Desk()
    for now, found in ((BEGAN, both[:1]), (BEGAN + 9.0, both)):
        desk = step(desk, Duties(), Look(now, found, looked)).desk
    (incident,) = desk.incidents
    said = postmortem(incident, BEGAN + 20.0)
    assert "No change shortly before it is known: the provider answers otherwise" in said
    assert said.count("1. the provider answers otherwise") == 1
    assert "2. the provider answers otherwise" not in said
    assert "after the nearest change" not in said
    assert msgspec.json.decode(msgspec.json.encode(desk), type=Desk) == desk


def test_causes_are_looked_for_anew_where_an_alert_comes_to_say_something_else() -> None:
    """Whether a provider is slower, or only busier, may show itself minutes later."""
    busier, slower = with_baseline(Baseline(None, LEARNT_FROM)), held(Compared.ANSWERED)
    moved = Change(BEGAN - 60.0, "settings", "limits changed", OF)
    for first, then, expected in (
        (busier, slower, [("settings", False), ("provider", True)]),
        (slower, busier, [("settings", False)]),
    ):
        alerts = observe({}, [first], SEEN, BEGAN, [moved])
        later = Change(BEGAN + 200.0, "settings", "undone", OF)
        (alert,) = observe(alerts, [then], SEEN, BEGAN + 300.0, [moved, later]).values()
        assert [(one.change.kind, one.change.is_inferred) for one in alert.causes] == expected
        assert "undone" not in [one.change.what for one in alert.causes]


def test_the_summary_of_a_post_mortem_says_what_its_list_says_first() -> None:
    desk = Desk()
    moved = Change(BEGAN - 2.0 * INFERRED_S, "settings", "limits changed", OF)
    found = (with_baseline(Baseline(Compared.ANSWERED, 0.0 - WITHIN_S, is_remote=True)),)
    desk = step(desk, Duties(), Look(BEGAN, found, tuple(SEEN), changes=(moved,))).desk
    said = postmortem(desk.incidents[0], BEGAN + 20.0)
    assert "No change shortly before it is known: the provider answers otherwise" in said
    assert "after the nearest change" not in said
    assert "1. the provider answers otherwise" in said
    assert "2. limits changed" in said


def test_what_an_incident_began_with_is_not_what_changed_after_that() -> None:
    """What brought it back is in the timeline, and a cause of its alert."""
    found, desk = held(Compared.ANSWERED), Desk()
    moved = Change(BEGAN + 950.0, "settings", "limits changed", OF)
    for now, there, changes in (
        (BEGAN, True, ()), (BEGAN + 30.0, False, ()), (BEGAN + 900.0, False, ()),
        (BEGAN + 1_000.0, True, (moved,)),
    ):  # fmt: skip
        look = Look(now, (found,) if there else (), tuple(SEEN), changes=changes)
        desk = step(desk, Duties(), look).desk
    (incident,), (alert,) = desk.incidents, desk.alerts.values()
    (member,) = incident.members
    assert [one.change.kind for one in member.causes] == ["provider"]
    assert alert.causes[0].change == moved
    assert "limits changed" in [event.what for event in incident.timeline]


def test_what_is_inferred_is_about_the_release_and_as_near_for_an_alert_of_one_key() -> None:
    keyed = (*OF, ("key", "ada"))
    (cause,) = inferred(keyed, BEGAN, Baseline(Compared.ANSWERED, LEARNT_FROM, is_remote=True))
    assert (cause.place, cause.change.labels) == ("release", OF)
