"""Whose verdicts count for what a champion is worth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from control.watching_world import DECLARED, WatchedWorld
from fairlead.control.watching.served import Served
from fairlead.domain.judging import JUDGED
from fairlead.monitoring.monitors.judged import Grading
from fairlead.monitoring.objectives import ObjectiveKind
from fairlead.store import open_store
from fairlead.store.rows import FeedbackRow, JudgementRow


@pytest.fixture
def world(tmp_path: Path) -> Iterator[WatchedWorld]:
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    yield WatchedWorld(store)
    store.close()


def judge(world: WatchedWorld, requests: list[str], score: float, rollout: str = "") -> None:
    """They are judged now, two seconds before the workers' next word."""
    rows = [
        JudgementRow(each, "bank", rollout, "judged", score, "", 1, 0.0, world.now - 2.0)
        for each in requests
    ]
    world.store.begin_judgements(rows)
    given = [FeedbackRow(f"jd_{each}", each, "", JUDGED, score, 0.0) for each in requests]
    world.store.settle_judgements(rows, given)


def counted(world: WatchedWorld) -> tuple[float, float]:
    """Verdicts that count for quality, and how many of them are bad."""
    rows = [row for row in world.store.minutes("bank", 0)
            if row.promise == ObjectiveKind.QUALITY.value]  # fmt: skip
    return sum(row.total for row in rows), sum(row.bad for row in rows)


def served(grading: Grading | None, rollout_judge: str = "") -> list[Served]:
    return [Served("bank", "sha256:a", DECLARED, grading=grading, rollout_judge=rollout_judge)]


async def test_a_rollouts_judge_of_another_manifest_has_no_word_on_the_champion(
    world: WatchedWorld,
) -> None:
    """Its scale is another one. Neither while it goes on nor when its last verdicts are read."""
    own = Grading("ours", 4.0)
    world.platform.served = served(own, "theirs")
    watching = await world.begin()
    world.serve(20)
    judge(world, ["r000001", "r000002"], 5.0)
    judge(world, ["r000003", "r000004", "r000005"], 1.0, "ro-1")
    world.serve(1)
    await watching.look()
    world.platform.served = served(own)
    judge(world, ["r000006"], 1.0, "ro-1")
    world.serve(1)
    await watching.look()
    await watching.close()
    assert counted(world) == (2.0, 0.0)


async def test_a_rollouts_verdicts_by_the_services_own_judge_count(world: WatchedWorld) -> None:
    world.platform.served = served(Grading("ours", 4.0), "ours")
    watching = await world.begin()
    world.serve(20)
    judge(world, ["r000001", "r000002"], 5.0)
    judge(world, ["r000003"], 1.0, "ro-1")
    world.serve(1)
    await watching.look()
    await watching.close()
    assert counted(world) == (3.0, 1.0)
