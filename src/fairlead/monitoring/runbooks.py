"""Where an alert says what is to be done: on the service's own page, or else on ours."""

from __future__ import annotations

PAGE = "docs/alerts.md"
PLACE = "{monitor}"
"""In a declared address: the monitor that found it."""

MONITORS = frozenset(
    {
        "actions", "answer_drift", "bias", "bias_scores", "champion_over_limit", "clock_skew",
        "cost", "drift", "drill_failed", "errors", "format", "gate", "gateway_down", "guardrails",
        "injection", "judge_down", "language", "latency", "length", "monitor_blind",
        "notifications", "probes_failing", "provider_changed", "quality", "records", "refusals",
        "release_damaged", "repetition", "replica_down", "replica_flapping", "rollout_rolled_back",
        "segments", "service_down", "slo", "slow_key", "slow_replica", "throughput",
    }
)  # fmt: skip
"""Those of which our page says it, each at an anchor of its name."""


def runbook_of(monitor: str, declared: str) -> str:
    """The address; empty if there is none."""
    if declared:
        return declared.replace(PLACE, monitor)
    return f"{PAGE}#{monitor}" if monitor in MONITORS else ""
