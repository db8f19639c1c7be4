"""What a live rollout was judged by, in the form that `fairlead rollout replay` reads. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from fairlead.domain.errors import Conflict
from fairlead.rollout.judge import Gathering, metrics_of, new_judge, readings_of
from fairlead.rollout.metrics import Metric
from fairlead.rollout.observation import Observation
from fairlead.rollout.plan import Plan
from fairlead.rollout.replay import ReplayedObservation


class Recorded(msgspec.Struct, frozen=True):
    """A rollout's observations, and how they were judged.

    Attributes:
        judged_at: Units after which its verdict was taken.
    """

    metrics: list[Metric]
    alpha: float
    beta: float
    judged_at: int
    observations: list[ReplayedObservation]


def recorded(plan: Plan, pages: Iterable[Sequence[Observation]], judged_at: int) -> Recorded:
    """The first `judged_at` units of a rollout's requests, which come in their order.

    Raises Conflict when there are fewer: records are kept for a time only.
    """
    gathering = Gathering(new_judge(plan), plan, math.inf)
    for page in pages:
        gathering.add(page)
    units, settled = gathering.units()
    if len(units) < judged_at:
        raise Conflict(
            f"its verdict came from {judged_at:,} units, of which {len(units):,} are still there",
            hint="records are kept for a time only: see --retention-days of `fairlead up`",
        )
    metrics = metrics_of(plan)
    observations = []
    for number, unit in enumerate(units[:judged_at]):
        for metric, reading in zip(metrics, readings_of(unit, plan, metrics, settled), strict=True):
            if reading is None:
                continue
            observations.append(
                ReplayedObservation(
                    # Units that came at the same moment stay in their order.
                    unit=f"{number:07}-{unit.phase}-{unit.digest:08x}",
                    arm="canary" if unit.canary else "champion",
                    rho=unit.rho,
                    metric=metric.name,
                    value=reading.value,
                    enrolled_at=unit.enrolled_at,
                    worst=None if reading.worst == reading.value else reading.worst,
                    lacks=reading.lacks,
                )
            )
    return Recorded(metrics, plan.judge_alpha, plan.beta, judged_at, observations)
