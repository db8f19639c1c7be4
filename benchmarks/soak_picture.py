"""The course of a soak as one picture: lines over time, drawn as SVG by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.gateway.quantiles import quantile

from support.soak import Answer, Soak

_WIDTH = 760
_LEFT, _RIGHT = 64, 120
_HEIGHT = 110
_TITLE = 34
_GAP = 26
_COLOURS = ("#0f766e", "#b45309", "#1d4ed8", "#be123c", "#64748b")
_INK, _GRID = "#0f172a", "#e2e8f0"
_BINS = 60
_POINTS = 720
"""Of one line, about: more cannot be seen."""

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """Lines over the same time, with the unit in the title."""

    title: str
    lines: dict[str, Points]


def svg(soak: Soak) -> str:
    """Latency, answers, memory and descriptors over time; gateway restarts as marks."""
    parts: list[str] = []
    top = _GAP // 2
    for panel in _panels(soak):
        parts += _drawn(panel, soak, top)
        top += _TITLE + _HEIGHT + _GAP
    top += _GAP // 2
    parts.append(
        f'<text x="{_LEFT}" y="{top}" fill="{_INK}" font-size="12">minutes; a mark below a line of '
        "time is a restart of the gateway, a red line is a failed request</text>"
    )
    top += _GAP // 2
    frame = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" '
        f'width="{_WIDTH}" height="{top}" font-family="system-ui, sans-serif" font-size="13" '
        'role="img" aria-label="A soak over time">'
    )
    background = f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>'
    return "\n".join([frame, background, *parts, "</svg>"]) + "\n"


def _panels(soak: Soak) -> Iterator[Panel]:
    plain = [(a.at, a.duration) for a in soak.answers if not a.stream]
    first = [(a.at, a.ttft) for a in soak.answers if a.stream]
    yield Panel(
        "Latency, ms",
        {
            "plain p99": _binned(plain, soak, 0.99),
            "plain p50": _binned(plain, soak, 0.5),
            "first event p99": _binned(first, soak, 0.99),
            "first event p50": _binned(first, soak, 0.5),
        },
    )
    yield Panel("Right answers a second", {"all": _rates(soak.answers, soak)})
    for title, measure, unit in (
        ("Memory (RSS) of the largest process, MB", "rss_kb", 1024.0),
        ("Memory (PSS) of a process in the mean, MB", "pss_kb", 1024.0),
        ("Descriptors of the largest process", "fds", 1.0),
        ("Processes", "processes", 1.0),
    ):
        lines = {
            role: [(at, value / unit) for at, value in _thinned(soak.series(role, measure))]
            for role in soak.roles()
        }
        yield Panel(title, lines)


def _thinned(points: Points) -> Points:
    return points[:: max(1, len(points) // _POINTS)]


def _bins(values: Points, soak: Soak) -> Iterator[tuple[float, list[float]]]:
    length = soak.plan.seconds / _BINS
    found: list[list[float]] = [[] for _ in range(_BINS)]
    for at, value in values:
        found[min(_BINS - 1, max(0, int(at / length)))].append(value)
    for number, here in enumerate(found):
        yield (number + 0.5) * length, here


def _binned(values: Points, soak: Soak, share: float) -> Points:
    return [(at, quantile(sorted(here), share)) for at, here in _bins(values, soak) if here]


def _rates(answers: Sequence[Answer], soak: Soak) -> Points:
    length = soak.plan.seconds / _BINS
    found = _bins([(answer.at, 0.0) for answer in answers], soak)
    return [(at, len(here) / length) for at, here in found]


def _drawn(panel: Panel, soak: Soak, top: int) -> Iterator[str]:
    highest = max((value for line in panel.lines.values() for _, value in line), default=1.0)
    unit = _round_up(highest)
    bottom = top + _TITLE + _HEIGHT
    room = _WIDTH - _LEFT - _RIGHT

    def x(at: float) -> float:
        return _LEFT + room * min(1.0, at / soak.plan.seconds)

    def y(value: float) -> float:
        return bottom - _HEIGHT * value / unit

    heading = f'<text x="16" y="{top + 16}" font-weight="600" fill="{_INK}">'
    yield f"{heading}{escape(panel.title)}</text>"
    for share in (0.0, 0.5, 1.0):
        height = y(unit * share)
        yield (
            f'<path d="M{_LEFT} {height:.1f}H{_WIDTH - _RIGHT}" stroke="{_GRID}"/>'
            f'<text x="{_LEFT - 8}" y="{height + 4:.1f}" text-anchor="end" font-size="11" '
            f'fill="{_INK}">{unit * share:,g}</text>'
        )
    for number in range(7):
        at = soak.plan.seconds * number / 6
        yield (
            f'<text x="{x(at):.1f}" y="{bottom + 16}" text-anchor="middle" font-size="11" '
            f'fill="{_INK}">{at / 60:.3g}</text>'
        )
    for at in soak.restarts:
        yield f'<path d="M{x(at):.1f} {bottom}v4" stroke="{_INK}"/>'
    for failure in soak.failed:
        yield f'<path d="M{x(failure.at):.1f} {bottom}v-{_HEIGHT}" stroke="#dc2626"/>'
    for number, (name, points) in enumerate(panel.lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        if points:
            way = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points)
            yield f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        yield (
            f'<text x="{_WIDTH - _RIGHT + 10}" y="{top + _TITLE + 10 + 18 * number}" '
            f'font-size="12" fill="{colour}">{escape(name)}</text>'
        )


def _round_up(value: float) -> float:
    """The next value of 1, 2, 5, 10, 20 and so on."""
    unit = 1.0
    while unit < value:
        for step in (2.0, 2.5, 2.0):
            unit *= step
            if unit >= value:
                break
    return unit
