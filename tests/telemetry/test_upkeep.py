"""Merging and deleting: nothing is lost, nothing is twice, also for who reads meanwhile."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.domain.errors import StorageFailed
from fairlead.telemetry import files, upkeep
from fairlead.telemetry.catalogue import DataFile, SpoolPosition

from .conftest import HOUR, NOON, Rig, request, said, settle

AT = {"b1": SpoolPosition(1, 100)}
DAY = 24 * HOUR


def file(rows: int, hour: int = NOON // HOUR, since: float = NOON) -> DataFile:
    return DataFile("records", hour, "bank", f"p{rows}", rows, 1, 1, 0, 1, 24, since=since)


def test_while_an_hour_goes_on_eight_files_of_a_size_become_one(rig: Rig) -> None:
    store = rig.store()
    for n in range(7):
        store.take_in([request(f"q{n}", NOON + n)], [], AT)
        assert not store.step()
    store.take_in([request("q7", NOON + 7)], [], AT)
    assert store.step()
    assert [f.rows for f in store.catalogue.files()] == [8]
    assert rig.ids() == [f"q{n}" for n in range(8)]


def test_an_hour_that_is_over_and_quiet_becomes_one_file_sorted_by_time(rig: Rig) -> None:
    store = rig.store()
    for n in (2, 0, 1):
        store.take_in([request(f"q{n}", NOON + n)], [said(f"f{n}", at=NOON + n)], AT)
    rig.clock.now = NOON + HOUR + upkeep.SETTLE_S - 1
    assert not store.step()
    rig.clock.now += 1
    settle(store)
    assert [(f.kind, f.rows) for f in store.catalogue.files()] == [("feedback", 3), ("records", 3)]
    assert [r[0] for r in rig.reader().ask("SELECT id FROM records").rows] == ["q0", "q1", "q2"]
    store.take_in([request("late", NOON + 0.5)], [], AT)
    settle(store)
    assert [f.rows for f in store.catalogue.files(kind="records")] == [3, 1]
    rig.clock.now += upkeep.SETTLE_S
    settle(store)
    assert [f.rows for f in store.catalogue.files(kind="records")] == [4]


@given(st.lists(st.integers(1, 2 * upkeep.ROWS_MAX), max_size=40), st.floats(0, 1e5))
def test_what_is_chosen_is_two_files_or_more_and_never_too_much(rows: list[int], s: float) -> None:
    chosen = upkeep.choose([file(count) for count in rows], NOON + s)
    assert len(chosen) != 1
    assert sum(f.rows for f in chosen) <= upkeep.ROWS_MAX


@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=200))
def test_a_record_is_written_a_few_times_only(sizes: list[int]) -> None:
    """Merging goes on until there is nothing to do; no row is copied more than so often."""
    live: list[tuple[DataFile, int]] = []
    for count in sizes:
        live.append((file(count), 0))
        while chosen := upkeep.choose([f for f, _ in live], NOON + 1.0):
            picked = [(f, n) for f, n in live if any(f is c for c in chosen)]
            live = [(f, n) for f, n in live if not any(f is c for c in chosen)]
            live.append((file(sum(f.rows for f, _ in picked)), 1 + max(n for _, n in picked)))
    assert max(n for _, n in live) <= 8
    assert len(live) <= 8 * 9


def test_a_reader_goes_on_with_the_files_it_has_and_they_go_after_a_while(rig: Rig) -> None:
    store = rig.store()
    for n in range(8):
        store.take_in([request(f"q{n}", NOON + n)], [], AT)
    reader = rig.reader()
    before = reader.ask("SELECT count(*) FROM records").rows
    store.step()
    assert len(rig.data()) == 9
    assert reader.ask("SELECT count(*) FROM records").rows == before == [(8,)]
    rig.clock.now += upkeep.GRACE_S
    settle(store)
    assert len(rig.data()) == 1
    assert reader.ask("SELECT count(*) FROM records").rows == before


def test_a_reader_whose_files_go_under_its_hands_looks_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = rig.store()
    for n in range(8):
        store.take_in([request(f"q{n}", NOON + n)], [], AT)
    reader = rig.reader()
    look = reader._look
    looked: list[int] = []

    def slow_look(scope: Any) -> Any:
        found = look(scope)
        if not looked:
            store.step()
            rig.clock.now += upkeep.GRACE_S
            settle(store)
        looked.append(1)
        return found

    monkeypatch.setattr(reader, "_look", slow_look)
    answer = reader.ask("SELECT count(*) FROM records")
    assert (answer.rows, answer.left_out, len(looked)) == ([(8,)], [], 2)


def test_what_is_older_than_may_be_kept_is_deleted_by_whole_hours(rig: Rig) -> None:
    store = rig.store(keep_s=2 * HOUR)
    for hour in range(3):
        store.take_in([request(f"q{hour}", NOON + hour * HOUR)], [said(f"f{hour}")], AT)
    rig.clock.now = NOON + 3 * HOUR - 1
    settle(store)
    assert rig.ids() == ["q0", "q1", "q2"]
    rig.clock.now = NOON + 3 * HOUR
    settle(store)
    assert rig.ids() == ["q1", "q2"]
    rig.clock.now += upkeep.GRACE_S
    settle(store)
    assert len({path.parent.parent for path in rig.data()}) == 2
    assert not (rig.folder / "data" / "feedback").exists() or rig.ids("feedback") == []


def test_a_clock_that_jumps_forward_deletes_nothing(rig: Rig) -> None:
    """Not while nothing comes, nor with what comes at first; once it is right, all is as it was."""
    store = rig.store(keep_s=400 * DAY)
    store.take_in([request("q1")], [said("f1")], AT)
    rig.clock.now += 1_000 * DAY
    settle(store)
    store.take_in([request("ahead", rig.clock.now)], [], AT)
    settle(store)
    settle(store)
    rig.clock.now += DAY - 2 * HOUR
    settle(store)
    assert (rig.ids(), rig.ids("feedback")) == (["ahead", "q1"], ["f1"])
    assert ["by the clock all is too old" in warning for warning in rig.warnings] == [True]
    rig.clock.now = NOON + DAY
    store.take_in([request("q2", rig.clock.now)], [], AT)
    settle(store)
    assert rig.ids() == ["ahead", "q1", "q2"]


def test_after_a_long_silence_old_records_go_when_new_ones_came_for_a_day(rig: Rig) -> None:
    store = rig.store(keep_s=400 * DAY)
    store.take_in([request("q1")], [], AT)
    rig.clock.now += 1_000 * DAY
    store.take_in([request("q2", rig.clock.now)], [], AT)
    settle(store)
    assert rig.ids() == ["q1", "q2"]
    rig.clock.now += DAY
    settle(store)
    assert rig.ids() == ["q2"]


def test_a_clock_that_is_set_back_leaves_who_reads_the_whole_while(rig: Rig) -> None:
    store = rig.store()
    for n in range(8):
        store.take_in([request(f"q{n}", NOON + n)], [], AT)
    assert store.step()
    rig.clock.now -= DAY
    settle(store)
    assert len(rig.data()) == 9
    rig.clock.now += upkeep.GRACE_S
    settle(store)
    assert len(rig.data()) == 1


def test_a_full_disk_while_merging_leaves_all_as_it_was(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = rig.store()
    for n in range(8):
        store.take_in([request(f"q{n}", NOON + n)], [], AT)
    for operation in ("sync", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(files, operation, full)
            with pytest.raises(StorageFailed, match="No space"):
                store.step()
    assert len(rig.data()) == len(store.catalogue.files()) == 8
    assert list((rig.folder / "tmp").iterdir()) == []
    assert store.step()
    assert rig.ids() == [f"q{n}" for n in range(8)]


def test_a_damaged_file_is_set_aside_before_it_is_merged_and_the_rest_is(rig: Rig) -> None:
    store = rig.store()
    for n in range(9):
        store.take_in([request(f"q{n}", NOON + n)], [], AT)
    victim = rig.folder / "data" / store.catalogue.files()[4].place
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    victim.write_bytes(content)
    settle(store)
    assert [f.rows for f in store.catalogue.files()] == [8]
    assert [path.name for path in (rig.folder / "damaged").iterdir()] == [
        str(victim.relative_to(rig.folder / "data")).replace("/", "~")
    ]
    assert ["damaged or gone" in warning for warning in rig.warnings] == [True]
    answer = rig.reader().ask("SELECT count(*) FROM records")
    assert answer.rows == [(8,)]
    assert answer.left_out == [
        "1 records of bank between 2026-09-21 14:00:04 and 2026-09-21 14:00:04: 1 damaged file"
    ]


def test_a_damaged_file_near_to_new_records_does_not_keep_them_out(rig: Rig) -> None:
    store = rig.store()
    store.take_in([request("q1", NOON)], [], AT)
    rig.data()[0].write_bytes(b"nothing of the kind")
    assert store.take_in([request("q2", NOON)], [], AT) == 1
    answer = rig.reader().ask("SELECT id FROM records")
    assert (answer.rows, len(answer.left_out)) == ([("q2",)], 1)
