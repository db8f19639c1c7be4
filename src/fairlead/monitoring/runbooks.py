"""Where an alert says what is to be done: on the service's own page, or else on ours."""

from __future__ import annotations

from collections.abc import Iterable

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


def common(declared: Iterable[str]) -> str:
    """What all services that declare one have declared: for what is of no service; else empty."""
    found = {one for one in declared if one}
    return found.pop() if len(found) == 1 else ""


def said(runbook: str) -> str:
    """As people are told of it: an address, or the place on our page in words.

    A path leads nowhere from a message, and some chats make a foreign address of a file's name.
    """
    page, _, place = runbook.partition("#")
    if page != PAGE:
        return runbook
    return f'fairlead\'s documentation, page "Alerts", "What to do": {place}'


def annotation(runbook: str) -> dict[str, str]:
    """As an annotation of Alertmanager's: by the name of which tools make a link, if it is one."""
    name = "runbook_url" if runbook.startswith(("http://", "https://")) else "runbook"
    return {name: said(runbook)} if runbook else {}
