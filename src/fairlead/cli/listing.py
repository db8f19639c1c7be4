"""A plain table that fits its terminal: what matters stays whole, the rest gives way."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

WHOLE, RIGHT, CUT = "=", ">", "~"
GAP = 2
FOLDED_WIDTH_MIN = 12
"""Narrower, a column that may be folded or cut says nothing."""


class Listing:
    """Rows under headings; how a column behaves is said by what its heading begins with.

    `=` is never broken, and so is `>`, which is right-aligned; `~` is cut to one line; any other
    is folded.

    Args:
        gives_way: Columns that are left out, the first one first, while there is no room for all.
    """

    def __init__(self, *columns: str, gives_way: Sequence[str] = ()) -> None:
        self._kinds = [name[0] if name[:1] in (WHOLE, RIGHT, CUT) else "" for name in columns]
        self._names = [
            name.removeprefix(kind) for name, kind in zip(columns, self._kinds, strict=True)
        ]
        self._gives_way = gives_way
        self._rows: list[tuple[str | Text, ...]] = []

    def add_row(self, *cells: str | Text) -> None:
        """Add a row with one cell for each column."""
        assert len(cells) == len(self._names)
        self._rows.append(cells)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        kept, left_out = self._fitting(options.max_width)
        yield self._table(kept)
        if left_out:
            yield Text(f"left out at this width: {', '.join(left_out)}", style="dim")

    def _fitting(self, width: int) -> tuple[list[int], list[str]]:
        """The columns that are shown, and the names of those for which there is no room."""
        kept = list(range(len(self._names)))
        left_out = []
        for name in self._gives_way:
            if self._width(kept) <= width:
                break
            kept = [at for at in kept if self._names[at] != name]
            left_out.append(name)
        return kept, left_out

    def _width(self, columns: Sequence[int]) -> int:
        """The least width at which these columns can be read."""
        return sum(self._column_width(at) for at in columns) + GAP * (len(columns) - 1)

    def _column_width(self, at: int) -> int:
        cells = [self._names[at], *(_plain(row[at]) for row in self._rows)]
        widest = max(cell_len(line) for cell in cells for line in cell.split("\n"))
        return widest if self._kinds[at] in (WHOLE, RIGHT) else min(widest, FOLDED_WIDTH_MIN)

    def _table(self, columns: Sequence[int]) -> Table:
        made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP // 2))
        for at in columns:
            kind = self._kinds[at]
            made.add_column(
                self._names[at],
                justify="right" if kind == RIGHT else "left",
                overflow="fold",
                no_wrap=kind in (WHOLE, RIGHT),
            )
        for row in self._rows:
            made.add_row(*(_cell(row[at], self._kinds[at]) for at in columns))
        return made


def _cell(cell: str | Text, kind: str) -> str | Text:
    if kind != CUT:
        return cell
    return Text(" ".join(_plain(cell).split()), no_wrap=True, overflow="ellipsis")


def _plain(cell: str | Text) -> str:
    return cell.plain if isinstance(cell, Text) else cell
