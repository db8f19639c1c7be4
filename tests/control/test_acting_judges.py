"""A judge model that gives no verdicts is found, and who that is is the first cause."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from control.acting_world import platform
from control.answering_replica import AnsweringReplica
from control.judged_world import JudgedWorld, grade, judge_at
from control.simulated_world import World
from fairlead.control.acting.changes import change_of
from fairlead.control.acting.judge_watch import JUDGE, JudgeWatch
from fairlead.control.judging.judging import Outage
from fairlead.domain.release import RemoteModel
from fairlead.evaluation.judge_model import JudgeModel
from fairlead.monitoring.causes import Change, causes_of
from fairlead.monitoring.conditions import Condition, labels_of
from fairlead.registry import Registry
from fairlead.store import open_store


async def found(world: World) -> list[Condition]:
    await platform(world).look()
    return [c for c in platform(world).conditions(world.now) if c.monitor == JUDGE]


@pytest.mark.parametrize(
    ("status", "raw", "said"),
    [
        (503, None, "the judge answered 503"),
        (200, b"<html>", "no chat completion"),
        (200, b'{"choices": [{"message": {"content": "Sorry?"}}]}', "holds no score"),
    ],
)
async def test_a_judge_model_that_gives_no_verdict_is_found_also_between_its_tries(
    judged: tuple[JudgedWorld, AnsweringReplica], status: int, raw: bytes | None, said: str
) -> None:
    world, server = judged
    await world.first_champion()
    world.users_per_turn = 20
    server.status, server.raw = status, raw
    await world.ship_judged("b")
    for _ in range(2_000):
        await world.turn()
        await asyncio.sleep(0.002)
        if await found(world):
            break
    (down,) = await found(world)
    assert dict(down.labels) == {"monitor": "judge_down", "service": "bank"}
    assert "gives no verdict" in down.summary
    assert said in down.summary
    first = causes_of(down.labels, world.now, platform(world).changes(0.0))[0].change
    host = server.url.rpartition("/")[2]
    assert first.kind == "provider"
    assert first.what.startswith(f"the judge's provider {host} gives no verdict: ")
    assert said in first.what
    server.status, server.raw = 200, None
    for _ in range(2_000):
        await world.turn()
        await asyncio.sleep(0.002)
        if not await found(world):
            break
    assert await found(world) == []


@pytest.fixture
async def judged(
    tmp_path: Path,
    own_registry: Registry,
    built: tuple[Path, dict[str, str]],
    empty_database: Path,
    replica: Callable[..., AnsweringReplica],
) -> AsyncIterator[tuple[JudgedWorld, AnsweringReplica]]:
    shutil.copy(empty_database, tmp_path / "fairlead.db")
    store = open_store(f"sqlite:///{tmp_path}/fairlead.db")
    world = JudgedWorld(store, own_registry, built[1])
    server = replica(grade)
    world.judge = judge_at(server)
    await world.start()
    yield world, server
    await world.stop()
    store.close()


def outage(judge: JudgeModel) -> Outage:
    return Outage("bank", "", "judge: not reached: [Errno 111] Connect call failed", None, judge)


ELSEWHERE = JudgeModel(provider=RemoteModel("https://ann:secret@judge.example:8443/v1", "grader"))
HERE = JudgeModel(service="grading")


def test_a_judge_elsewhere_that_fails_is_a_change_that_names_its_host_and_why() -> None:
    watch, out = JudgeWatch(), [outage(ELSEWHERE)]
    (told,) = watch.look(out, 10.0)
    assert told.message == (
        "the judge's provider judge.example:8443 gives no verdict: "
        "not reached: [Errno 111] Connect call failed"
    )
    assert watch.look(out, 12.0) == []
    (down,) = watch.conditions(12.0)
    shipped = Change(9.0, "release", "release a takes over", labels_of(service="bank", release="a"))
    change = change_of(told)
    assert change is not None
    near = causes_of(down.labels, 10.0, [shipped, change])
    assert [(cause.change.kind, cause.place) for cause in near] == [
        ("provider", "part"), ("release", "service"),
    ]  # fmt: skip
    assert dict(near[0].change.labels) == {"monitor": JUDGE, "service": "bank"}


def test_of_a_service_that_judges_what_changed_there_is_the_cause() -> None:
    watch = JudgeWatch()
    assert watch.look([outage(HERE)], 10.0) == []
    (down,) = watch.conditions(10.0)
    gone = Change(9.0, "replica", "replica r7 ended", labels_of(service="grading", replica="r7"))
    other = Change(9.0, "replica", "replica r8 ended", labels_of(service="other", replica="r8"))
    (near,) = causes_of(down.labels, 10.0, [gone, other])
    assert (near.change, near.place) == (gone, "needs")


async def test_the_platform_tells_the_change_as_soon_as_the_alert(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes between its look and what it is asked after that waits for the next look."""
    await world.first_champion()
    seen = platform(world)
    await seen.look()
    monkeypatch.setattr(world.plane.judging, "out", lambda: [outage(ELSEWHERE)])
    assert [c for c in seen.conditions(world.now) if c.monitor == JUDGE] == []
    await seen.look()
    (down,) = [c for c in seen.conditions(world.now) if c.monitor == JUDGE]
    first = causes_of(down.labels, world.now, seen.changes(0.0))[0].change
    assert (first.kind, first.what[:34]) == ("provider", "the judge's provider judge.example")
