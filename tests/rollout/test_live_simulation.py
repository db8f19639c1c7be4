"""What the benchmark of live rollouts is compared with ends as a live rollout has to."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fairlead.domain.verdicts import RolloutOutcome
from fairlead.rollout.declared import DeclaredMetric, FeedbackRule
from fairlead.rollout.plan import Plan, Step
from support.live_rollouts import BAD, EQUAL

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.live_simulation import World, simulate

PLAN = Plan(
    steps=(Step(0.25, 10), Step(0.5, 20)),
    settle_s=4.0,
    feedback=FeedbackRule("success", required=True),
    margin=0.15,
    deadline_s=300.0,
    metrics=tuple(
        DeclaredMetric(source, source, margin, tolerance)
        for source, tolerance, margin in (
            ("duration_ms", 0.25, 1.0),
            ("cost", 0.25, 1.0),
            ("refusal", 0.0, 0.1),
            ("format", 0.0, 0.1),
        )
    ),
)
WORLD = World(sessions_per_s=10.0, durations_s=[0.2, 0.25, 0.3, 0.5], silent=0.01)


@pytest.mark.parametrize("model", [EQUAL, *BAD])
def test_simulated_rollouts_end_as_live_ones_have_to(model: str) -> None:
    simulated = simulate(PLAN, model, WORLD, f"{model} 1")
    right = RolloutOutcome.PROMOTE if model == EQUAL else RolloutOutcome.ROLL_BACK
    assert simulated.outcome is right
    assert simulated.requests >= simulated.units > 0


def test_without_enough_sessions_there_is_no_verdict() -> None:
    few = World(sessions_per_s=0.05, durations_s=[0.2], silent=0.0)
    assert simulate(PLAN, EQUAL, few, "few").outcome is RolloutOutcome.INCONCLUSIVE
