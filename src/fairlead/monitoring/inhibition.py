"""Inhibition: alerts that say no more than another one that fires.

An alert that a monitor is blind inhibits nothing, whatever the rules say: that nobody sees is no
reason to believe less of what is seen. It is inhibited only by a rule that names it: where no
gateway runs, there is nothing to see. Nor does an alert inhibit itself, or one by which it is
inhibited in turn: of two that match both sides of a rule, both are told. Nor does an alert inhibit
a graver one: a ticket that explains a page wakes nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from fairlead.monitoring.alerts import Alert
from fairlead.monitoring.burning import RANK
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
        _one(
            "monitor",
            Op.LIKE,
            "slo|latency|throughput|slow_replica|slow_key|replica_down|quality|errors",
        ),
        ("service",),
    ),
    # A provider that has changed explains what its answers have become.
    Inhibition(
        _one("monitor", Op.IS, "provider_changed"),
        _one("monitor", Op.LIKE, "answer_drift|quality|format|refusals"),
        ("service",),
    ),
    # Nothing is recorded where no gateway runs: who watches records is behind.
    Inhibition(
        (Matcher("monitor", Op.IS, "gateway_down"), Matcher("severity", Op.IS, "page")),
        (Matcher("monitor", Op.IS, BLIND), Matcher("fault", Op.IS, "lag")),
        (),
    ),
    # The page says all that the ticket does.
    Inhibition(
        _one("severity", Op.IS, "page"),
        _one("severity", Op.IS, "ticket"),
        ("service", "monitor", "slo"),
    ),
)


def inhibited(
    alerts: Iterable[Alert], among: Iterable[Alert], rules: Sequence[Inhibition] = DEFAULTS
) -> dict[str, Alert]:
    """By fingerprint, those of the alerts of which a firing one says all, with that one.

    Args:
        among: Where such alerts are looked for.
    """
    sources = _sources(among, rules)
    found = {}
    for alert in alerts:
        source = _source_of(alert, sources, rules)
        if source is not None:
            found[alert.fingerprint] = source
    return found


_Sources = dict[tuple[int, tuple[str, ...], bool], Alert]
"""By rule, values of `equal`, and whether the source is a target of that rule, too; the gravest."""


def _sources(among: Iterable[Alert], rules: Sequence[Inhibition]) -> _Sources:
    found: _Sources = {}
    for alert in sorted(among, key=lambda one: (RANK[one.severity], one.fingerprint)):
        labels = _labels(alert)
        if not alert.is_firing or labels.get("monitor") == BLIND:
            continue
        for index, rule in enumerate(rules):
            values = _values(rule, labels)
            if values is not None and all_match(rule.source, labels):
                found.setdefault((index, values, all_match(rule.target, labels)), alert)
    return found


def _source_of(alert: Alert, sources: _Sources, rules: Sequence[Inhibition]) -> Alert | None:
    target = _labels(alert)
    for index, rule in enumerate(rules):
        values = _values(rule, target)
        if values is None or not all_match(rule.target, target) or not _may(rule, target):
            continue
        both = all_match(rule.source, target)
        for is_target in (False,) if both else (False, True):
            found = sources.get((index, values, is_target))
            if found is not None and RANK[found.severity] <= RANK[alert.severity]:
                return found
    return None


def _may(rule: Inhibition, target: dict[str, str]) -> bool:
    """Whether it names who is blind, if that is what the target is about."""
    names = any((one.name, one.op, one.value) == ("monitor", Op.IS, BLIND) for one in rule.target)
    return target.get("monitor") != BLIND or names


def _values(rule: Inhibition, labels: dict[str, str]) -> tuple[str, ...] | None:
    """The values of `equal`; None where one of the labels is missing."""
    if not all(name in labels for name in rule.equal):
        return None
    return tuple(labels[name] for name in rule.equal)


def _labels(alert: Alert) -> dict[str, str]:
    return {**alert.of, "severity": alert.severity.value}
