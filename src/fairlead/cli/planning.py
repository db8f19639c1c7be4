"""From the manifest's `rollout` to the plan by which control goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.cli.judging import feedback_of, feedback_rule
from fairlead.domain.strata import Strata
from fairlead.rollout import prometheus as asked
from fairlead.rollout.declared import FEEDBACK, DeclaredMetric
from fairlead.rollout.drill import DrillRule
from fairlead.rollout.freeze import DAYS, Freeze
from fairlead.rollout.plan import Hook, Plan, Point, Ramp, ShadowRule, Step, Strategy
from fairlead.rollout.ramp import grid
from fairlead.rollout.suites import SuiteMetric

if TYPE_CHECKING:
    from fairlead.manifest import Manifest
    from fairlead.manifest.live_metrics import LiveMetric
    from fairlead.manifest.prometheus import Prometheus
    from fairlead.manifest.rollout import Rollout

GRACE_S = 60.0
"""What an A/B comparison may take longer than its time, besides the time that the last units take
to settle and the gateway workers to take over the split: its hours count from then."""


def plan_of(manifest: Manifest) -> Plan:
    """The plan; raises InvalidInput when it does not make sense."""
    rollout = manifest.rollout
    shadow, warm = rollout.shadow, rollout.warm
    steps = _steps(rollout)
    return Plan(
        strategy=Strategy(rollout.strategy),
        steps=steps,
        settle_s=rollout.settle_seconds,
        feedback=feedback_of(manifest),
        tolerance=rollout.tolerance,
        margin=rollout.margin,
        alpha=rollout.alpha,
        beta=rollout.beta,
        deadline_s=_deadline_s(rollout, steps),
        expected_failure_rate=rollout.expected_failure_rate,
        champion_replicas=manifest.replicas.champion,
        canary_replicas=manifest.replicas.canary,
        shadow=ShadowRule(
            share=shadow.share,
            requests=shadow.requests,
            seconds=shadow.seconds,
            timeout_s=shadow.timeout_seconds,
        )
        if shadow
        else None,
        hooks=tuple(
            Hook(hook.url, tuple(Point(at) for at in hook.at), hook.timeout_seconds, hook.attempts)
            for hook in rollout.hooks
        ),
        approve_promotion=rollout.approve_promotion,
        approval_s=max(1.0, rollout.approval_hours * 3600),
        ready_s=rollout.ready_minutes * 60,
        gates_s=rollout.gates_hours * 3600,
        gateway_s=rollout.gateway_minutes * 60,
        warm_s=warm.warm_minutes * 60 if warm else 0.0,
        holdback=warm.holdback if warm and warm.warm_minutes else 0.0,
        failures_at_most=warm.failures_at_most if warm else None,
        revert=warm is not None and warm.revert,
        chooses_steps=rollout.chooses_steps,
        finish_s=rollout.finish_minutes * 60 if rollout.conversations == "finish" else 0.0,
        ramp=Ramp(*rollout.ramp.harm_budget) if rollout.ramp else None,
        metrics=tuple(_metric(m, manifest) for m in rollout.metrics if m.suite is None),
        suites=tuple(_suite(m, rollout.margin) for m in rollout.metrics if m.suite is not None),
        warm_up_s=rollout.warm_up_seconds,
        prometheus=_prometheus(rollout.prometheus),
        strata=None if rollout.risk is None else Strata(rollout.risk.by, rollout.risk.values),
    )


def _prometheus(given: Prometheus | None) -> asked.Prometheus | None:
    if given is None:
        return None
    return asked.Prometheus(
        url=given.url,
        token_env=given.token_env,
        token_file=given.token_file,
        ca_file=given.ca_file,
        link_local=given.link_local,
        timeout_s=given.timeout_seconds,
        unreachable_s=given.unreachable_minutes * 60,
        guards=tuple(
            asked.Guard(
                guard.name, guard.query, guard.at_most, guard.at_least, guard.every_seconds,
                guard.failures, asked.NoData(guard.no_data),
            )
            for guard in given.guards
        ),
        counts=tuple(
            asked.Count(
                count.name, count.query, count.tolerance, count.margin, count.design_factor,
                count.every_seconds, count.lag_seconds, asked.Absent(count.absent),
            )
            for count in given.counts
        ),
    )  # fmt: skip


def drills_of(manifest: Manifest) -> DrillRule | None:
    """When the manifest has its service drilled; raises InvalidInput when it makes no sense."""
    drill = manifest.drill
    if drill is None:
        return None
    return DrillRule(
        faults=drill.faults,
        every_days=drill.every,
        at_minute=drill.at,
        harm=drill.harm,
        share=drill.share,
        shadow=drill.shadow,
        delay_ms=drill.delay_ms,
        webhooks=drill.webhooks,
    )


def freeze_of(manifest: Manifest) -> tuple[Freeze, ...]:
    """The manifest's freeze windows."""
    return tuple(
        Freeze(
            name=window.name,
            days=tuple(DAYS.index(day) for day in window.days),
            begins_min=window.begins,
            ends_min=window.ends,
            zone=window.timezone,
            since=window.since,
            until=window.until,
        )
        for window in manifest.rollout.freeze
    )


def _metric(given: LiveMetric, manifest: Manifest) -> DeclaredMetric:
    margin, tolerance = given.margins(manifest.rollout.margin)
    return DeclaredMetric(
        name=given.called,
        source=given.source or FEEDBACK,
        margin=margin,
        tolerance=tolerance,
        weight=given.weight,
        budget=given.budget,
        worse=given.worse,
        promotes=given.needed_to_promote,
        feedback=feedback_rule(given, manifest.judge),
    )


def _suite(given: LiveMetric, rollout_margin: float) -> SuiteMetric:
    margin, tolerance = given.margins(rollout_margin)
    return SuiteMetric(
        name=given.called,
        gate=given.suite or "",
        cases=given.cases,
        every_s=60 * (given.every_minutes or 0.0),
        margin=margin,
        tolerance=tolerance,
        promotes=given.needed_to_promote,
        unanswered_s=60 * given.unanswered_minutes,
    )


def _steps(rollout: Rollout) -> tuple[Step, ...]:
    if rollout.hold is not None:
        return (Step(rollout.hold.share, rollout.hold.requests, rollout.hold.hours * 3600),)
    if rollout.strategy != "canary":
        return ()
    if rollout.ramp is not None:
        return grid(rollout.ramp.start, rollout.ramp.highest)
    return tuple(
        Step(step.share, step.requests, step.seconds, step.approval) for step in rollout.steps
    )


def _deadline_s(rollout: Rollout, steps: tuple[Step, ...]) -> float:
    if rollout.hold is None:
        return rollout.deadline_minutes * 60
    return steps[0].seconds + rollout.settle_seconds + rollout.gateway_minutes * 60 + GRACE_S
