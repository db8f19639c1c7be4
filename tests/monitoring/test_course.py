"""The course of an alert: bounded, spread evenly over the episode, and kept with it."""

from __future__ import annotations

import itertools
import math
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.monitoring.alerts import Alert, observe
from fairlead.monitoring.clock import alert_until
from fairlead.monitoring.conditions import Condition, Figure
from fairlead.monitoring.course import POINTS_MAX, Course, course_until, grown, sparkline
from monitoring.making import condition

SLO = {("slo", "bank")}


def seen(value: float, name: str = "burn rate over 1 h") -> Condition:
    figure = Figure(name, value, limit=14.4)
    return msgspec.structs.replace(condition(), evidence=(figure,))


def only(alerts: dict[str, Alert]) -> Alert:
    (alert,) = alerts.values()
    return alert


def told(*values: float) -> dict[str, Alert]:
    alerts: dict[str, Alert] = {}
    for minute, value in enumerate(values):
        alerts = observe(alerts, [seen(value)], SLO, 60.0 * minute)
    return alerts


def test_an_alert_keeps_how_its_first_figure_went() -> None:
    alerts = told(20.0, 30.0, 25.5)
    assert only(alerts).course == ((0.0, 20.0), (60.0, 30.0), (120.0, 25.5))
    again = observe(alerts, [seen(25.5)], SLO, 120.0)
    assert again == alerts, "the same look again is no further point"


def test_a_look_without_its_condition_adds_nothing() -> None:
    assert only(observe(told(20.0), [], SLO, 60.0)).course == ((0.0, 20.0),)


def test_a_return_begins_a_course_of_its_own() -> None:
    alerts = told(20.0, 30.0)
    for now in (120.0, 420.0):
        alerts = observe(alerts, [], SLO, now)
    ended = only(alerts)
    assert not ended.is_firing
    assert len(ended.course) == 2, "what has ended can still be looked at"
    assert only(observe(alerts, [seen(50.0)], SLO, 600.0)).course == ((600.0, 50.0),)


def test_another_first_figure_begins_a_course_of_its_own() -> None:
    other = seen(7.0, "burn rate over 6 h")
    assert only(observe(told(20.0, 30.0), [other], SLO, 120.0)).course == ((120.0, 7.0),)


def test_a_condition_without_evidence_has_no_course() -> None:
    bare = msgspec.structs.replace(condition(), evidence=())
    assert only(observe({}, [bare], SLO, 0.0)).course == ()


def test_what_is_no_number_is_no_point_and_can_be_kept_and_read_again() -> None:
    nan, inf = Figure("a", math.nan), Figure("b", -math.inf, limit=math.inf)
    wild = msgspec.structs.replace(condition(), evidence=(nan, inf, Figure("c", 1.0, "", math.nan)))
    alert = only(observe({}, [wild], SLO, 0.0))
    assert alert.course == ()
    assert [figure.words for figure in alert.evidence] == ["b: -inf (limit inf)", "c: 1"]
    assert alert.evidence[0].value == -sys.float_info.max
    assert msgspec.json.decode(msgspec.json.encode(alert), type=Alert) == alert
    assert only(observe({}, [seen(math.inf)], SLO, 0.0)).course == ()


def test_a_clock_that_was_set_back_leaves_no_point_of_the_future() -> None:
    alerts = told(20.0, 30.0, 40.0)
    back = {key: alert_until(alert, 60.0) for key, alert in alerts.items()}
    assert only(back).course == ((0.0, 20.0), (60.0, 30.0))
    assert only(observe(back, [seen(5.0)], SLO, 60.0)).course == ((0.0, 20.0), (60.0, 5.0))
    assert grown(((0.0, 1.0), (9.0, 2.0)), 5.0, 3.0) == ((0.0, 1.0), (5.0, 3.0))
    assert course_until((), 5.0) == ()


def of_looks(count: int, every_s: float) -> Course:
    course: Course = ()
    for look in range(count):
        course = grown(course, every_s * look, float(look))
    return course


@pytest.mark.parametrize("count", [61, 119, 500, 5_000])
def test_a_long_episode_is_spread_evenly_over_few_points(count: int) -> None:
    course = of_looks(count, 10.0)
    gaps = [after[0] - before[0] for before, after in itertools.pairwise(course)]
    assert len(course) == POINTS_MAX
    assert (course[0][0], course[-1][0]) == (0.0, 10.0 * (count - 1))
    assert max(gaps) <= 4 * 10.0 * (count - 1) / POINTS_MAX


@given(
    st.lists(st.tuples(st.floats(0.0, 1e12), st.floats(allow_nan=True)), max_size=150),
    st.integers(1, 40),
)
def test_any_course_is_in_order_bounded_and_can_be_drawn(
    points: list[tuple[float, float]], columns: int
) -> None:
    course: Course = ()
    for at, value in points:
        course = grown(course, at, value)
        times = [point[0] for point in course]
        assert times == sorted(set(times))
        assert len(course) <= POINTS_MAX
    line = sparkline(course, columns)
    assert len(line) <= min(columns, len(course))
    assert bool(line) == bool(course)


def test_a_line_goes_from_the_least_value_to_the_greatest() -> None:
    assert sparkline([(0.0, 0.0), (1.0, 7.0), (2.0, 3.5)]) == "▁█▅"
    assert sparkline([(0.0, 5.0)]) == "█"
    assert sparkline([(0.0, 5.0), (1.0, 5.0)]) == "██"
    assert sparkline([]) == ""
    assert sparkline([(0.0, -sys.float_info.max), (1.0, sys.float_info.max)]) == "▁█"
    spike = [(float(n), 9.0 if n == 30 else 1.0) for n in range(60)]
    assert sparkline(spike, 6) == "▁▁▁█▁▁", "a peak is in no column left out"
    late = [(0.0, 1.0), (1.0, 2.0), (100.0, 3.0)]
    assert sparkline(late, 3) == "▁▁█", "where nobody looked it is as it was"
