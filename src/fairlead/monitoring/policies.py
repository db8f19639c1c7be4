"""What a declared reaction has to be like."""

from __future__ import annotations

import math
from collections.abc import Iterable

from fairlead.domain.errors import InvalidInput
from fairlead.domain.verdicts import NEW_CASES_MIN
from fairlead.monitoring.actions import MONITOR, ActionKind, ActionPolicy
from fairlead.monitoring.inhibition import BLIND

CASES_MAX = 100


def check_policy(policy: ActionPolicy) -> None:
    """Raises InvalidInput unless it is for something, and within bounds."""
    if not policy.monitors or not policy.severities:
        raise InvalidInput(f"action {policy.kind}: needs monitors and severities that it is for")
    if {BLIND, MONITOR} & set(policy.monitors):
        raise InvalidInput(
            f"action {policy.kind}: nothing is done about blind monitors and failed actions",
            hint="people are told of it; name the monitors that see something",
        )
    if not 0.0 <= policy.cooldown_s < math.inf or policy.per_day_max < 1:
        raise InvalidInput(f"action {policy.kind}: cool-down or limit per day makes no sense")
    if not 0.0 < policy.within_s < math.inf:
        raise InvalidInput(f"action {policy.kind}: {policy.within_s} is no time to go back within")
    if not 1 <= policy.cases_max <= CASES_MAX or not 0.0 <= policy.minimum <= 1.0:
        raise InvalidInput(
            f"action {policy.kind}: from 1 to {CASES_MAX} cases, and a minimum from 0 to 1"
        )
    if policy.kind is ActionKind.ADD_CASES and policy.cases_max < NEW_CASES_MIN:
        raise InvalidInput(
            f"action {policy.kind}: at least {NEW_CASES_MIN} cases, not {policy.cases_max}",
            hint="fewer let no release pass",
        )
    if not 1 <= policy.replicas_more <= 256:
        raise InvalidInput(f"action {policy.kind}: from 1 to 256 replicas more")


def check_policies(policies: Iterable[ActionPolicy]) -> None:
    """Raises InvalidInput unless each makes sense, and has an id of its own."""
    known = set[str]()
    for policy in policies:
        check_policy(policy)
        if policy.id in known:
            raise InvalidInput(
                f"action {policy.kind}: is declared twice for {', '.join(sorted(policy.monitors))}",
                hint="make them one, with all severities and the looser of their limits",
            )
        known.add(policy.id)
