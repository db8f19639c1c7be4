"""What a live rollout was judged by, in the form that `fairlead rollout replay` reads. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from fairlead.domain.errors import Conflict
from fairlead.rollout.judge import Gathering, metrics_of, new_judge, readings_of
from fairlead.rollout.metrics import Metric
from fairlead.rollout.observation import Observation
from fairlead.rollout.plan import OUTCOMES, Plan
from fairlead.rollout.recording import ReplayedObservation, Silence
from fairlead.rollout.replayed_suites import ReplayedPair, ReplayedSuite
from fairlead.rollout.suites import KEPT_MAX, SuiteMetric, SuiteState
from fairlead.rollout.units import Unit

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


def recorded(
    plan: Plan, pages: Iterable[Sequence[Observation]], judged_at: int, first_at: float = 0.0
) -> Recorded:
    """The first `judged_at` units of a rollout's requests, which come in their order.

    Raises Conflict when they are not all there: records are kept for a time only.

    Args:
        first_at: When the first of the units was enrolled that were judged; 0 if not known.
    """
    gathering = Gathering(new_judge(plan), plan, math.inf)
    for page in pages:
        gathering.add(page)
    units, settled = gathering.units()
    units = units[:judged_at]
    _check_whole(units, judged_at, first_at)
    metrics = metrics_of(plan)
    strata = () if plan.strata is None else plan.strata.names
    observations = []
    for number, unit in enumerate(units):
        for metric, reading in zip(metrics, readings_of(unit, plan, metrics, settled), strict=True):
            if reading is None:
                continue
            asked = _silence(unit, plan, metric)
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
                    requests=asked.requests,
                    silent=asked.silent,
                    told=asked.told,
                )
            )
    return Recorded(metrics, plan.judge_alpha, plan.beta, judged_at, observations, strata)


def _check_whole(units: Sequence[Unit], judged_at: int, first_at: float) -> None:
    """Raises Conflict when these are not the units that were judged, but what is left of them."""
    if len(units) < judged_at:
        lacks = f"of which {len(units):,} are still there"
    elif units and first_at and units[0].enrolled_at != first_at:
        lacks = "of which the first ones are not there any more"
    else:
        return
    raise Conflict(
        f"its verdict came from {judged_at:,} units, {lacks}",
        hint="records are kept for a time only: see --retention-days of `fairlead up`",
    )


def _silence(unit: Unit, plan: Plan, metric: Metric) -> Silence:
    """Of how many requests of the unit feedback is required; nothing beside other metrics."""
    if metric.name != OUTCOMES[1] or not plan.requires_feedback:
        return Silence()
    asked = unit.requests if unit.sampled is None else unit.sampled
    return Silence(asked, unit.silent, unit.feedback)


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
