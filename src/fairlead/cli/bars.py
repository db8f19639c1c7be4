"""The bars of a rollout's live picture, each with words that say what it shows, or in a line."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from fairlead.control.views import HarmView

WIDTH = 48
"""Columns of a bar."""
BRIEF = 24
"""Columns of one that has its words beside it."""
SPAN_MIN = 0.02
"""What the scale of differences shows at least, to either side."""

_BETTER, _WORSE = "better ", " worse"


class Fit:
    """Something as wide as there is room for.

    Args:
        draw: Draws it so many columns wide.
        most: Columns that it has where there is room.
        beside: Columns that something else in its line takes.
    """

    def __init__(self, draw: Callable[[int], Text], most: int, beside: int = 0) -> None:
        self._draw = draw
        self._most = most
        self._beside = beside

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._draw(max(1, min(self._most, options.max_width - self._beside)))


class Difference(NamedTuple):
    """The confidence sequence of the difference of a rate; `now` is None while an arm has none."""

    low: float
    high: float
    now: float | None
    margin: float
    tolerance: float
    confidence: float = 0.95

    @property
    def words(self) -> str:
        """What its bar shows."""
        now = "" if self.now is None else f"{points(self.now)} now, "
        return (
            f"canary less champion: {now}{points(self.low)} to {points(self.high)} with "
            f"{self.confidence:.0%} confidence (percentage points); "
            f"│ is 0, ┊ the margin {points(self.margin)}"
        )

    def line(self, width: int) -> Text:
        """It on a scale with 0 and the margin."""
        span = max(SPAN_MIN, abs(self.low), abs(self.high), 1.5 * self.margin)
        cells = [" "] * width
        for cell in range(_cell(self.low, span, width), _cell(self.high, span, width) + 1):
            cells[cell] = "━"
        for mark, at in (("│", 0.0), ("┊", self.margin)):
            cells[_cell(at, span, width)] = mark
        if self.now is not None:
            cells[_cell(self.now, span, width)] = "●"
        is_worse, is_not = self.low > self.tolerance, self.high < self.margin
        style = "red" if is_worse else "green" if is_not else "yellow"
        return Text.assemble((_BETTER, "dim"), ("".join(cells), style), (_WORSE, "dim"))


def difference_bar(shown: Difference) -> RenderableType:
    """A difference with its figures."""
    bar = Fit(shown.line, WIDTH, len(_BETTER + _WORSE))
    return Group(bar, Text(shown.words, style="dim"))


def difference_brief(shown: Difference) -> RenderableType:
    """The same in a line."""
    words = f"  {points(shown.low)} to {points(shown.high)}"

    def line(width: int) -> Text:
        return shown.line(width).append(words, style="dim")

    return Fit(line, BRIEF, len(_BETTER + _WORSE + words))


def harm_bar(harm: HarmView) -> RenderableType:
    """What the ramp has cost and may cost until the next look, as parts of its budget."""
    words = (
        f"about {harm.so_far:,.1f} requests may have failed because of it, by the next look at "
        f"most {harm.at_worst:,.1f}; the budget is {harm.budget:,.1f}"
    )
    return Group(_harm(harm, WIDTH), Text(words, style="dim"))


def harm_brief(harm: HarmView) -> RenderableType:
    """The same in a line."""
    words = f"  {harm.so_far:,.1f}, at most {harm.at_worst:,.1f} of {harm.budget:,.1f}"
    return one_line(_harm(harm, BRIEF).append(words, style="dim"))


def evidence_bar(
    value: float, threshold: float, style: str, what: str, then: str
) -> RenderableType:
    """Evidence of what on a logarithmic scale, and what happens then at its threshold."""
    words = f"evidence {what}: {e_value(value)} (1 is none); {then} {threshold:g}"
    return Group(_evidence(value, threshold, style, WIDTH), Text(words, style="dim"))


def evidence_brief(value: float, threshold: float, style: str, then: str) -> RenderableType:
    """The same in a line."""
    words = f"  {e_value(value)}; {then} {threshold:g}"
    return one_line(_evidence(value, threshold, style, BRIEF).append(words, style="dim"))


def one_line(text: Text) -> Text:
    """A text that is cut where its line ends."""
    first = text.split("\n", allow_blank=True)[0]
    first.no_wrap, first.overflow = True, "ellipsis"
    return first


def points(rate: float) -> str:
    """A difference of rates in percentage points."""
    return f"{100 * rate:+.1f}"


def e_value(value: float) -> str:
    """Evidence as people read it."""
    return f"{value:,.2f}" if value < 1000 else f"{value:.1e}"


def _cell(value: float, span: float, width: int) -> int:
    share = (max(-span, min(span, value)) + span) / (2 * span)
    return min(width - 1, int(share * width))


def _harm(harm: HarmView, width: int) -> Text:
    so_far, worst = (
        min(width, round(width * part / harm.budget)) for part in (harm.so_far, harm.at_worst)
    )
    return Text.assemble(
        ("█" * so_far, "red"), ("▒" * max(0, worst - so_far), "yellow"),
        ("░" * (width - max(so_far, worst)), "dim"),
    )  # fmt: skip


def _evidence(value: float, threshold: float, style: str, width: int) -> Text:
    """Empty at 1, where it says nothing, full at the threshold."""
    share = math.log(max(value, 1.0)) / math.log(threshold) if threshold > 1 else 1.0
    filled = round(width * min(1.0, share))
    return Text.assemble(("█" * filled, style), ("░" * (width - filled), "dim"))
