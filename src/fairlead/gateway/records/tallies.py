"""What a finished request counts in, looked up once for all requests of its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.domain.outcomes import CLIENT_ERRORS, failed_by_server
from fairlead.domain.release import short
from fairlead.gateway.limits import SERIES_MAX
from fairlead.gateway.records.values import Number
from fairlead.wire.gen_ai import operation_of
from fairlead.wire.record import RequestRecord

if TYPE_CHECKING:
    from fairlead.gateway.records.metrics import GatewayMetrics

DURATION_BUCKETS_S = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip


class Tallies:
    """What finished requests count in, by their kinds."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics
        self._by_kind: dict[tuple[str, str, str], Tally] = {}

    def count(self, record: RequestRecord) -> None:
        """Count a finished request."""
        key = (record.service, record.release, record.endpoint)
        tally = self._by_kind.get(key)
        if tally is None:
            if len(self._by_kind) >= SERIES_MAX:
                self._by_kind.clear()
            where = (record.service, short(record.release))
            tally = Tally(self._metrics, where, operation_of(record.endpoint))
            self._by_kind[key] = tally
        tally.count(record)


class Tally:
    """The values that finished requests of one kind count in, looked up once.

    Args:
        where: Service and release.
    """

    def __init__(self, metrics: GatewayMetrics, where: tuple[str, str], operation: str) -> None:
        self._metrics = metrics
        self._where = where
        self._timed = (*where, operation)
        self._duration = metrics.duration.histogram((*where, operation, ""))
        self._prompt = metrics.tokens.number((*where, "prompt"))
        self._completion = metrics.tokens.number((*where, "completion"))
        self._input = metrics.token_usage.histogram((*where, operation, "input"))
        self._output = metrics.token_usage.histogram((*where, operation, "output"))
        self._failed = metrics.failed.number(where)
        self._cost = metrics.cost.number(where)
        self._by_status: dict[int, Number] = {}

    def count(self, record: RequestRecord) -> None:
        """Count a request of its kind."""
        status, error = record.status, record.error
        answered = self._by_status.get(status)
        if answered is None:
            answered = self._metrics.requests.number((*self._where, str(status)))
            self._by_status[status] = answered
        answered.value += 1.0
        duration = self._duration
        if (error or status >= CLIENT_ERRORS) and failed_by_server(status, error):
            self._failed.value += 1.0
            duration = self._metrics.duration.histogram((*self._timed, error or str(status)))
        duration.observe(record.duration_ms / 1000.0)
        prompt, completion = record.prompt_tokens, record.completion_tokens
        if prompt > 0:
            self._prompt.value += prompt
            self._input.observe(float(prompt))
        if completion > 0:
            self._completion.value += completion
            self._output.observe(float(completion))
        if record.cost_usd > 0:
            self._cost.value += record.cost_usd
        if error:
            self._metrics.errors.inc((*self._where, error))
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
