"""What a service declares of its watching, and what holds where it declares nothing."""

from __future__ import annotations

import msgspec

from fairlead.domain.errors import InvalidInput
from fairlead.domain.receivers import Receiver
from fairlead.monitoring.actions import ActionPolicy
from fairlead.monitoring.embedding_model import EmbeddingModel, check_embeddings
from fairlead.monitoring.live_judging import JudgeSample, check_judge_sample
from fairlead.monitoring.matching import check_matchers
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.monitoring.monitors.text_settings import TextSettings
from fairlead.monitoring.objectives import (
    AVAILABILITY_DEFAULT,
    Objective,
    ObjectiveKind,
    check_objective,
)
from fairlead.monitoring.policies import check_policies
from fairlead.monitoring.telling import Route

ROUTES_MAX = 20
OBJECTIVES_MAX = len(ObjectiveKind)


class Declared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a service is watched.

    Attributes:
        objectives: What it promises, one of each kind; availability is watched at its default if it
            is not among them.
        runbook: Address of what to do; alerts link to it.
        routes: Who is told of which alerts.
        receivers: Where that is, by the name of the route's receiver.
        actions: What is done about which alerts.
        monitors, texts: How its monitors are set.
        judge: What of live traffic is judged outside rollouts; None for nothing.
        embeddings: The model by whose vectors drift goes; None for what is at hand.
    """

    objectives: tuple[Objective, ...] = ()
    runbook: str = ""
    routes: tuple[Route, ...] = ()
    receivers: dict[str, Receiver] = {}
    actions: tuple[ActionPolicy, ...] = ()
    monitors: MonitorSettings = MonitorSettings()
    texts: TextSettings = TextSettings()
    judge: JudgeSample | None = None
    embeddings: EmbeddingModel | None = None

    @property
    def promises(self) -> tuple[Objective, ...]:
        """All objectives that are watched."""
        if any(one.kind is ObjectiveKind.AVAILABILITY for one in self.objectives):
            return self.objectives
        default = Objective(ObjectiveKind.AVAILABILITY, AVAILABILITY_DEFAULT)
        return (default, *self.objectives)


def check_declared(declared: Declared, service: str) -> None:
    """Refuse what a manifest could not have said; raises InvalidInput with the place."""
    if declared.judge is not None:
        check_judge_sample(declared.judge)
    if declared.embeddings is not None:
        check_embeddings(declared.embeddings, service)
    kinds = [objective.kind for objective in declared.objectives]
    if len(set(kinds)) != len(kinds):
        raise InvalidInput("monitoring.objectives: two of the same kind")
    for objective in declared.objectives:
        check_objective(objective)
    if len(declared.routes) > ROUTES_MAX:
        raise InvalidInput(f"monitoring.routes: at most {ROUTES_MAX}, not {len(declared.routes)}")
    for name in declared.receivers:
        # One of another name would take the place of another service's.
        if not name.startswith(f"{service}/"):
            raise InvalidInput(
                f"monitoring.receivers: {ascii(name)[:80]} does not begin with {service}/"
            )
    for index, route in enumerate(declared.routes):
        where = f"monitoring.routes[{index}]"
        if not route.receiver.startswith(f"{service}/"):
            raise InvalidInput(f"{where}.receiver: must begin with {service}/")
        if route.receiver not in declared.receivers:
            raise InvalidInput(f"{where}.receiver: {ascii(route.receiver)[:80]} is not declared")
        check_matchers(route.matchers)
    for policy in declared.actions:
        check_matchers(policy.matchers)
    check_policies(declared.actions)
