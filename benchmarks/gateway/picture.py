"""The results as one picture: bars, drawn as SVG by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.gateway.peers import OURS
from benchmarks.gateway.plan import Samples

_WIDTH = 760
_LEFT = 130
_RIGHT = 150
_BAR = 18
_STEP = 26
_TITLE = 40
_GAP = 18
_OURS, _THEIRS = "#0f766e", "#94a3b8"


@dataclass(frozen=True)
class Panel:
    """One group of bars.

    Attributes:
        digits: Of the values, after the point.
    """

    part: str
    measure: str
    title: str
    digits: int = 0


PANELS = (
    Panel("plain", "rps", "Plain completions: requests/s on one core (more is better)"),
    Panel("latency", "added_p50_us", "Added to the p50, microseconds (less is better)"),
    Panel("latency", "added_p99_us", "Added to the p99, microseconds (less is better)"),
    Panel("streams", "saturation_per_cpu_s", "Streams: events per CPU second (more is better)"),
    Panel("streams", "full_mb", "Streams: memory of all open streams, MB (less is better)", 1),
    Panel("workers", "rps", "Workers: requests/s, sharing their cores with the load"),
)


def svg(measured: Mapping[str, Samples]) -> str:
    """Medians, by panel; those that were not measured are left out."""
    parts: list[str] = []
    top = _GAP
    for panel in PANELS:
        samples = measured.get(panel.part)
        names = samples.proxies(panel.measure) if samples is not None else []
        bars = []
        for name in names:
            values = samples.spread(panel.measure, name) if samples is not None else None
            if values is not None:
                bars.append((name, values.median))
        if bars:
            parts += _panel(panel, bars, top)
            top += _TITLE + _STEP * len(bars) + _GAP
    frame = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" '
        f'width="{_WIDTH}" height="{top}" font-family="system-ui, sans-serif" font-size="13" '
        'role="img" aria-label="The gateway beside its peers">'
    )
    background = f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>'
    return "\n".join([frame, background, *parts, "</svg>"]) + "\n"


def _panel(panel: Panel, bars: Sequence[tuple[str, float]], top: int) -> list[str]:
    room = _WIDTH - _LEFT - _RIGHT
    largest = max((value for _, value in bars), default=0.0)
    out = [
        f'<text x="16" y="{top + 16}" font-weight="600" fill="#0f172a">{escape(panel.title)}</text>'
    ]
    for number, (name, value) in enumerate(bars):
        y = top + _TITLE - 8 + number * _STEP
        width = max(1.0, room * max(0.0, value) / largest) if largest > 0 else 1.0
        is_ours = name in OURS or panel.part == "workers"
        weight = ' font-weight="600"' if is_ours else ""
        out += [
            f'<text x="{_LEFT - 10}" y="{y + 13}" text-anchor="end" fill="#0f172a"{weight}>'
            f"{escape(name)}</text>",
            f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2" '
            f'fill="{_OURS if is_ours else _THEIRS}"/>',
            f'<text x="{_LEFT + width + 8:.1f}" y="{y + 13}" fill="#0f172a"{weight}>'
            f"{value:,.{panel.digits}f}</text>",
        ]
    return out
