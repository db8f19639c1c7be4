"""Messages, made of real alerts."""

from __future__ import annotations

import msgspec

from fairlead.monitoring.alerts import observe
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.causes import Change
from fairlead.monitoring.conditions import Condition, Figure, labels_of
from fairlead.monitoring.telling import Message, Route, messages

T0 = 1_767_225_600.0


def condition(
    summary: str = "bank: availability burns its budget", keep_s: float = 300.0
) -> Condition:
    return Condition(
        labels=labels_of(monitor="slo", service="bank", slo="availability"),
        severity=Severity.PAGE,
        summary=summary,
        evidence=(Figure("burn rate over 1 h", 20.0, limit=14.4),),
        keep_s=keep_s,
        runbook="https://runbooks.example/slo",
    )


def firing(receiver: str = "ops", summary: str = condition().summary, at: float = T0) -> Message:
    """A message of one alert that fires."""
    changes = [Change(at - 240.0, "rollout", "release b promoted", labels_of(service="bank"))]
    alerts = observe({}, [condition(summary)], {("slo", "bank")}, at, changes)
    (message,) = messages([Route(receiver, wait_s=0.0)], alerts.values(), {}, at)
    return message


def resolved(receiver: str = "ops", at: float = T0) -> Message:
    """The message of its end."""
    alerts = observe({}, [condition()], {("slo", "bank")}, at)
    (message,) = messages([Route(receiver, wait_s=0.0)], alerts.values(), {}, at)
    for now in (at + 60.0, at + 400.0):
        alerts = observe(alerts, [], {("slo", "bank")}, now)
    (end,) = messages([Route(receiver)], alerts.values(), {message.key: message.told}, at + 400.0)
    return end


def several(*slos: str, receiver: str = "ops", at: float = T0) -> Message:
    """A message of alerts that fire, one on each of these."""
    conditions = [
        msgspec.structs.replace(
            condition(), labels=labels_of(monitor="slo", service="bank", slo=slo)
        )
        for slo in slos
    ]
    alerts = observe({}, conditions, {("slo", "bank")}, at)
    (message,) = messages([Route(receiver, wait_s=0.0)], alerts.values(), {}, at)
    return message
