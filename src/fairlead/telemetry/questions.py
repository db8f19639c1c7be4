"""What monitors ask: counts, failures, tokens, cost and quantiles, by what one likes.

All figures of a question come from one pass over the columns that it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.domain.outcomes import SHADOW
from fairlead.telemetry.reader import Scope, TelemetryReader

QUANTILES = (0.5, 0.9, 0.95, 0.99)
GROUPS_MAX = 10_000
_SUMS = 6
_BY = {
    name: f'"{name}"'
    for name in ("service", "release", "replica", "key", "arm", "endpoint", "rollout", "error")
} | {
    "minute": "CAST(epoch(date_trunc('minute', started_at)) AS BIGINT)",
    "hour": "CAST(epoch(date_trunc('hour', started_at)) AS BIGINT)",
}
BY = tuple(_BY)
"""By what figures can be asked for; `minute` and `hour` are Unix times in seconds."""


class Measure(Enum):
    """What quantiles there are of."""

    TTFT = "ttft_ms"
    ITL = "itl_ms"
    DURATION = "duration_ms"


class Quantiles(msgspec.Struct, frozen=True):
    """Of one measure, in milliseconds; between two requests the value is interpolated.

    Attributes:
        count: How many requests had the measure.
    """

    count: int
    p50: float
    p90: float
    p95: float
    p99: float


class Figures(msgspec.Struct, frozen=True):
    """Of the requests of one group. Copies that no client saw (shadows) are in none.

    Attributes:
        by: The group, by the names that were asked for.
        failed: Requests that the server failed (`fairlead.domain.outcomes`).
        prompt_tokens, completion_tokens, cost_usd: Sums over the requests of which they are known.
        costed: Requests whose cost is known.
        quantiles: By measure, where any request of the group has it.
    """

    by: dict[str, str | int]
    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    costed: int
    quantiles: dict[str, Quantiles] = {}


class FiguresAnswer(msgspec.Struct, frozen=True):
    """All groups, and how far they can be relied on (see `Answer`)."""

    groups: list[Figures]
    left_out: list[str]
    complete_until: float | None
    seconds: float


def figures(
    reader: TelemetryReader,
    scope: Scope,
    by: Sequence[str] = (),
    measures: Sequence[Measure] = (),
) -> FiguresAnswer:
    """Figures of the requests in the scope, in the order of what they are grouped by.

    Raises InvalidInput for a `by` that is not in `BY` and for more than 10,000 groups; otherwise as
    `TelemetryReader.ask`.
    """
    for name in by:
        if name not in _BY:
            raise InvalidInput(f"figures by {name!r}: there is only {', '.join(BY)}")
    answer = reader.ask(_sql(by, measures), scope=scope, limit=GROUPS_MAX)
    if answer.more:
        raise InvalidInput(
            f"more than {GROUPS_MAX} groups", hint="narrow the question by time or service"
        )
    return FiguresAnswer(
        groups=[_figures(by, measures, row) for row in answer.rows],
        left_out=answer.left_out,
        complete_until=answer.complete_until,
        seconds=answer.seconds,
    )


def _figures(by: Sequence[str], measures: Sequence[Measure], row: tuple[Any, ...]) -> Figures:
    group, sums, measured = row[: len(by)], row[len(by) :][:_SUMS], row[len(by) + _SUMS :]
    requests, failed, prompt_tokens, completion_tokens, cost_usd, costed = sums
    return Figures(
        by=dict(zip(by, group, strict=True)),
        requests=requests,
        failed=failed,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=cost_usd,
        costed=costed,
        quantiles={
            measure.value: Quantiles(count, *values)
            for measure, values, count in zip(measures, measured[::2], measured[1::2], strict=True)
            if count
        },
    )


def _sql(by: Sequence[str], measures: Sequence[Measure]) -> str:
    shares = list(QUANTILES)
    measured = "".join(f", quantile_cont({m.value}, {shares}), count({m.value})" for m in measures)
    return (
        f"SELECT {_named(by)} count(*), count(*) FILTER (failed),"  # noqa: S608
        " CAST(coalesce(sum(prompt_tokens), 0) AS BIGINT),"
        " CAST(coalesce(sum(completion_tokens), 0) AS BIGINT),"
        " coalesce(sum(cost_usd), 0.0), count(cost_usd)"
        f"{measured} FROM records WHERE arm <> '{SHADOW}'{_grouped(by)}"
    )


def _named(by: Sequence[str]) -> str:
    return "".join(f"{_BY[name]} AS by{at}, " for at, name in enumerate(by))


def _grouped(by: Sequence[str]) -> str:
    if not by:
        return ""
    groups = ", ".join(f"by{at}" for at in range(len(by)))
    return f" GROUP BY {groups} ORDER BY {groups}"
