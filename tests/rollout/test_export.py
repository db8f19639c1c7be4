"""A live verdict can be judged again from its export, to the last bit."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.cli.exporting import metrics_file
from fairlead.cli.replay import recording_of
from fairlead.domain.errors import Conflict
from fairlead.domain.verdicts import RolloutOutcome
from fairlead.manifest.metrics import load_metrics
from fairlead.rollout.assessment import assess
from fairlead.rollout.export import recorded
from fairlead.rollout.judge import new_judge, observe
from fairlead.rollout.observation import Observation
from fairlead.rollout.plan import Plan
from fairlead.rollout.recording import ReplayedObservation
from fairlead.rollout.replay import ReplayResult, replay
from rollout import test_sampled as sampled
from rollout import test_silence as silence
from rollout.test_live_metrics import PLAN, Traffic, dearer, slower

LIVE = msgspec.structs.replace(PLAN, warm_up_s=2.0)


def nothing(facts: dict[str, Any]) -> None:
    """An equal canary."""


def without_cost(facts: dict[str, Any]) -> None:
    facts["cost_usd"] = -1.0


def replayed(world: list[Observation], units: int, folder: Path, plan: Plan = LIVE) -> ReplayResult:
    """The export, written to files and read again."""
    pages = [world[at : at + 500] for at in range(0, len(world), 500)]
    found = recorded(plan, pages, units)
    file = folder / "metrics.yaml"
    file.write_bytes(metrics_file(found))
    declared = load_metrics(file)
    recording = recording_of(declared)
    for line in found.observations:
        recording.add(msgspec.json.decode(msgspec.json.encode(line), type=ReplayedObservation))
    return replay(recording, alpha=declared.alpha, beta=declared.beta, judged_at=declared.judged_at)


@pytest.mark.parametrize(
    ("change", "units", "outcome"),
    [
        (slower, 600, RolloutOutcome.ROLL_BACK),
        (dearer, 600, RolloutOutcome.ROLL_BACK),
        (nothing, 4_000, RolloutOutcome.PROMOTE),
        (without_cost, 400, None),
    ],
)
def test_a_replay_of_an_export_is_the_live_verdict(
    change: Callable[[dict[str, Any]], None],
    units: int,
    outcome: RolloutOutcome | None,
    tmp_path: Path,
) -> None:
    """The same evidence by each metric, from the same units; conversations of several requests."""
    traffic = Traffic(21)
    world = []
    for number in range(units):
        first = traffic.request(change)
        world.append(first)
        if number % 3 == 0:
            second = traffic.request(None)
            world.append(
                msgspec.structs.replace(
                    second, unit=first.unit, canary=first.canary, started_at=first.started_at + 0.05
                )
            )
    world.sort(key=lambda request: (request.started_at, request.id))
    judge = observe(new_judge(LIVE), LIVE, world, 1e9)
    live = assess(judge, LIVE)
    again = replayed(world, judge.units, tmp_path)
    if outcome is not None:
        assert live.outcome is outcome
        assert again.verdict is outcome
    else:
        assert again.verdict is RolloutOutcome.INVALID
        assert live.outcome is RolloutOutcome.WAIT
    assert again.at == judge.units
    line = msgspec.json.encode(recorded(LIVE, [world], judge.units).observations[0])
    assert b"null" not in line, "what is not there takes no room"
    assert again.path[-1].e_promote == live.numbers["e_promote"]
    for metric in again.metrics:
        own = live.numbers["by_outcome"][metric.name]
        assert metric.e_promote == own["e_promote"]


def test_records_that_are_gone_are_no_evidence() -> None:
    """An export of fewer units than were judged is refused."""
    traffic = Traffic(22)
    with pytest.raises(Conflict, match="10 are still there"):
        recorded(LIVE, [[traffic.request() for _ in range(10)]], 11)


def test_units_outside_a_judge_models_sample_are_no_bad_ones(tmp_path: Path) -> None:
    """A replay of four fifths that nobody was to judge would else find them missing."""
    world = sampled.world(bad=(0.1, 0.1), units=6_000)
    judge = observe(new_judge(sampled.PLAN), sampled.PLAN, world, 1e9)
    live = assess(judge, sampled.PLAN)
    again = replayed(world, judge.units, tmp_path, sampled.PLAN)
    assert again.verdict is live.outcome is RolloutOutcome.PROMOTE
    assert again.path[-1].e_promote == live.numbers["e_promote"]


@pytest.mark.parametrize(
    ("speaks", "said"),
    [
        (0, "no feedback on any of the canary's "),
        (1, "no feedback on 1,"),
    ],
)
def test_feedback_that_is_required_and_has_not_come_keeps_a_replay_from_promotion_too(
    speaks: int, said: str, tmp_path: Path
) -> None:
    """However little the releases differ, as far as is known."""
    spoken = [
        Observation("x", "first", True, 0.5, 1, False, 0.0, (("success", 1.0, 0.5),)),
    ]
    world = spoken[:speaks] + silence._silent(random.Random(1), 3_000)
    world.sort(key=lambda request: (request.started_at, request.id))
    judge = observe(new_judge(silence.REQUIRED), silence.REQUIRED, world, 1e6)
    live = assess(judge, silence.REQUIRED)
    assert live.outcome is RolloutOutcome.WAIT
    assert live.numbers["e_promote"] > 20
    again = replayed(world, judge.units, tmp_path, silence.REQUIRED)
    assert again.verdict is RolloutOutcome.INCONCLUSIVE
    assert again.missing.startswith(said)
    assert again.path[-1].e_promote == live.numbers["e_promote"]


def test_what_is_left_of_the_records_is_not_taken_for_what_was_judged() -> None:
    """Units that came after the verdict must not stand in for the first ones."""
    traffic = Traffic(23)
    world = [traffic.request() for _ in range(60)]
    judge = observe(new_judge(LIVE), LIVE, world, 1e9)
    assert recorded(LIVE, [world], 40, judge.first_at).judged_at == 40
    with pytest.raises(Conflict, match="40 units, of which the first ones are not there any more"):
        recorded(LIVE, [world[10:]], 40, judge.first_at)
