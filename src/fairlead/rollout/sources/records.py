"""What the gateway measures of every request: failures, times, tokens, cost."""

from __future__ import annotations

from fairlead.rollout.metrics import MetricKind
from fairlead.rollout.sources.source import Source, known

SOURCES = (
    Source("errors", MetricKind.BINARY, lambda request: float(request.failed_by_error)),
    Source(
        "ttft_ms", MetricKind.LATENCY, lambda request: known(request.ttft_ms), "ms", is_time=True
    ),
    # A plain answer has no time between tokens. A stream of a single event lacks it.
    Source(
        "itl_ms",
        MetricKind.LATENCY,
        lambda request: known(request.itl_ms),
        "ms",
        applies=lambda request: request.stream,
    ),
    Source(
        "duration_ms",
        MetricKind.LATENCY,
        lambda request: known(request.duration_ms),
        "ms",
        is_time=True,
    ),
    Source(
        "prompt_tokens",
        MetricKind.TOKENS,
        lambda request: known(request.prompt_tokens),
        "tokens",
        both_ways=True,
    ),
    Source(
        "completion_tokens",
        MetricKind.TOKENS,
        lambda request: known(request.completion_tokens),
        "tokens",
        both_ways=True,
    ),
    Source("cost", MetricKind.COST, lambda request: known(request.cost_usd), "USD"),
)
