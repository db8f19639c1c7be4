"""Conditions and alerts, made short."""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.monitoring.alerts import Alert, observe
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.conditions import Condition, Figure, labels_of


def condition(
    monitor: str = "slo",
    service: str = "bank",
    severity: Severity = Severity.PAGE,
    pending_s: float = 0.0,
    keep_s: float = 300.0,
    **labels: str,
) -> Condition:
    return Condition(
        labels=labels_of(monitor=monitor, service=service, **labels),
        severity=severity,
        summary=f"{service}: {monitor} is wrong",
        evidence=(Figure("burn rate over 1 h", 20.0, limit=14.4),),
        pending_s=pending_s,
        keep_s=keep_s,
    )


def firing(*conditions: Condition, now: float = 1_000.0) -> list[Alert]:
    """The alerts of conditions that hold."""
    return list(observe({}, conditions, {one.seen_by for one in conditions}, now).values())


def changed(alert: Alert, **fields: Any) -> Alert:
    return msgspec.structs.replace(alert, **fields)
