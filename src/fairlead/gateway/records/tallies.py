"""What a finished request counts in, looked up once for all requests of its kind."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from fairlead.domain.outcomes import CLIENT_ERRORS, failed_by_server
from fairlead.gateway.records.gen_ai import TOKEN_BUCKETS
from fairlead.gateway.records.metric_families import Labels
from fairlead.wire.record import RequestRecord

if TYPE_CHECKING:
    from fairlead.gateway.records.metrics import GatewayMetrics

DURATION_BUCKETS_S = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip


class Tally:
    """The values that finished requests of one kind count in, looked up once.

    Args:
        where: Service and release.
    """

    def __init__(self, metrics: GatewayMetrics, where: Labels, operation: str) -> None:
        self._metrics = metrics
        self._where = where
        self._timed = (*where, operation)
        self._duration = metrics.duration.values((*self._timed, ""))
        self._prompt = metrics.tokens.values((*where, "prompt"))
        self._completion = metrics.tokens.values((*where, "completion"))
        self._input = metrics.token_usage.values((*self._timed, "input"))
        self._output = metrics.token_usage.values((*self._timed, "output"))
        self._failed = metrics.failed.values(where)
        self._cost = metrics.cost.values(where)
        self._by_status: dict[int, list[float]] = {}

    def count(self, record: RequestRecord) -> None:
        status = self._by_status.get(record.status)
        if status is None:
            status = self._metrics.requests.values((*self._where, str(record.status)))
            self._by_status[record.status] = status
        status[0] += 1
        duration = self._duration
        may_have_failed = record.error or record.status >= CLIENT_ERRORS
        if may_have_failed and failed_by_server(record.status, record.error):
            self._failed[0] += 1
            failure = record.error or str(record.status)
            duration = self._metrics.duration.values((*self._timed, failure))
        duration_s = record.duration_ms / 1000.0
        duration[bisect_left(DURATION_BUCKETS_S, duration_s)] += 1
        duration[-1] += duration_s
        if record.prompt_tokens > 0:
            self._prompt[0] += record.prompt_tokens
            _observe_tokens(self._input, record.prompt_tokens)
        if record.completion_tokens > 0:
            self._completion[0] += record.completion_tokens
            _observe_tokens(self._output, record.completion_tokens)
        if record.cost_usd > 0:
            self._cost[0] += record.cost_usd
        if record.error:
            self._metrics.errors.inc((*self._where, record.error))
        if record.stream:
            self._count_stream(record)
        if record.guardrails:
            for name in record.guardrails.split(","):
                blocked = "true" if name == record.blocked_by else "false"
                self._metrics.guardrails.inc((*self._where, name, blocked))

    def _count_stream(self, record: RequestRecord) -> None:
        if record.ttft_ms >= 0:
            self._metrics.ttft.observe(self._timed, record.ttft_ms / 1000.0)
        if record.itl_ms >= 0:
            self._metrics.itl.observe(self._timed, record.itl_ms / 1000.0)


def _observe_tokens(values: list[float], tokens: int) -> None:
    values[bisect_left(TOKEN_BUCKETS, tokens)] += 1
    values[-1] += tokens
