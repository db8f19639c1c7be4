"""Whose verdicts count for what a champion is worth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from control.watching_world import DECLARED, WatchedWorld
from fairlead.control.watching.judged_metrics import LATE_S, JudgedMetrics
from fairlead.control.watching.reading import Positions
from fairlead.control.watching.served import Served
from fairlead.control.watching.watching import Watching
from fairlead.domain.judging import JUDGED
from fairlead.gateway.records.metric_families import render
from fairlead.monitoring.counting import Count
from fairlead.monitoring.monitors.judged import Grading
from fairlead.monitoring.objectives import Objective, ObjectiveKind
from fairlead.store import open_store
from fairlead.store.rows import FeedbackRow, JudgementRow, MinuteRow


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


def shown(watching: Watching) -> list[str]:
    """What Prometheus sees of it."""
    lines = render(watching.states()).decode().splitlines()
    return [line for line in lines if line.startswith("fairlead_control_judged_answers")]


async def test_prometheus_sees_what_counts_for_the_promise_and_zero_before(
    world: WatchedWorld,
) -> None:
    promises = (Objective(ObjectiveKind.QUALITY, 0.9),)
    declared = msgspec.structs.replace(DECLARED, objectives=promises)
    one = Served("bank", "sha256:a", declared, grading=Grading("ours", 4.0), rollout_judge="ours")
    world.platform.served = [one, one._replace(name="shop", declared=DECLARED)]
    watching = await world.begin()
    world.serve(20)
    await watching.look()
    assert shown(watching) == [
        'fairlead_control_judged_answers_total{service="bank"} 0',
        'fairlead_control_judged_answers_bad_total{service="bank"} 0',
    ]
    judge(world, ["r000001", "r000002"], 5.0)
    judge(world, ["r000003"], 1.0, "ro-1")
    world.serve(1)
    await watching.look()
    await watching.look()
    assert shown(watching) == [
        'fairlead_control_judged_answers_total{service="bank"} 3',
        'fairlead_control_judged_answers_bad_total{service="bank"} 1',
    ]
    await watching.close()
    assert counted(world) == (3.0, 1.0)


async def test_a_service_that_is_there_again_counts_nothing_twice(world: WatchedWorld) -> None:
    one = served(Grading("ours", 4.0), "ours")
    world.platform.served = one
    watching = await world.begin()
    world.serve(20)
    judge(world, ["r000001", "r000002"], 5.0)
    world.serve(1)
    await watching.look()
    world.now += 120.0  # It is kept.
    world.serve(1)
    await watching.look()
    world.platform.served = []
    await watching.look()
    world.platform.served = one
    world.now += 120.0
    world.serve(3)
    await watching.look()
    await watching.close()
    rows = [row for row in world.store.minutes("bank", 0)
            if row.promise == ObjectiveKind.AVAILABILITY.value]  # fmt: skip
    assert sum(row.total for row in rows) == 25
    assert counted(world) == (2.0, 0.0)


def test_a_verdict_of_long_ago_is_no_step_of_now() -> None:
    shown = JudgedMetrics()
    shown.add("bank", Count("quality", 600, 1.0, 1.0), now=600.0 + LATE_S)
    shown.add("bank", Count("quality", 600, 1.0, 1.0), now=660.0 + LATE_S)
    assert [state.series for state in shown.states()] == [[(("bank",), [1.0])]] * 2


class Minutes:
    """What a store has of minutes: the promise, and when each began."""

    def __init__(self, *kept: tuple[str, int]) -> None:
        self.kept = kept

    def minutes(self, service: str, since: float) -> list[MinuteRow]:
        return [
            MinuteRow(service, minute, promise, 1.0, 0.0)
            for promise, minute in self.kept
            if minute >= since
        ]


def first(*kept: tuple[str, int]) -> tuple[float, float, float, float]:
    """Where requests, feedback, verdicts and texts are read from, at a time of 1,000,000."""
    at = Positions.first(Minutes(*kept), "bank", 1e6)  # type: ignore[arg-type]
    return at.requests[0], at.feedback[0], at.judged[0], at.texts[0]


def test_what_is_counted_no_more_is_read_from_where_its_own_counts_ended() -> None:
    """Verdicts come later than their requests; nobody has counted texts."""
    day_ago = 1e6 - 86_400.0
    assert first() == (day_ago,) * 4
    assert first(("availability", 999_000), ("ttft", 998_940), ("quality", 998_400)) == (
        999_060.0, day_ago, 998_460.0, day_ago,
    )  # fmt: skip
    assert first(("availability", 999_000)) == (999_060.0, day_ago, day_ago, day_ago)


def test_a_clock_that_was_ahead_keeps_nobody_from_reading() -> None:
    assert first(("availability", 1_003_600), ("quality", 999_960)) == (
        1e6,
        913_600.0,
        1e6,
        913_600.0,
    )
