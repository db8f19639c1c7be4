"""Names of monitors, as a manifest gives them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from fairlead.manifest.values import nearest, shown, wrong

MONITORS = (
    "slo",
    "latency",
    "throughput",
    "errors",
    "service_down",
    "replica_down",
    "replica_flapping",
    "release_damaged",
    "slow_replica",
    "slow_key",
    "quality",
    "format",
    "refusals",
    "repetition",
    "language",
    "length",
    "drift",
    "answer_drift",
    "bias",
    "bias_scores",
    "segments",
    "cost",
    "injection",
    "guardrails",
    "provider_changed",
    "probes_failing",
    "judge_down",
    "records",
    "clock_skew",
    "gateway_down",
    "drill_failed",
    "champion_over_limit",
    "rollout_rolled_back",
    "gate",
)
"""Monitors about which something can be done: values of the label `monitor`."""


def _monitor(value: object) -> object:
    if not isinstance(value, str) or value in MONITORS:
        return value
    if value == "monitor_blind":
        raise wrong("must not be monitor_blind: nothing is done because nobody sees")
    near = nearest(value, list(MONITORS))
    known = f'did you mean "{near}"?' if near else f"there are: {', '.join(MONITORS)}"
    raise wrong(f"is no monitor: {shown(value)} ({known})")


Monitor = Annotated[
    str,
    BeforeValidator(_monitor),
    WithJsonSchema({"type": "string", "enum": list(MONITORS)}),
]
