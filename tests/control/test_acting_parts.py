"""What becomes of fairlead's own parts is a change, and the first cause of the alert about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from control.acting_world import platform
from control.simulated_world import World
from fairlead.control.acting.beginnings import AGAIN_S, Beginnings
from fairlead.control.acting.changes import change_of
from fairlead.control.acting.clock_watch import TOLD_AFTER_S, ClockWatch
from fairlead.control.acting.observer_watch import LOOK_S_MAX, RESTARTED, SILENT, ObserverWatch
from fairlead.control.acting.records_watch import BEHIND, STUCK_S, UNWRITABLE, RecordsWatch
from fairlead.control.metrics.observer_families import SILENT_S
from fairlead.control.world.hub import WorkerStatus
from fairlead.monitoring.causes import Cause, Change, causes_of
from fairlead.monitoring.conditions import Labels, labels_of
from fairlead.store.rows import EventRow, SpoolCursor
from fairlead.wire.observing import ObserverStanding

SKEWED = labels_of(monitor="clock_skew")
RESTARTS = labels_of(service="bank", release="b", replica="r1")


def records(fault: str) -> Labels:
    return labels_of(monitor="records", fault=fault)


def worker(number: int = 0, **fields: Any) -> WorkerStatus:
    made = WorkerStatus(f"b{number}", number, 100 + number, 1, 0.1)
    return msgspec.structs.replace(made, **fields)


def changes(rows: Iterable[EventRow]) -> list[Change]:
    return [change for row in rows if (change := change_of(row)) is not None]


def causes(alert: Labels, at: float, *rows: EventRow, also: Iterable[Change] = ()) -> list[Cause]:
    return list(causes_of(alert, at, [*changes(rows), *also]))


def test_what_begins_is_told_once_and_not_again_within_a_minute() -> None:
    begun = Beginnings()
    assert begun.among(["b", "a"], 0.0) == ["a", "b"]
    assert begun.among(["a"], AGAIN_S + 1.0) == [], "it goes on"
    assert begun.among(["a", "b"], AGAIN_S + 2.0) == ["b"]
    assert begun.among([], AGAIN_S + 3.0) == []
    assert begun.among(["b"], 2.0 * AGAIN_S) == [], "it was told just now"
    assert begun.among([], 3.0 * AGAIN_S) == []
    assert begun.among(["b"], 3.0 * AGAIN_S + 1.0) == ["b"]


# The observer


def standing(at: float, life: float = 0.0) -> ObserverStanding:
    return ObserverStanding(at=at, started_at=life)


def watched(
    looks: Iterable[tuple[float, ObserverStanding | None]], watch: ObserverWatch | None = None
) -> list[EventRow]:
    watch = watch or ObserverWatch()
    return [row for now, said in looks for row in watch.look(said, now)]


def test_an_observer_that_says_nothing_is_told_once_while_it_goes_on() -> None:
    well = [(float(now), standing(now - 0.5)) for now in range(100, 140, 2)]
    hangs = [(float(now), standing(137.5)) for now in range(140, 400, 2)]
    assert watched(well) == []
    (silent,) = watched([*well, *hangs])
    assert (silent.kind, silent.at) == (SILENT, 138.0 + SILENT_S)
    assert silent.message == "the observer has not said anything for 10 s"


def test_a_file_that_is_gone_says_nothing_and_one_that_never_was_is_of_nobody() -> None:
    nothing = [(float(now), None) for now in range(102, 130, 2)]
    assert [row.kind for row in watched([(100.0, standing(100.0)), *nothing])] == [SILENT]
    assert watched(nothing) == []


def test_a_control_that_hung_or_a_clock_that_was_set_accuses_nobody() -> None:
    """The look after a long time may be before the observer writes again."""
    for later in (160.0, -3_600.0):
        looks = [(100.0, standing(99.5)), (later, standing(99.5)), (later + 2.0, standing(later))]
        assert watched(looks) == []
    assert LOOK_S_MAX < SILENT_S


def test_another_life_of_it_says_that_the_one_before_has_ended() -> None:
    watch = ObserverWatch()
    first = [(100.0, standing(99.5, life=7.0)), (102.0, standing(101.5, life=7.0))]
    assert watched(first, watch) == []
    (ended,) = watched(
        [(104.0, standing(103.5, life=103.0)), (106.0, standing(105.0, 103.0))], watch
    )
    assert (ended.kind, ended.at) == (RESTARTED, 104.0)
    assert ended.message == "the observer ended, and another one was started"
    loops = [(float(now), standing(now, life=now)) for now in range(108, 228, 2)]
    assert len(watched(loops, watch)) <= 2, "one that ends again and again is told now and then"


def test_what_an_installation_that_was_stopped_has_left_is_of_no_observer() -> None:
    left = standing(100.0, life=7.0)
    looks = [(900.0, left), (902.0, left), (904.0, standing(903.0, life=902.0))]
    assert watched(looks) == []


def test_records_that_are_behind_have_the_observer_as_their_first_cause() -> None:
    well = [(float(now), standing(now - 0.5)) for now in range(100, 140, 2)]
    hangs = [(float(now), standing(137.5)) for now in range(140, 200, 2)]
    told = watched([*well, *hangs])
    other = Change(197.0, "replica", "replica r1 ended", RESTARTS)
    clock = Change(197.0, "clock", "the clock of gateway worker 1 is off", SKEWED)
    found = causes(records(BEHIND), 138.0 + STUCK_S, *told, also=(other, clock))
    assert [cause.change.kind for cause in found] == ["observer", "clock", "replica"]
    assert found[0].words == (
        "the observer has not said anything for 10 s, 50 s before (same part)"
    )


async def test_the_platform_tells_what_becomes_of_the_observer(world: World) -> None:
    await world.first_champion()
    seen, lives = platform(world), [3.0]
    seen.observer = lambda: standing(world.now, lives[-1])
    for life in (3.0, 3.0, 9.0):
        lives.append(life)
        world.now += 2.0
        await seen.look()
    assert [c.what for c in seen.changes(0.0) if c.kind == "observer"] == [
        "the observer ended, and another one was started"
    ]


# Spools


@pytest.mark.parametrize(
    ("free", "words"),
    [
        (0, ": no space left on its disk"),
        (1_500_000_000, ", though its disk has 1,500 MB free"),
        (None, ""),
    ],
)
def test_a_worker_that_cannot_write_is_a_change_that_says_what_room_there_is(
    free: int | None, words: str
) -> None:
    watch, both = RecordsWatch(), [worker(0), worker(1, unwritten=3)]
    (told,) = watch.look(both, {}, 10.0, lambda: free)
    assert (told.kind, told.message) == (
        UNWRITABLE, f"gateway worker 1 cannot write its records{words}",
    )  # fmt: skip
    assert watch.look(both, {}, 12.0, lambda: free) == []


def test_it_is_the_first_cause_of_that_and_of_what_is_lost_by_it() -> None:
    watch = RecordsWatch()
    told = watch.look([worker(1, unwritten=3)], {"b1": SpoolCursor(1, 1)}, 10.0, lambda: 0)
    silent = watched([(n, standing(0.0)) for n in (0.0, 4.0, 8.0, 12.0)])
    other = Change(11.0, "replica", "replica r1 ended", RESTARTS)
    assert len(silent) == 1
    for fault, at in (("spool", 10.0), ("lost", 60.0)):
        found = causes(records(fault), at, *told, *silent, also=(other,))
        assert found[0].change.kind == "records"
        assert found[0].place == "part"
        assert {cause.place for cause in found[1:]} == {"platform", ""}


async def test_the_platform_tells_which_worker_cannot_write(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.first_champion()
    seen = platform(world)
    seen.free_bytes = lambda: 0
    monkeypatch.setattr(world.plane.hub, "workers", lambda: [worker(1, unwritten=2)])
    await seen.look()
    (spool,) = [one for one in seen.conditions(world.now) if one.monitor == "records"]
    first = causes_of(spool.labels, world.now, seen.changes(0.0))[0].change
    assert first.what == "gateway worker 1 cannot write its records: no space left on its disk"


# Clocks


def test_a_clock_that_is_off_is_the_first_cause_of_that() -> None:
    watch, off = ClockWatch(), [worker(1, ahead_s=5.0)]
    told = [row for now in (100.0, 100.0 + TOLD_AFTER_S) for row in watch.look(off, now)]
    nearer = [
        Change(100.0, "observer", "the observer ended", records(BEHIND)),
        Change(100.0, "replica", "replica r1 ended", RESTARTS),
    ]
    found = causes(SKEWED, 100.0, *told, also=nearer)
    assert [cause.change.kind for cause in found] == ["clock", "observer", "replica"]
