"""From a service's own spec to the spec of a drill of it, and what is known of a drill."""

from __future__ import annotations

import msgspec

from fairlead.control.drill.drill_views import DrillRequest, DrillView
from fairlead.control.shipping.capacity import sampling_of
from fairlead.control.shipping.documents import RolloutDocument
from fairlead.control.shipping.spec import ServiceSpec
from fairlead.domain.errors import InvalidInput
from fairlead.domain.fault import Fault
from fairlead.rollout.drill import (
    HARM_MAX,
    Drill,
    Met,
    advice_of,
    caught_by,
    drill_plan,
    measures,
    result_of,
    seconds_to_end,
    shown_by_records,
)
from fairlead.rollout.forecast import forecast
from fairlead.rollout.model import Rollout
from fairlead.store.interface import TelemetryStore
from fairlead.store.rows import RecordFilter

READ_MAX = 5 * HARM_MAX


def drill_spec(
    spec: ServiceSpec, request: DrillRequest, *, workers: int, scheduled: bool = False
) -> ServiceSpec:
    """How to roll out the bad release; raises InvalidInput.

    Args:
        spec: The service's, which is its champion's.
        workers: Gateway workers that divide the harm among each other.
    """
    fault = Fault(request.fault, request.rate, request.delay_ms)
    if not 1 <= request.harm <= HARM_MAX:
        raise InvalidInput(f"harm: {request.harm:,} is not between 1 and {HARM_MAX:,}")
    if request.harm < workers and not request.shadow:
        raise InvalidInput(
            f"harm: {request.harm:,} cannot be divided among {workers:,} gateway workers",
            hint=f"allow {workers:,} or more, or drill in shadow",
        )
    share = request.share if request.share is not None else 1.0 if request.shadow else 0.05
    drill = Drill(spec.release, fault, request.harm, scheduled)
    return msgspec.structs.replace(
        spec,
        release=drill.release,
        name=drill.name,
        plan=drill_plan(spec.plan, share, shadow=request.shadow),
        gates=(),
        when_busy="refuse",
        freeze=(),
        pins=(),
        probes=None,
        drills=None,
        drill=drill,
    )


def met_by(store: TelemetryStore, rollout: Rollout) -> Met:
    """Who has met a drill, as far as it is recorded."""
    wanted = RecordFilter(rollout=rollout.id, release=rollout.release, arm="canary")
    rows = store.records(wanted, limit=READ_MAX)
    if not rows:
        return Met()
    return Met(len(rows), len({row.unit for row in rows}), max(row.started_at for row in rows))


def drill_view(document: RolloutDocument, created_at: float, met: Met | None = None) -> DrillView:
    """What is known of a drill.

    Args:
        met: Who met it, where that was read anew.
    """
    rollout = document.rollout
    drill, plan = rollout.drill, rollout.plan
    assert drill is not None
    met = met if met is not None and met.requests > rollout.met.requests else rollout.met
    result = result_of(rollout)
    shadow = plan.shadow
    # Where no record shows it, a judge model has to be asked: of a sample.
    judged = not shown_by_records(plan, drill.fault)
    sampling = sampling_of(document.spec) if judged else None
    expected = None if shadow is not None else forecast(plan, None, sampling).units_to_roll_back
    share = plan.steps[0].share if shadow is None else shadow.share
    return DrillView(
        id=rollout.id,
        service=rollout.service,
        fault=drill.fault,
        shadow=shadow is not None,
        share=share,
        harm=drill.harm,
        scheduled=drill.scheduled,
        result=result.value,
        state=rollout.state.value,
        reason=rollout.reason,
        advice=advice_of(rollout),
        by=caught_by(rollout),
        requests=met.requests,
        users=met.users,
        copies=rollout.shadowed.copies,
        seconds=seconds_to_end(rollout),
        expected_requests=None if expected is None else max(1, round(expected * share)),
        created_at=created_at,
        notes=_notes(rollout, drill),
    )


def _notes(rollout: Rollout, drill: Drill) -> list[str]:
    shadow = rollout.plan.shadow
    if measures(rollout.plan, drill.fault, shadow=shadow is not None):
        return []
    kind = drill.fault.kind
    if shadow is not None:
        return [
            f"no copy shows a fault of the kind {kind}: copies are judged by failures, by answers "
            f"that take longer than {shadow.timeout_s:g} s, and by metrics of refusal, format and "
            "json (docs/drills.md)"
        ]
    return [
        f"nothing that the rollout measures shows a fault of the kind {kind}: declare a metric or "
        "feedback that does (docs/drills.md)"
    ]
