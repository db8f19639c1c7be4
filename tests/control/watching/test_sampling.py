"""Monitors of texts that get none are blind where texts are kept, and not watched where not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control.watching_world import DECLARED, CountingMonitor, Platform, WatchedWorld
from fairlead.control.watching.monitors import MonitorMaker
from fairlead.control.watching.sampling import DUE_MIN, TEXTS, Due, unseen
from fairlead.control.watching.served import Served
from fairlead.control.watching.service_watch import Build
from fairlead.control.watching.watching import Watching
from fairlead.domain.capture import Capture, is_captured
from fairlead.manifest.monitor_names import MONITORS
from fairlead.monitoring.monitors.interface import Monitor
from fairlead.monitoring.monitors.settings import MonitorSettings
from fairlead.store import open_store
from fairlead.store.interface import Store
from fairlead.store.rows import SampleRow, SpoolCursor

CAPTURE = Capture(0.5)
UNIT = next(name for name in map(str, range(99)) if is_captured(CAPTURE, name))
NO_UNIT = next(name for name in map(str, range(99)) if not is_captured(CAPTURE, name))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path}/store.db")
    yield opened
    opened.close()


async def begin(
    world: WatchedWorld, capture: Capture | None, *, is_real: bool = False, **declared: Any
) -> Watching:
    given = msgspec.structs.replace(DECLARED, **declared)
    world.platform = Platform()
    world.platform.served = [Served("bank", "sha256:a", given, capture=capture)]
    maker: Build = MonitorMaker(world.store) if is_real else quiet
    made = Watching(world.store, world.platform, maker, lambda: world.now, world.outbox)
    await made.load()
    world.serve(1, unit=NO_UNIT)
    await made.look()
    return made


def quiet(_served: Any, _release: str) -> list[Monitor]:
    """Monitors with the names of those of texts, and one of requests, that see and say nothing."""
    made = []
    for name in (*TEXTS, "latency"):
        made.append(CountingMonitor(10**9))
        made[-1].name = name
    return list(made)


def blind(watching: Watching) -> set[tuple[str, str]]:
    """Which monitors are blind, and how."""
    return {
        (alert.of["watched"], alert.of["fault"])
        for alert in watching.desk.alerts.values()
        if alert.of["monitor"] == "monitor_blind" and alert.is_firing
    }


async def ask(world: WatchedWorld, watching: Watching, times: int = 15, **changes: Any) -> None:
    for _ in range(times):
        world.serve(4, **{"unit": UNIT, **changes})
        await watching.look()


def sample(world: WatchedWorld, number: int) -> None:
    text = '[["user","Where is my card?"]]'
    at = world.now - 6.0
    row = SampleRow(f"r{number:06d}", "bank", "app", UNIT, at, 1e12, text, "There.", False)
    cursor = SpoolCursor(offset=world._count, complete_until=world.now)
    world.store.ingest("boot", [], [], cursor, samples=[row])


async def test_texts_that_should_come_and_do_not_are_blindness(store: Store) -> None:
    world = WatchedWorld(store)
    watching = await begin(world, CAPTURE)
    await ask(world, watching, 9)
    assert blind(watching) == set()  # Two minutes are not over.
    await ask(world, watching, 4)
    assert blind(watching) == {(name, "no_data") for name in TEXTS}
    (one,) = [a for a in watching.desk.alerts.values() if a.of.get("watched") == "drift"]
    assert one.summary == "bank: monitor drift saw nothing of the traffic"
    assert one.evidence[0].value >= DUE_MIN
    assert not any(found[0] in TEXTS for found in watching_looked(watching))
    await watching.close()

    again = await begin(world, CAPTURE)  # It is known after a restart as well.
    assert blind(again) == {(name, "no_data") for name in TEXTS}
    sample(world, 1)
    for _ in range(3):
        await ask(world, again, 1)
        world.now += 300.0
    assert blind(again) == set()
    await again.close()


def watching_looked(watching: Watching) -> list[tuple[str, str]]:
    """Which monitors could look, at one more look."""
    return watching._watched().looked


@pytest.mark.parametrize(
    "changes",
    [{"unit": NO_UNIT}, {"status": 503, "error": "no_replica"}, {"endpoint": "embeddings"}],
)
async def test_requests_that_are_not_of_the_sample_are_not_waited_for(
    store: Store, changes: dict[str, Any]
) -> None:
    world = WatchedWorld(store)
    watching = await begin(world, CAPTURE)
    await ask(world, watching, **changes)
    assert blind(watching) == set()
    await watching.close()


async def test_what_was_asked_before_texts_were_kept_is_not_waited_for(store: Store) -> None:
    world = WatchedWorld(store)
    for _ in range(20):
        world.serve(4, unit=UNIT)
    watching = await begin(world, CAPTURE)
    assert blind(watching) == set()
    await watching.close()


async def test_where_nothing_is_kept_they_are_listed_as_not_watched(store: Store) -> None:
    world = WatchedWorld(store)
    off = MonitorSettings(off=("drift",))
    watching = await begin(world, None, is_real=True, monitors=off)
    await ask(world, watching, 1)
    found = {one.monitor: one.standing for one in watching.monitors("bank")}
    assert {name: found.get(name) for name in TEXTS} == {
        "drift": None,
        **dict.fromkeys(TEXTS.keys() - {"drift"}, "not watched: no `capture` is declared"),
    }
    assert blind(watching) == set()
    await watching.close()


async def test_of_prompts_alone_the_answers_are_not_watched(store: Store) -> None:
    world = WatchedWorld(store)
    watching = await begin(world, Capture(0.5, answers=False), is_real=True)
    found = {one.monitor: one.standing for one in watching.monitors("bank")}
    assert found["answer_drift"] == found["repetition"] == "not watched: `capture` keeps no answers"
    assert found["drift"].startswith("learning")
    assert found["language"].startswith("prompts: learning")
    await watching.close()


def test_few_or_short_is_chance() -> None:
    due = Due()
    for number in range(DUE_MIN):
        due.add(float(number))
    assert due.missing == 0
    due.add(500.0)
    assert due.missing == DUE_MIN + 1


def test_these_are_all_monitors_of_texts() -> None:
    from fairlead.monitoring.monitors.text_settings import TextSettings
    from fairlead.monitoring.monitors.texts import build_texts

    assert {one.name for one in build_texts("bank", "sha256:a", TextSettings())} == set(TEXTS)
    assert set(TEXTS) <= set(MONITORS)
    assert set(unseen(Capture(1.0), ())) == set()
