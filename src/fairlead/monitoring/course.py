"""The course of an alert: how its first figure went, in few points, and as one line of text.

A course is kept with the alert, so it has a bound: when there is no room for another point, the one
is left out whose neighbours are nearest to each other in time. What is kept is spread evenly over
the episode, however often its monitor looks, and the first and the last point stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

Course = tuple[tuple[float, float], ...]
"""Unix times in seconds, in order, and values."""

POINTS_MAX = 60
DIGITS = 6
_BLOCKS = "▁▂▃▄▅▆▇█"


def grown(course: Course, at: float, value: float) -> Course:
    """The course with one more point; of two of the same time the later one counts.

    A value that is no number is no point. Points that are later than `at` are of a clock that was
    set back since, and go.
    """
    if not math.isfinite(value):
        return course
    kept = [point for point in course if point[0] < at]
    kept.append((at, float(f"{value:.{DIGITS}g}")))
    while len(kept) > POINTS_MAX:
        inner = range(1, len(kept) - 1)
        del kept[min(inner, key=lambda index: kept[index + 1][0] - kept[index - 1][0])]
    return tuple(kept)


def course_until(course: Course, now: float) -> Course:
    """The course, with nothing of the future."""
    return tuple(point for point in course if point[0] <= now)


def sparkline(course: Sequence[tuple[float, float]], columns: int = 24) -> str:
    """The course as a line of blocks, from its least value to its greatest; empty for no course.

    Each column is a part of the time, and shows the greatest value in it, or the last one before.
    """
    if not course:
        return ""
    begin, end = course[0][0], course[-1][0]
    if end <= begin:
        return _BLOCKS[-1]
    columns = max(1, min(columns, len(course)))
    highest: list[float | None] = [None] * columns
    for at, value in course:
        column = min(columns - 1, int((at - begin) / (end - begin) * columns))
        before = highest[column]
        highest[column] = value if before is None else max(before, value)
    return "".join(_blocks(_filled(highest)))


def _filled(values: Iterable[float | None]) -> list[float]:
    """The values, each gap with what was before it; the first one is there."""
    found: list[float] = []
    for value in values:
        found.append(found[-1] if value is None else value)
    return found


def _blocks(values: Sequence[float]) -> Iterable[str]:
    low, high = min(values), max(values)
    # Halves first: the span of two finite numbers may be beyond the range.
    span = high / 2 - low / 2
    for value in values:
        share = (value / 2 - low / 2) / span if span > 0 else 1.0
        yield _BLOCKS[round(share * (len(_BLOCKS) - 1))]
