"""What a live rollout was judged by, in the form that `fairlead rollout replay` reads. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from fairlead.domain.errors import Conflict
from fairlead.rollout.judge import Gathering, metrics_of, new_judge, readings_of
from fairlead.rollout.metrics import Metric
from fairlead.rollout.observation import Observation
from fairlead.rollout.plan import Plan
from fairlead.rollout.recording import ReplayedObservation
from fairlead.rollout.replayed_suites import ReplayedPair, ReplayedSuite
from fairlead.rollout.suites import KEPT_MAX, SuiteMetric, SuiteState

NOT_KEPT = (
    f"the cases of a suite are kept up to {KEPT_MAX:,}, and not by a build of fairlead that was "
    "older than exports of suites"
)


class Recorded(msgspec.Struct, frozen=True):
    """A rollout's observations, and how they were judged.

    Attributes:
        judged_at: Units after which its verdict was taken.
        strata: Its strata of risk, in words; empty where none were told apart.
        suites, pairs: The suites that were run again, and what those have shown whose evidence is
            kept whole.
    """

    metrics: list[Metric]
    alpha: float
    beta: float
    judged_at: int
    observations: list[ReplayedObservation]
    strata: tuple[str, ...] = ()
    suites: list[ReplayedSuite] = []
    pairs: list[ReplayedPair] = []

    @property
    def incomplete_suites(self) -> tuple[str, ...]:
        """Suites whose evidence is not in it."""
        return tuple(suite.name for suite in self.suites if suite.incomplete)


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
    strata = () if plan.strata is None else plan.strata.names
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
                    stratum=strata[unit.stratum] if 0 <= unit.stratum < len(strata) else None,
                )
            )
    return Recorded(metrics, plan.judge_alpha, plan.beta, judged_at, observations, strata)


def with_suites(
    found: Recorded, metrics: Sequence[SuiteMetric], states: Mapping[str, SuiteState]
) -> Recorded:
    """The same with what its suites have shown, pair by pair in the order in which they counted.

    A suite of which not all pairs are kept is named, and has none. Raises Conflict where that
    leaves nothing: no unit was judged, and of no suite all pairs are kept.
    """
    suites: list[ReplayedSuite] = []
    pairs: list[ReplayedPair] = []
    for metric in metrics:
        state = states.get(metric.name)
        outcomes = [] if state is None else state.outcomes
        incomplete = state is not None and len(outcomes) < state.pairs
        suites.append(
            ReplayedSuite(metric.name, metric.margin, metric.tolerance, metric.promotes, incomplete)
        )
        if incomplete:
            continue
        pairs += [
            ReplayedPair(metric.name, number, champion, canary)
            for number, (champion, canary) in enumerate(outcomes, start=1)
        ]
    told = msgspec.structs.replace(found, suites=suites, pairs=pairs)
    if told.incomplete_suites and not told.observations and not pairs:
        raise Conflict(
            f"it has judged no unit, and the cases of {', '.join(told.incomplete_suites)} are not "
            "all kept",
            hint=NOT_KEPT,
        )
    return told
