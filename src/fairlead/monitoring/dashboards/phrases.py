"""PromQL that the dashboards share."""

from __future__ import annotations

from collections.abc import Sequence

REQUESTS = "fairlead_gateway_requests_total"
FAILED = "fairlead_gateway_requests_failed_total"
TOKENS = "fairlead_gateway_tokens_total"
COST = "fairlead_gateway_cost_usd_total"
TTFT = "fairlead_gateway_time_to_first_token_seconds"
ITL = "fairlead_gateway_inter_token_latency_seconds"
DURATION = "fairlead_gateway_request_duration_seconds"
WINDOW = "$__rate_interval"
SERVICE = 'service=~"$service"'


def rate(metric: str, by: Sequence[str], where: str = SERVICE) -> str:
    """How much of a counter there is each second."""
    return f"sum by ({', '.join(by)}) (rate({metric}{{{where}}}[{WINDOW}]))"


def share(part: str, whole: str) -> str:
    """Part of whole; nothing where there is nothing."""
    return f"{part} / ({whole} > 0)"


def quantile(q: float, histogram: str, by: Sequence[str], where: str = SERVICE) -> str:
    """A quantile of a histogram, as exact as its buckets are."""
    return f"histogram_quantile({q:g}, {rate(f'{histogram}_bucket', (*by, 'le'), where)})"
