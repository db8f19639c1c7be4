"""Alerts follow what monitors find: level-triggered, crash-safe, and calm."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.errors import InvalidInput
from fairlead.monitoring.alert_states import TRANSITIONS, AlertState, diagram
from fairlead.monitoring.alerts import FORGET_S, GONE_S, KEEP_S_MAX, Alert, observe
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.causes import Change
from fairlead.monitoring.conditions import (
    QUOTE_CHARS_MAX,
    QUOTES_MAX,
    Condition,
    Figure,
    check_condition,
    fingerprint,
    labels_of,
)
from monitoring.making import condition

SLO = {("slo", "bank")}


def only(alerts: dict[str, Alert]) -> Alert:
    (alert,) = alerts.values()
    return alert


def test_a_condition_has_to_hold_before_it_is_an_alert() -> None:
    waits = condition(pending_s=60.0)
    alerts = observe({}, [waits], SLO, 100.0)
    assert only(alerts).state is AlertState.PENDING
    alerts = observe(alerts, [waits], SLO, 159.0)
    assert only(alerts).state is AlertState.PENDING
    alerts = observe(alerts, [waits], SLO, 160.0)
    assert (only(alerts).state, only(alerts).first_seen) == (AlertState.FIRING, 100.0)


def test_one_that_goes_away_before_was_never_an_alert() -> None:
    alerts = observe({}, [condition(pending_s=60.0)], SLO, 100.0)
    assert observe(alerts, [], SLO, 130.0) == {}


def test_an_alert_ends_when_its_condition_has_been_away_for_long_enough() -> None:
    alerts = observe({}, [condition()], SLO, 0.0)
    alerts = observe(alerts, [], SLO, 60.0)
    assert (only(alerts).is_firing, only(alerts).away_since) == (True, 60.0)
    alerts = observe(alerts, [], SLO, 359.0)
    assert only(alerts).is_firing
    alerts = observe(alerts, [], SLO, 360.0)
    ended = only(alerts)
    assert (ended.state, ended.last_seen) == (AlertState.RESOLVED, 0.0)
    assert observe(alerts, [], SLO, 360.0 + FORGET_S - 1.0) != {}
    assert observe(alerts, [], SLO, 360.0 + FORGET_S) == {}


def test_a_condition_that_is_back_in_time_never_ended() -> None:
    alerts = observe({}, [condition()], SLO, 0.0)
    alerts = observe(alerts, [], SLO, 200.0)
    alerts = observe(alerts, [condition()], SLO, 400.0)
    alerts = observe(alerts, [], SLO, 600.0)
    assert (only(alerts).is_firing, only(alerts).first_seen) == (True, 0.0)


def test_what_flaps_is_held_for_longer_each_time_up_to_an_hour() -> None:
    alerts, now, kept = observe({}, [condition()], SLO, 0.0), 0.0, []
    for _ in range(7):
        while only(alerts).is_firing:
            now += 60.0
            alerts = observe(alerts, [], SLO, now)
        kept.append(only(alerts).keep_s)
        alerts = observe(alerts, [condition()], SLO, now + 60.0)
        now += 60.0
    assert kept[:4] == [300.0, 600.0, 1200.0, 2400.0]
    assert max(kept) <= KEEP_S_MAX
    assert only(alerts).history[-1].why.startswith("back (")


def test_a_monitor_that_did_not_look_ends_no_alert() -> None:
    alerts = observe({}, [condition()], SLO, 0.0)
    later = observe(alerts, [], set(), 3_600.0)
    assert later == alerts
    gone = only(observe(alerts, [], set(), GONE_S))
    assert gone.state is AlertState.RESOLVED
    assert gone.history[-1].why == "its monitor has not looked for a day"


def test_another_severity_and_evidence_is_the_same_alert() -> None:
    alerts = observe({}, [condition(severity=Severity.TICKET)], SLO, 0.0)
    alerts = observe(alerts, [condition(severity=Severity.PAGE)], SLO, 60.0)
    assert (only(alerts).severity, only(alerts).first_seen) == (Severity.PAGE, 0.0)


def test_the_same_labels_in_another_order_are_the_same_alert() -> None:
    one = (("service", "bank"), ("monitor", "slo"))
    assert fingerprint(one) == fingerprint(tuple(reversed(one)))
    assert fingerprint(one) != fingerprint((("service", "bank"), ("monitor", "slo2")))
    twice = observe({}, [condition(), condition()], SLO, 0.0)
    assert len(twice) == 1


def test_the_nearest_change_in_place_and_time_is_the_first_candidate() -> None:
    changes = [
        Change(9_000.0, "release", "other service shipped", labels_of(service="other")),
        Change(9_400.0, "rollout", "bank went to 50%", labels_of(service="bank")),
        Change(8_800.0, "replica", "r1 restarted", labels_of(service="bank", replica="r1")),
        Change(9_990.0, "provider", "network reconfigured"),
        Change(10_500.0, "rollout", "rolled back", labels_of(service="bank")),
        Change(-90_000.0, "release", "long ago", labels_of(service="bank")),
    ]
    found = condition("latency", replica="r1")
    alert = only(observe({}, [found], {("latency", "bank")}, 10_000.0, changes))
    assert [cause.change.what for cause in alert.causes] == [
        "r1 restarted", "network reconfigured", "bank went to 50%",
    ]  # fmt: skip
    assert alert.causes[0].words == "r1 restarted, 20 min before (same replica)"


def test_a_cause_that_is_found_out_a_little_later_is_added_and_one_that_follows_is_not() -> None:
    of = labels_of(service="bank", release="b")
    known = [Change(9_000.0, "release", "b promoted", of)]
    seen = {("format", "bank")}
    found = condition("format", release="b")
    alerts = observe({}, [found], seen, 10_000.0, known)
    provider = Change(10_020.0, "provider", "the provider answers otherwise", of, since=9_990.0)
    back = Change(10_020.0, "rollout", "b rolling back", of)
    alerts = observe(alerts, [found], seen, 10_022.0, [*known, provider, back])
    said = [cause.change.what for cause in only(alerts).causes]
    assert said == ["the provider answers otherwise", "b promoted"]
    alerts = observe(alerts, [found], seen, 10_024.0)
    assert [cause.change.what for cause in only(alerts).causes] == said
    late = Change(10_090.0, "provider", "it is another one again", of, since=10_070.0)
    alerts = observe(alerts, [found], seen, 10_091.0, [*known, provider, late])
    assert [cause.change.what for cause in only(alerts).causes] == said


@pytest.mark.parametrize(
    "wrong",
    [
        Condition(labels_of(service="x"), Severity.PAGE, "no monitor"),
        Condition((("monitor", "a"), ("monitor", "b")), Severity.PAGE, "twice"),
        Condition(labels_of(monitor="x" * 300), Severity.PAGE, "long"),
        condition(keep_s=math.nan),
        condition(pending_s=-1.0),
    ],
)
def test_a_condition_that_makes_no_sense_is_refused(wrong: Condition) -> None:
    with pytest.raises(InvalidInput, match="condition of monitor"):
        observe({}, [wrong], SLO, 0.0)


@pytest.mark.parametrize(
    ("value", "words"),
    [(12_345.0, "12,345"), (-2_000.4, "-2,000"), (999.94, "999.9"), (0.00012, "0.00012"),
     (1e30, "1e+30"), (math.nan, "nan"), (math.inf, "inf")],
)  # fmt: skip
def test_numbers_are_written_as_people_read_them(value: float, words: str) -> None:
    assert Figure("lag", value, "s", limit=value).words == f"lag: {words} s (limit {words} s)"


def test_the_diagram_has_every_transition() -> None:
    for origin, targets in TRANSITIONS.items():
        for to in targets:
            assert f"{origin} --> {to}" in diagram()


LOOKS = st.lists(
    st.tuples(
        st.integers(0, 900),
        st.sets(st.sampled_from(["r1", "r2", "r3"])),
        st.booleans(),
    ),
    max_size=30,
)


@given(LOOKS)
def test_the_same_facts_twice_and_a_crash_change_nothing(
    looks: list[tuple[int, set[str], bool]],
) -> None:
    """Each look is made twice, with the alerts written and read again in between."""
    alerts: dict[str, Alert] = {}
    now = 0.0
    for wait, replicas, looked in looks:
        now += wait
        found = [condition(replica=replica, pending_s=120.0) for replica in sorted(replicas)]
        after = observe(alerts, found, SLO if looked else set(), now)
        again = msgspec.json.decode(msgspec.json.encode(after), type=dict[str, Alert])
        assert again == after
        assert observe(again, found, SLO if looked else set(), now) == after
        for key, alert in after.items():
            assert key == alert.fingerprint == fingerprint(alert.labels)
            assert alert.first_seen <= alert.last_seen <= now
            before = alerts.get(key)
            if before is not None and before.state is not alert.state:
                assert alert.state in TRANSITIONS[before.state]
        alerts = after


def test_a_release_is_named_as_in_metrics_so_that_both_can_be_joined() -> None:
    digest = "sha256:" + "0123456789ab" * 5 + "cdef"
    assert labels_of(monitor="slo", release=digest) == (
        ("monitor", "slo"), ("release", "0123456789ab"),
    )  # fmt: skip
    assert labels_of(release="0123456789ab") == (("release", "0123456789ab"),)


def test_quotes_are_bounded() -> None:
    for quotes in (("x",) * (QUOTES_MAX + 1), ("x" * (QUOTE_CHARS_MAX + 1),)):
        with pytest.raises(InvalidInput, match="it quotes too much"):
            check_condition(msgspec.structs.replace(condition(), quotes=quotes))
    check_condition(msgspec.structs.replace(condition(), quotes=("x" * QUOTE_CHARS_MAX,) * 6))
