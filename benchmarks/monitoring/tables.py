"""Tables and numbers of the page, in words."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown; says so where there is nothing."""
    if not rows:
        yield "Not measured yet."
        return
    yield "| " + " | ".join(heads) + " |"
    yield "| --- |" + " --: |" * (len(heads) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def median_delay(delays: Sequence[float | None]) -> float | None:
    """Without those below 1, which are false; infinite where most are never. None without any."""
    true = [float("inf") if each is None else each for each in delays if each is None or each > 0]
    return statistics.median(true) if true else None


def count(value: float) -> str:
    """With thousands set apart; `never` for infinite ones."""
    return f"{value:,.0f}" if value < float("inf") else "never"
