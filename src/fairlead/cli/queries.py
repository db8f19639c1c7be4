"""Queries of Prometheus and suites as people see them: the last value beside the threshold."""

from __future__ import annotations

from rich.text import Text

from fairlead.rollout.standing import QueryLine


def query_line(query: QueryLine) -> Text:
    """One query: what it said last, what it may say, how it stands."""
    style = "yellow" if query.is_bad else "green"
    what = "evidence " if query.kind in ("count", "suite") else ""
    return Text.assemble(
        (query.name, "bold"), "  ", (f"{what}{_value(query.value)}", style),
        (f" ({query.limit})", "dim"), f"  {query.state}",
    )  # fmt: skip


def _value(value: float | None) -> str:
    if value is None:
        return "–"
    if abs(value) > 1e300:
        return "infinite"
    return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:.1e}"
