"""Inhibition: alerts that say no more than another one that fires.

An alert that a monitor is blind inhibits nothing, whatever the rules say: that nobody sees is no
reason to believe less of what is seen. Nor does an alert inhibit itself, or one by which it is
inhibited in turn: of two that match both sides of a rule, both are told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.matching import Matcher, Op, all_match

BLIND = "monitor_blind"
"""The label `monitor` of alerts on monitors that cannot see."""


class Inhibition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule: while a source fires, targets with the same values of `equal` are not told.

    Attributes:
        equal: Labels that both must have, with the same value. Unlike in Alertmanager a label that
            neither has is not equal: it would tie alerts together that have nothing in common.
    """

    source: tuple[Matcher, ...]
    target: tuple[Matcher, ...]
    equal: tuple[str, ...]


def _one(name: str, op: Op, value: str) -> tuple[Matcher, ...]:
    return (Matcher(name, op, value),)


DEFAULTS = (
    # A replica that is down is slow, fails and answers nobody: say that it is down.
    Inhibition(
        _one("monitor", Op.IS, "replica_down"),
        _one("monitor", Op.LIKE, "latency|throughput|slow_replica|replica_flapping|errors"),
        ("service", "replica"),
    ),
    # Without any replica the service breaks all its promises at once.
    Inhibition(
        _one("monitor", Op.IS, "service_down"),
        _one("monitor", Op.LIKE, "slo|latency|throughput|slow_replica|replica_down|quality|errors"),
        ("service",),
    ),
    # A provider that has changed explains what its answers have become.
    Inhibition(
        _one("monitor", Op.IS, "provider_changed"),
        _one("monitor", Op.LIKE, "answer_drift|quality|format|refusals"),
        ("service",),
    ),
    # The page says all that the ticket does.
    Inhibition(
        _one("severity", Op.IS, "page"),
        _one("severity", Op.IS, "ticket"),
        ("service", "monitor", "slo"),
    ),
)


def inhibited_by(
    alert: Alert, alerts: Iterable[Alert], rules: Sequence[Inhibition] = DEFAULTS
) -> Alert | None:
    """The first firing alert, by fingerprint, that says all that this one does."""
    about = _labels(alert)
    for other in sorted(alerts, key=lambda one: one.fingerprint):
        if not other.is_firing or other.fingerprint == alert.fingerprint:
            continue
        if any(_inhibits(rule, _labels(other), about) for rule in rules):
            return other
    return None


def _labels(alert: Alert) -> dict[str, str]:
    return {**alert.of, "severity": alert.severity.value}


def _inhibits(rule: Inhibition, source: dict[str, str], target: dict[str, str]) -> bool:
    if source.get("monitor") == BLIND or target.get("monitor") == BLIND:
        return False
    if not all_match(rule.source, source) or not all_match(rule.target, target):
        return False
    if all_match(rule.source, target) and all_match(rule.target, source):
        return False
    return all(name in source and source[name] == target.get(name) for name in rule.equal)
