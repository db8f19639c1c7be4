"""What a manifest's `slos` and `monitoring` ask for, as the deciders take it."""

from __future__ import annotations

from fairlead.domain.receivers import Alertmanager, Receiver
from fairlead.domain.release import RemoteModel
from fairlead.manifest import Manifest
from fairlead.manifest.monitoring import Action, AlertRoute
from fairlead.monitoring.actions import ActionKind, ActionPolicy
from fairlead.monitoring.burning import Severity
from fairlead.monitoring.declared import Declared
from fairlead.monitoring.embedding_model import EmbeddingModel
from fairlead.monitoring.live_judging import JudgeSample
from fairlead.monitoring.matching import Matcher, Op, parse_matcher
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.monitoring.monitors.text_settings import TextSettings
from fairlead.monitoring.objectives import (
    AVAILABILITY_DEFAULT,
    Objective,
    ObjectiveKind,
    check_objective,
)
from fairlead.monitoring.policies import check_policies
from fairlead.monitoring.prometheus_rules import Promises
from fairlead.monitoring.telling import Route

P95 = 0.95
ALERTMANAGER_EVERY_S = 60.0
"""It forgets what it does not hear of again, and groups and repeats by itself."""


def judge_sample_of(manifest: Manifest) -> JudgeSample | None:
    """What of live traffic is judged outside rollouts."""
    given = manifest.monitoring.judge
    return None if given is None else JudgeSample(**given.model_dump())


def embeddings_of(manifest: Manifest) -> EmbeddingModel | None:
    """The model by whose vectors drift goes."""
    given = manifest.monitoring.embeddings
    if given is None:
        return None
    provider = None
    if given.model is not None:
        provider = RemoteModel(
            given.model.base_url, given.model.model, given.api_key_env, given.api_key_file
        )
    return EmbeddingModel(given.service, provider, given.per_day, given.timeout_seconds)


def declared_of(manifest: Manifest) -> Declared:
    """All of it; raises InvalidInput for what cannot be."""
    given = manifest.monitoring.monitors
    return Declared(
        objectives=promises_of(manifest).objectives,
        runbook=manifest.monitoring.runbook or "",
        routes=routes_of(manifest),
        receivers=receivers_of(manifest),
        actions=actions_of(manifest),
        judge=judge_sample_of(manifest),
        embeddings=embeddings_of(manifest),
        monitors=MonitorSettings(
            learn=given.learn_requests,
            requests_per_false_alarm=given.requests_per_false_alarm,
            tolerance=given.time_tolerance,
            off=given.off,
        ),
        texts=TextSettings(
            drift_texts=given.learn_texts,
            rate_texts=given.learn_requests,
            texts_per_false_alarm=given.requests_per_false_alarm,
        ),
    )


def promises_of(manifest: Manifest) -> Promises:
    """What is watched: availability always, the rest where it is promised."""
    slos = manifest.slos
    availability = AVAILABILITY_DEFAULT if slos.availability is None else slos.availability
    found = [_objective(manifest, ObjectiveKind.AVAILABILITY, availability)]
    for kind, limit_ms in (
        (ObjectiveKind.TTFT, slos.ttft_p95_ms),
        (ObjectiveKind.ITL, slos.itl_p95_ms),
        (ObjectiveKind.LATENCY, slos.latency_p95_ms),
    ):
        if limit_ms is not None:
            found.append(_objective(manifest, kind, P95, limit_ms))
    if slos.usd_per_request is not None:
        found.append(_objective(manifest, ObjectiveKind.COST, 1.0, slos.usd_per_request))
    if slos.quality is not None:
        found.append(_objective(manifest, ObjectiveKind.QUALITY, slos.quality))
    for objective in found:
        check_objective(objective)
    return Promises(manifest.service, tuple(found), manifest.monitoring.runbook or "")


def _objective(
    manifest: Manifest, kind: ObjectiveKind, target: float, threshold: float | None = None
) -> Objective:
    return Objective(
        kind,
        target,
        threshold,
        period_days=manifest.slos.period_days,
        requests_min=manifest.monitoring.least_requests,
        bad_min=manifest.monitoring.least_bad,
    )


def receivers_of(manifest: Manifest) -> dict[str, Receiver]:
    """Who is told, by service and name of the route: `bank/pager`."""
    return {
        f"{manifest.service}/{route.name}": route.to.receiver
        for route in manifest.monitoring.routes
    }


def routes_of(manifest: Manifest) -> tuple[Route, ...]:
    """Which alerts go where: those of this service, and those of none, such as of a receiver.

    Raises InvalidInput for a pattern that does not compile.
    """
    return tuple(_route(manifest.service, route) for route in manifest.monitoring.routes)


def _route(service: str, route: AlertRoute) -> Route:
    own = Matcher("service", Op.LIKE, f"{service.replace('.', '[.]')}|")
    is_again = isinstance(route.to.receiver, Alertmanager)
    return Route(
        receiver=f"{service}/{route.name}",
        severities=tuple(Severity(name) for name in route.severities),
        matchers=(own, *(parse_matcher(text) for text in route.match)),
        group_by=route.group_by,
        wait_s=0.0 if is_again else route.wait_seconds,
        interval_s=0.0 if is_again else route.interval_seconds,
        repeat_s=ALERTMANAGER_EVERY_S if is_again else route.repeat_hours * 3_600.0,
        resolved=route.resolved,
        quotes=route.quotes,
    )


def actions_of(manifest: Manifest) -> tuple[ActionPolicy, ...]:
    """What is done; raises InvalidInput for a pattern that does not compile."""
    policies = tuple(_action(action) for action in manifest.monitoring.actions)
    check_policies(policies)
    return policies


def _action(action: Action) -> ActionPolicy:
    return ActionPolicy(
        kind=ActionKind(action.do),
        monitors=action.monitors,
        severities=tuple(Severity(name) for name in action.severities),
        matchers=tuple(parse_matcher(text) for text in action.match),
        cooldown_s=action.cooldown_minutes * 60.0,
        per_day_max=action.per_day,
        dry_run=action.dry_run,
        replicas_more=action.replicas_more,
        within_s=action.within_hours * 3_600.0,
        guardrail=action.guardrail or "",
        cases_max=action.cases,
        minimum=action.minimum,
    )
