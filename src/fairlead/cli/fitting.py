"""Labelled rows that fit the terminal: the least important become brief first, then go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

LABEL_MAX = 20
_FRAME = 4
_GAP = 2


class Row(NamedTuple):
    """A row of the picture.

    Attributes:
        rank: The higher, the sooner it is brief, and then left out; 0 never is left out.
        brief: The same in fewer lines, where there is such a thing.
    """

    label: str
    what: RenderableType
    rank: int
    brief: RenderableType | None = None


class Fitted:
    """A panel of rows. In a terminal it is never taller than that."""

    def __init__(self, title: Text, rows: Sequence[Row]) -> None:
        self._title = title
        self._rows = [row._replace(label=_short(row.label)) for row in rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        label = max((cell_len(row.label) for row in self._rows), default=0)
        within = options.update(width=max(1, options.max_width - _FRAME - label - _GAP))

        def lines(what: RenderableType) -> int:
            return len(console.render_lines(what, within, pad=False))

        shown = self._rows
        if console.is_terminal:
            shown = fitting(self._rows, lines, options.size.height - 2)
        yield self._panel(shown, label)

    def _panel(self, rows: Sequence[Row], label: int) -> Panel:
        grid = Table.grid(padding=(0, _GAP))
        grid.add_column(style="bold", no_wrap=True, width=label)
        grid.add_column()
        for row in rows:
            grid.add_row(row.label, row.what)
        left_out = len(self._rows) - len(rows)
        taller = f"{left_out} more in a taller window" if left_out else None
        return Panel(
            grid, title=self._title, title_align="left", subtitle=taller, subtitle_align="right",
            padding=(0, 1),
        )  # fmt: skip


def fitting(rows: Sequence[Row], lines: Callable[[RenderableType], int], most: int) -> list[Row]:
    """As much of the rows as has room in so many lines, in their order.

    Args:
        lines: How many lines something takes.
    """
    heights = [lines(row.what) for row in rows]
    shown: list[Row | None] = list(rows)
    order = sorted(range(len(rows)), key=lambda at: (-rows[at].rank, -at))
    for at in order:
        brief = rows[at].brief
        if sum(heights) > most and brief is not None and (height := lines(brief)) < heights[at]:
            shown[at], heights[at] = rows[at]._replace(what=brief), height
    for at in order:
        if sum(heights) > most and rows[at].rank:
            shown[at], heights[at] = None, 0
    return [row for row in shown if row is not None]


def _short(label: str) -> str:
    """A label that says how it begins and how it ends."""
    if len(label) <= LABEL_MAX:
        return label
    begin = LABEL_MAX // 2
    return f"{label[:begin]}…{label[begin + 1 - LABEL_MAX :]}"
