"""The picture of an alert: a well-formed SVG of any course, with its limit, times and a title."""

from __future__ import annotations

import itertools
import re
import sys
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.control.watching.picture import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, picture
from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.conditions import Figure
from fairlead.monitoring.course import Course, grown
from monitoring.making import changed, condition, firing

T0 = 1_767_225_600.0
NS = "{http://www.w3.org/2000/svg}"


def alert(course: Course, limit: float | None = 14.4, summary: str = "bank: slow") -> Alert:
    (made,) = firing(condition())
    figure = Figure("burn rate over 1 h", course[-1][1] if course else 0.0, limit=limit)
    return changed(made, course=course, evidence=(figure,), summary=summary)


def drawn(made: Alert) -> ElementTree.Element:
    return ElementTree.fromstring(picture(made))


def words(svg: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in svg.iter(f"{NS}text")]


def curve(svg: ElementTree.Element) -> list[tuple[float, float]]:
    (line,) = svg.iter(f"{NS}polyline")
    return [
        (float(x), float(y))
        for x, y in (pair.split(",") for pair in line.get("points", "").split())
    ]


MINUTES = tuple((T0 + 60.0 * n, 10.0 + n) for n in range(20))


def test_it_shows_curve_limit_times_and_numbers() -> None:
    svg = drawn(alert(MINUTES))
    points = curve(svg)
    assert len(points) == 20
    assert points == sorted(points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
    (dashed,) = [line for line in svg.iter(f"{NS}line") if line.get("stroke-dasharray")]
    height = float(dashed.get("y1", ""))
    assert points[4][1] > height > points[5][1], "the limit is between 14 and 15"
    said = words(svg)
    assert said[:2] == ["bank: slow", "burn rate over 1 h"]
    for label in (
        "00:00",
        "00:05",
        "00:15",
        "10",
        "20",
        "30",
        "29",
        "limit 14.4",
        "2026-01-01 UTC",
    ):
        assert label in said


def test_it_says_in_words_what_it_shows() -> None:
    svg = drawn(alert(MINUTES))
    assert svg.get("role") == "img"
    names = svg.get("aria-labelledby", "").split()
    told = {element.get("id"): element.text for element in svg}
    assert [told[name] for name in names] == [
        "bank: slow",
        "burn rate over 1 h from 2026-01-01 00:00:00 UTC to 2026-01-01 00:19:00 UTC: first 10, "
        "last 29, least 10, greatest 29; the limit is 14.4.",
    ]


def test_without_a_course_or_a_limit_it_says_so() -> None:
    assert "no figure of it is known" in words(drawn(alert(())))
    bare = changed(alert(()), evidence=())
    assert "no figure of it is known" in words(drawn(bare))
    svg = drawn(alert(MINUTES, limit=None))
    assert [line for line in svg.iter(f"{NS}line") if line.get("stroke-dasharray")] == []
    assert not any("limit" in label for label in words(svg))


def test_what_a_monitor_says_is_no_markup() -> None:
    nasty = "</title><script>alert(1)</script> & ' \" \x00 \ud800"
    text = picture(alert(MINUTES, summary=nasty))
    svg = ElementTree.fromstring(text)
    assert "<script" not in text
    assert (svg.findtext(f"{NS}title") or "").startswith("</title><script>alert(1)</script> & ")
    text.encode()


@pytest.mark.parametrize("days", [0.0002, 0.01, 0.2, 1, 3, 20, 400, 4_000])
def test_times_are_written_so_that_they_do_not_run_into_each_other(days: float) -> None:
    svg = drawn(alert(((T0, 1.0), (T0 + 86_400.0 * days, 2.0))))
    labels = [text for text in svg.iter(f"{NS}text") if re.fullmatch(r"[\d:-]+", text.text or "")
              and text.get("text-anchor") == "middle"]  # fmt: skip
    places = [float(label.get("x", "")) for label in labels]
    assert 1 <= len(labels) <= 7
    assert all(after - before >= 60 for before, after in itertools.pairwise(places))


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(st.tuples(st.floats(0.0, 4e9), FINITE), max_size=80),
    st.none() | FINITE,
)
def test_any_course_is_drawn_within_the_picture(
    points: list[tuple[float, float]], limit: float | None
) -> None:
    course: Course = ()
    for at, value in sorted(points):
        course = grown(course, at, value)
    svg = drawn(alert(course, limit))
    for x, y in curve(svg) if course else []:
        assert LEFT <= x <= WIDTH - RIGHT
        assert TOP <= y <= HEIGHT - BOTTOM
    assert len(list(svg.iter(f"{NS}text"))) < 40


@pytest.mark.parametrize(
    "values",
    [(0.0, 0.0), (5e-324, 0.0), (1e15, 1e15 + 0.125), (-3.0, -2.9), (-1.0, -100.0),
     (sys.float_info.max, -sys.float_info.max)],
)  # fmt: skip
def test_numbers_at_the_edge_are_drawn(values: tuple[float, float]) -> None:
    svg = drawn(alert(((T0, values[0]), (T0 + 60.0, values[1])), limit=None))
    assert all(TOP <= y <= HEIGHT - BOTTOM for _, y in curve(svg))
