"""What was there while the usual was learnt is no cause; what is left may be inferred."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.monitoring.alerts import Alert, observe
from fairlead.monitoring.baseline import Baseline, Compared
from fairlead.monitoring.causes import INFERRED_S, Cause, Change, causes_of
from fairlead.monitoring.conditions import Condition, labels_of
from fairlead.monitoring.desk import Desk, Duties, Look, step
from fairlead.monitoring.postmortem import postmortem
from monitoring.making import condition

OF = labels_of(service="bank", release="b")
LEARNT_FROM, BEGAN = 1_000.0, 2_000.0
SHIPPED = Change(LEARNT_FROM - 1.0, "release", "b promoted", OF)
SEEN = {("errors", "bank")}
ERRORS = condition("errors", release="b")


def held(compared: Compared, *, is_remote: bool = True) -> Condition:
    baseline = Baseline(compared, LEARNT_FROM, is_remote)
    return msgspec.structs.replace(ERRORS, baseline=baseline)


def causes(*changes: Change, found: Condition = ERRORS, at: float = BEGAN) -> tuple[Cause, ...]:
    (alert,) = observe({}, [found], SEEN, at, changes).values()
    return alert.causes


def kinds(*changes: Change, found: Condition = ERRORS) -> list[tuple[str, bool]]:
    return [(one.change.kind, one.change.is_inferred) for one in causes(*changes, found=found)]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (ERRORS, [("release", False)]),
        (msgspec.structs.replace(ERRORS, baseline=Baseline(Compared.ASKED)), [("release", False)]),
        (held(Compared.ANSWERED), [("provider", True)]),
        (held(Compared.ANSWERED, is_remote=False), []),
        (held(Compared.ASKED), [("traffic", True)]),
        (held(Compared.ASKED, is_remote=False), [("traffic", True)]),
    ],
)
def test_a_promotion_before_what_it_is_held_against_is_no_cause(
    found: Condition, expected: list[tuple[str, bool]]
) -> None:
    assert kinds(SHIPPED, found=found) == expected


def test_a_change_while_it_was_learnt_or_later_is_one() -> None:
    for at in (LEARNT_FROM, LEARNT_FROM + 1.0, BEGAN):
        moved = msgspec.structs.replace(SHIPPED, at=at)
        assert kinds(moved, found=held(Compared.ANSWERED)) == [
            ("release", False), ("provider", True),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "before_s", "is_first"),
    [
        (OF, INFERRED_S - 1.0, True),
        (OF, INFERRED_S + 1.0, False),
        (labels_of(service="bank"), INFERRED_S / 4.0 - 60.0, True),
        (labels_of(service="bank"), INFERRED_S / 4.0, False),
    ],
)
def test_what_is_known_to_have_changed_near_comes_first(
    labels: tuple[tuple[str, str], ...], before_s: float, is_first: bool
) -> None:
    baseline = Baseline(Compared.ANSWERED, 0.0, is_remote=True)
    found = msgspec.structs.replace(ERRORS, baseline=baseline)
    at = 5.0 * INFERRED_S
    known = Change(at - before_s, "settings", "limits changed", labels)
    ranked = [one.change.is_inferred for one in causes(known, found=found, at=at)]
    assert ranked == ([False, True] if is_first else [True, False])


def test_its_words_say_that_it_is_inferred_and_its_labels_what_it_is_about() -> None:
    (cause,) = causes(found=held(Compared.ANSWERED))
    assert cause.words == (
        "the provider answers otherwise, or is asked otherwise "
        "(inferred: nothing else is known to have changed as near)"
    )
    assert cause.change.labels == OF
    (cause,) = causes(found=held(Compared.ASKED))
    assert cause.words.startswith("users ask otherwise than they did (inferred")


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
    desk = Desk()
    other = msgspec.structs.replace(
        condition("format", release="b"), baseline=held(Compared.ANSWERED).baseline
    )
    for now, found in ((BEGAN, (ERRORS,)), (BEGAN + 9.0, (held(Compared.ANSWERED), other))):
        found = tuple(msgspec.structs.replace(one, baseline=other.baseline) for one in found)
        desk = step(desk, Duties(), Look(now, found, tuple(SEEN | {("format", "bank")}))).desk
    (incident,) = desk.incidents
    said = postmortem(incident, BEGAN + 20.0)
    assert said.count("1. the provider answers otherwise") == 1
    assert "2. the provider answers otherwise" not in said
    assert "after the nearest change" not in said
    assert msgspec.json.decode(msgspec.json.encode(desk), type=Desk) == desk


def test_what_is_inferred_is_about_the_release_and_as_near_for_an_alert_of_one_key() -> None:
    keyed = (*OF, ("key", "ada"))
    (cause,) = causes_of(keyed, BEGAN, [], Baseline(Compared.ANSWERED, LEARNT_FROM, is_remote=True))
    assert (cause.place, cause.change.labels) == ("release", OF)
