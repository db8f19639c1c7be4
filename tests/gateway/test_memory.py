"""A worker that runs short of memory: what goes first, and that it comes back by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.gateway.records.metrics import GatewayMetrics
from fairlead.gateway.waiting import memory
from fairlead.gateway.waiting.memory import (
    Burden,
    Kind,
    MemoryGuard,
    MemoryLevel,
    derived_ceiling,
    memory_of_a_worker,
    next_level,
    to_shed,
)

CALM, STRAINED, FULL = MemoryLevel
MB = 1_000_000


@pytest.mark.parametrize(
    ("before", "resident", "after"),
    [
        (CALM, 0, CALM),
        (CALM, 849, CALM),
        (CALM, 850, STRAINED),
        (CALM, 950, FULL),
        (CALM, 5000, FULL),
        (STRAINED, 949, STRAINED),
        (STRAINED, 950, FULL),
        (STRAINED, 801, STRAINED),
        (STRAINED, 799, CALM),
        (FULL, 901, FULL),
        (FULL, 899, STRAINED),
        (FULL, 799, CALM),
    ],
)
def test_a_level_is_entered_at_its_share_and_left_some_way_below(
    before: MemoryLevel, resident: int, after: MemoryLevel
) -> None:
    assert next_level(before, resident, 1000) is after


@given(st.sampled_from(list(MemoryLevel)), st.integers(0, 2000))
def test_what_is_entered_is_not_left_again_by_the_same_memory(
    level: MemoryLevel, resident: int
) -> None:
    after = next_level(level, resident, 1000)
    assert next_level(after, resident, 1000) is after


BURDENS = [
    Burden(kind=Kind.BUSY, since=0, size=10),
    Burden(kind=Kind.STALLED, since=20, size=100),
    Burden(kind=Kind.RECEIVING, since=30, size=100),
    Burden(kind=Kind.RECEIVING, since=10, size=100),
    Burden(kind=Kind.IDLE, since=40),
    Burden(kind=Kind.IDLE, since=99.5),
    Burden(kind=Kind.STALLED, since=5, size=100),
]


@pytest.mark.parametrize(
    ("level", "excess", "going"),
    [
        (STRAINED, 0, [4]),
        (STRAINED, 1, [4, 3]),
        (STRAINED, 100, [4, 3]),
        (STRAINED, 101, [4, 3, 2]),
        (STRAINED, 10_000, [4, 3, 2]),
        (FULL, 201, [4, 3, 2, 6]),
        (FULL, 10_000, [4, 3, 2, 6, 1]),
    ],
)
def test_the_cheapest_go_first_then_the_oldest_and_no_more_than_is_needed(
    level: MemoryLevel, excess: int, going: list[int]
) -> None:
    assert to_shed(BURDENS, level, excess, 100.0) == going


def test_one_turn_ends_only_so_many() -> None:
    burdens = [Burden(kind=Kind.IDLE, since=n) for n in range(5 * memory.SHED_MAX)]
    assert to_shed(burdens, STRAINED, 1, 1e9) == list(range(memory.SHED_MAX))


class Connection:
    def __init__(self, burden: Burden) -> None:
        self._burden = burden
        self.is_shed = False

    def burden(self) -> Burden:
        return self._burden

    def shed(self) -> None:
        self.is_shed = True


class Machine:
    """A guard, and the memory that it sees."""

    def __init__(self, ceiling: int | None = 1000 * MB) -> None:
        self.resident = 100 * MB
        self.free = 0
        self.trimmed = 0
        self.metrics = GatewayMetrics()
        self.guard = MemoryGuard(
            self.metrics, "0", ceiling, resident=lambda: self.resident, trim=self._trim
        )

    def _trim(self) -> None:
        self.trimmed += 1
        self.resident -= self.free
        self.free = 0


def test_with_calm_memory_nothing_is_asked_of_anybody() -> None:
    machine = Machine()

    class Unasked:
        def __iter__(self) -> None:
            raise AssertionError

    machine.guard.check(0.0, Unasked())  # type: ignore[arg-type]
    assert machine.trimmed == 0
    assert machine.guard.level is CALM


def test_what_is_free_inside_the_process_is_given_back_before_anybody_has_to_go() -> None:
    machine = Machine()
    receiving = Connection(Burden(kind=Kind.RECEIVING, since=0, size=MB))
    machine.resident, machine.free = 900 * MB, 200 * MB
    machine.guard.check(0.0, [receiving])
    assert machine.guard.level is CALM
    assert not receiving.is_shed


def test_strained_then_full_then_calm_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    machine = Machine()
    guard = machine.guard
    calm_max = guard.body_bytes_max
    kinds = (Kind.IDLE, Kind.RECEIVING, Kind.STALLED, Kind.BUSY)
    idle, receiving, stalled, busy = (
        Connection(Burden(kind=kind, since=0, size=500 * MB if kind else 0)) for kind in kinds
    )
    machine.resident = 860 * MB
    guard.check(10.0, [busy, stalled, receiving, idle])
    assert guard.body_bytes_max == memory.STRAINED_BODY_BYTES_MAX < calm_max
    assert (idle.is_shed, receiving.is_shed, stalled.is_shed) == (True, True, False)
    machine.resident = 960 * MB
    guard.check(10.25, [busy, stalled])
    assert guard.body_bytes_max == -1
    assert stalled.is_shed
    assert not busy.is_shed
    assert machine.trimmed == 1  # Not in every turn.
    machine.resident = 500 * MB
    guard.check(10.5, [busy])
    assert guard.body_bytes_max == calm_max
    assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING", "INFO"]
    assert caplog.messages[0] == "memory is strained: 860 of 1000 MB"
    shed = {labels: values[0] for labels, values in machine.metrics.memory_shed.state().series}
    assert shed == {("idle",): 1, ("receiving",): 1, ("stalled",): 1}


def test_the_gauges_show_it() -> None:
    machine = Machine()
    machine.resident = 960 * MB
    machine.guard.check(0.0, [])
    machine.guard.show()
    assert machine.metrics.memory_resident.get(("0",)) == 960 * MB
    assert machine.metrics.memory_ceiling.get(("0",)) == 1000 * MB
    assert machine.metrics.memory_level.get(("0",)) == 2


def test_a_ceiling_that_a_worker_cannot_start_under_is_raised_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine = Machine(ceiling=101 * MB)
    assert machine.guard.ceiling == 100 * MB + memory.ROOM_BYTES_MIN
    assert "may have 101 MB of memory, but needs 100 MB to start" in caplog.text


@pytest.fixture
def root(tmp_path: Path) -> Callable[..., Path]:
    """A machine of 10 GB with these files."""

    def make(**files: str) -> Path:
        for name, text in {"proc/meminfo": "MemTotal: 9765625 kB\n", **files}.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("files", "gigabytes"),
    [
        ({}, 10),
        ({"sys/fs/cgroup/memory.max": "2000000000\n"}, 2),
        ({"sys/fs/cgroup/memory.max": "max\n"}, 10),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "3000000000\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/x\n2:memory:/pod\n0::/\n",
                "sys/fs/cgroup/memory/pod/memory.limit_in_bytes": "4000000000\n",
            },
            4,
        ),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 10),
        ({"sys/fs/cgroup/memory.max": "nonsense"}, 10),
    ],
)
def test_without_a_declared_one_the_ceiling_is_a_part_of_the_machine_or_container(
    root: Callable[..., Path], files: dict[str, str], gigabytes: int
) -> None:
    made = root(**files)
    assert derived_ceiling(1, made) == gigabytes * 800 * MB
    assert derived_ceiling(4, made) == gigabytes * 200 * MB


def test_a_machine_that_says_nothing_has_no_ceiling(tmp_path: Path) -> None:
    assert derived_ceiling(2, tmp_path) > 1 << 50


def test_a_declared_one_is_for_each_worker() -> None:
    assert memory_of_a_worker(300, 4) == 300 * MB
    assert memory_of_a_worker(None, 2) == derived_ceiling(2)


def test_this_process_has_some_memory_and_can_give_back_what_is_free() -> None:
    before = memory.resident_bytes()
    assert before > MB
    memory.give_back_free_memory()
    assert memory.resident_bytes() > MB
