"""The course of an alert as an SVG picture: the curve, its limit, an axis with times. Pure.

It stands alone: it refers to nothing, runs nothing, and has a title and a description for those who
do not see it. All text in it comes from monitors, and is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from xml.sax.saxutils import escape

from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.conditions import readable
from fairlead.monitoring.course import Course

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 68, 116, 56, 44
TITLE_MAX = 84
"""Characters that fit into the width."""

RANGE_MAX = 1e300
"""Larger numbers are drawn as this one; differences of these are within the range."""

LEAST = 1e-290
"""Smaller differences are none."""

TICKS = 5
_STEPS_S = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200,
    86_400, 172_800, 604_800,
)  # fmt: skip
_FONT = "font-family='system-ui, sans-serif' font-size='12'"
_INK, _FAINT, _CURVE, _LIMIT = "#24292f", "#d0d7de", "#0969da", "#b35900"


class _Scale(NamedTuple):
    """From values on an axis to the picture."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.begin + share * (self.end - self.begin), 1)


def picture(alert: Alert) -> str:
    """The SVG document."""
    figure = alert.evidence[0] if alert.evidence else None
    limit = None if figure is None else figure.limit
    name = "" if figure is None else f"{figure.name}{f', {figure.unit}' if figure.unit else ''}"
    about = _described(alert, name, limit)
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' role='img' aria-labelledby='title about' "
        f"width='{WIDTH}' height='{HEIGHT}' viewBox='0 0 {WIDTH} {HEIGHT}'>",
        f"<title id='title'>{_text(alert.summary)}</title>",
        f"<desc id='about'>{_text(about)}</desc>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='#ffffff'/>",
        _label(12, 22, _cut(alert.summary), "font-weight='600'"),
        _label(12, 42, _cut(name)),
    ]
    if alert.course:
        lines += _drawn(_bounded(alert.course), None if limit is None else _within(limit))
    else:
        lines.append(_label(LEFT, HEIGHT / 2, "no figure of it is known"))
    return "\n".join([*lines, "</svg>"]) + "\n"


def _described(alert: Alert, name: str, limit: float | None) -> str:
    """What the picture shows, in words."""
    if not alert.course:
        return "No figure of it is known."
    (begin, first), (end, last) = alert.course[0], alert.course[-1]
    values = [value for _, value in alert.course]
    words = (
        f"{name} from {_moment(begin)} to {_moment(end)}: first {readable(first)}, last "
        f"{readable(last)}, least {readable(min(values))}, greatest {readable(max(values))}"
    )
    return words + ("." if limit is None else f"; the limit is {readable(limit)}.")


def _drawn(course: Course, limit: float | None) -> Iterator[str]:
    x = _times(course)
    y = _values([value for _, value in course], limit)
    floor = HEIGHT - BOTTOM
    for value in _ticks(y.low, y.high):
        yield _line(LEFT, y.at(value), WIDTH - RIGHT, y.at(value), _FAINT)
        yield _label(LEFT - 8, y.at(value) + 4, readable(value), "text-anchor='end'")
    yield _line(LEFT, floor, WIDTH - RIGHT, floor, _INK)
    for at, words in _moments(x):
        yield _line(x.at(at), floor, x.at(at), floor + 5, _INK)
        yield _label(x.at(at), floor + 20, words, "text-anchor='middle'")
    yield _label(WIDTH - RIGHT, HEIGHT - 8, f"{_day(course)} UTC", "text-anchor='end'")
    if limit is not None:
        yield _line(LEFT, y.at(limit), WIDTH - RIGHT, y.at(limit), _LIMIT, "stroke-dasharray='6 4'")
    points = [(x.at(at), y.at(value)) for at, value in course]
    path = " ".join(f"{px:g},{py:g}" for px, py in points)
    yield (
        f"<polyline points='{path}' fill='none' stroke='{_CURVE}' stroke-width='2' "
        "stroke-linejoin='round'/>"
    )
    px, py = points[-1]
    yield f"<circle cx='{px:g}' cy='{py:g}' r='3.5' fill='{_CURVE}'/>"
    yield from _ends(course[-1][1], limit, y)


def _ends(last: float, limit: float | None, y: _Scale) -> Iterator[str]:
    """What the curve and the limit are at the right, one above the other."""
    beside, height = WIDTH - RIGHT + 8, y.at(last)
    yield _label(beside, height + 4, readable(last), f"fill='{_CURVE}' font-weight='600'")
    if limit is not None:
        away = y.at(limit) - height
        place = y.at(limit) if abs(away) >= 15 else height + (15 if away >= 0 else -15)
        yield _label(beside, place + 4, f"limit {readable(limit)}", f"fill='{_LIMIT}'")


def _times(course: Course) -> _Scale:
    begin, end = course[0][0], course[-1][0]
    # One point stands in the middle of a minute.
    before, after = (0.0, 0.0) if end > begin else (30.0, 30.0)
    return _Scale(begin - before, end + after, LEFT, WIDTH - RIGHT)


def _values(values: Sequence[float], limit: float | None) -> _Scale:
    """With the limit in it, and with 0 where that is not far."""
    every = [*values, *([] if limit is None else [limit])]
    low, high = min(every), max(every)
    if 0 < low <= high / 2:
        low = 0.0
    if low / 2 <= high < 0:
        high = 0.0
    if high - low < LEAST:
        width = abs(high) / 2 if abs(high) > LEAST else 1.0
        low, high = low - width, high + width
    room = (high - low) / 20
    return _Scale(low if low == 0 else low - room, high + room, HEIGHT - BOTTOM, TOP)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between them."""
    power = 10.0 ** math.floor(math.log10((high - low) / TICKS))
    step = next(n * power for n in (1.0, 2.0, 5.0, 10.0, 20.0) if (high - low) / (n * power) < 6)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [count * step for count in range(first, min(last, first + 8) + 1)]


def _moments(x: _Scale) -> list[tuple[float, str]]:
    """Round times between them, as they are written."""
    span = x.high - x.low
    many_days = math.ceil(span / TICKS / 86_400) * 86_400
    step = next((step for step in _STEPS_S if span / step <= TICKS + 1), many_days)
    form = "%H:%M:%S" if step < 60 else "%H:%M" if step < 86_400 else "%m-%d"
    first = math.ceil(x.low / step)
    times = [count * step for count in range(first, math.floor(x.high / step) + 1)]
    return [(at, f"{datetime.fromtimestamp(at, UTC):{form}}") for at in times]


def _day(course: Course) -> str:
    begin, end = (
        f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}" for at in (course[0][0], course[-1][0])
    )
    return begin if begin == end else f"{begin} to {end}"


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _bounded(course: Course) -> Course:
    return tuple((at, _within(value)) for at, value in course)


def _within(value: float) -> float:
    return max(-RANGE_MAX, min(RANGE_MAX, value))


def _label(x: float, y: float, words: str, more: str = "") -> str:
    fill = "" if "fill=" in more else f" fill='{_INK}'"
    return f"<text x='{x:g}' y='{y:g}' {_FONT}{fill} {more}>{_text(words)}</text>"


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str, more: str = "") -> str:
    return f"<line x1='{x1:g}' y1='{y1:g}' x2='{x2:g}' y2='{y2:g}' stroke='{stroke}' {more}/>"


def _cut(words: str) -> str:
    return words if len(words) <= TITLE_MAX else words[: TITLE_MAX - 1] + "…"


def _text(words: str) -> str:
    """Words in which nothing is markup, and that XML can hold."""
    return escape("".join(c if c.isprintable() else " " for c in words))
