"""A catalogue that is lost, damaged or old: what is in the data files is not lost with it."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead.domain.errors import StorageFailed
from fairlead.telemetry import adoption, upkeep
from fairlead.telemetry.catalogue import SpoolPosition
from fairlead.telemetry.store import TelemetryStore

from .conftest import HOUR, NOON, Rig, request, said, settle

AT = {"b1": SpoolPosition(1, 100)}


def full(*_: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def filled(rig: Rig, files: int) -> list[Path]:
    """As many files of one hour and service, in their order, and no catalogue."""
    chance, store = random.Random(1), rig.store()
    for n in range(files):
        units = [chance.randbytes(20).hex() for _ in range(200)]
        store.take_in(
            [request(f"q{n}-{k:03}", NOON + n, unit=unit) for k, unit in enumerate(units)], [], AT
        )
    places = [rig.folder / "data" / file.place for file in store.catalogue.files()]
    store.close()
    (rig.folder / "catalogue.db").unlink()
    return places


def damage(path: Path, column: str) -> None:
    """Zeros where this column's values are; the file's footer stays as it is."""
    import duckdb

    metadata = duckdb.sql(f"FROM parquet_metadata('{path}') WHERE path_in_schema = '{column}'")
    (chunk,) = metadata.select("data_page_offset", "total_compressed_size").fetchall()
    content = bytearray(path.read_bytes())
    content[chunk[0] : chunk[0] + chunk[1] // 2] = bytes(chunk[1] // 2)
    path.write_bytes(content)


@pytest.mark.parametrize("files", [1, 3])
def test_a_file_with_damage_in_any_column_is_set_aside(rig: Rig, files: int) -> None:
    """Alone in its hour, and beside others."""
    places = filled(rig, files)
    damage(places[0], "unit")
    store = rig.store()
    assert not places[0].exists()
    assert len(list((rig.folder / "damaged").iterdir())) == 1
    assert sum(file.rows for file in store.catalogue.files()) == 200 * (files - 1)
    assert rig.ids() == [f"q{n}-{k:03}" for n in range(1, files) for k in range(200)]
    assert any("damaged and set aside" in warning for warning in rig.warnings)


def test_a_file_that_is_damaged_while_it_is_merged_is_set_aside(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = filled(rig, 3)
    as_one = adoption._as_one

    def late(writer: Any, files: Any) -> Any:
        if len(files) == 3:
            damage(places[1], "unit")
        return as_one(writer, files)

    monkeypatch.setattr(adoption, "_as_one", late)
    rig.store()
    assert {id.split("-")[0] for id in rig.ids()} == {"q0", "q2"}


def test_what_is_no_file_of_records_is_set_aside(rig: Rig) -> None:
    import duckdb

    (place,) = filled(rig, 1)
    duckdb.sql("SELECT 1 AS id").write_parquet(str(place.with_name("foreign.parquet")))
    rig.store()
    assert len(rig.ids()) == 200
    assert len(list((rig.folder / "damaged").iterdir())) == 1


@pytest.mark.parametrize("where", ["rename", "Catalogue.apply"])
def test_tries_that_fail_leave_no_copies(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    filled(rig, 3)
    for _ in range(3):
        with monkeypatch.context() as patch:
            failing = full if where == "rename" else _refuse
            patch.setattr(f"fairlead.telemetry.adoption.{where}", failing)
            with pytest.raises(StorageFailed):
                rig.store()
    assert len(rig.data()) == 3
    rig.store()
    assert len(rig.ids()) == 600


def _refuse(*_: Any) -> Any:
    raise StorageFailed("the disk is full")


def test_a_catalogue_that_is_in_its_place_keeps_its_files_whatever_comes_then(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(rig, 3)
    with monkeypatch.context() as patch:
        patch.setattr(adoption, "sync", full)
        with pytest.raises(StorageFailed):
            rig.store()
    assert len(rig.ids()) == 600


def test_a_damaged_catalogue_without_a_data_file_is_made_anew(rig: Rig) -> None:
    rig.store().close()
    (rig.folder / "catalogue.db").write_bytes(b"not a database" * 100)
    store = rig.store()
    store.take_in([request("q1")], [], AT)
    assert rig.ids() == ["q1"]
    assert [path.suffix for path in (rig.folder / "damaged").iterdir()] == [".db"]


def backed_up(rig: Rig, meanwhile: Callable[[TelemetryStore], None]) -> Rig:
    """As docs/operations.md says: the catalogue first, then the data; put back elsewhere."""
    store = rig.store()
    for n in range(8):
        store.take_in([request(f"q{n}", NOON + n)], [said(f"f{n}", at=NOON + n)], AT)
    copy = Rig(rig.folder.parent / "backup")
    copy.folder.mkdir()
    with (
        contextlib.closing(sqlite3.connect(rig.folder / "catalogue.db")) as source,
        contextlib.closing(sqlite3.connect(copy.folder / "catalogue.db")) as target,
    ):
        source.backup(target)
    meanwhile(store)
    shutil.copytree(rig.folder / "data", copy.folder / "data")
    return copy


def test_a_backup_that_is_put_back_has_what_came_between_its_two_copies(rig: Rig) -> None:
    def meanwhile(store: TelemetryStore) -> None:
        for n in range(3):
            store.take_in([request(f"new{n}", NOON + 3)], [said(f"g{n}", at=NOON + HOUR)], AT)

    copy = backed_up(rig, meanwhile)
    copy.store()
    assert (copy.ids(), copy.ids("feedback")) == (rig.ids(), rig.ids("feedback"))
    assert len(copy.ids()) == len(copy.ids("feedback")) == 11
    assert not any(copy.folder.joinpath("damaged").iterdir())
    copy.close()


def test_a_backup_that_is_put_back_has_what_was_merged_between_its_two_copies(rig: Rig) -> None:
    def merge(store: TelemetryStore) -> None:
        store.step()
        store.take_in([request("new", NOON + 3)], [], AT)

    def merge_and_delete(store: TelemetryStore) -> None:
        merge(store)
        rig.clock.now += upkeep.GRACE_S
        settle(store)

    for meanwhile in (merge, merge_and_delete):
        own = Rig(rig.folder.parent / meanwhile.__name__ / "telemetry")
        copy = backed_up(own, meanwhile)
        copy.store()
        answer = copy.reader().ask("SELECT id FROM records ORDER BY id")
        assert [row[0] for row in answer.rows] == own.ids(), meanwhile
        copy.close()
        own.close()


def test_a_file_that_nobody_knows_and_nobody_can_read_is_set_aside(rig: Rig) -> None:
    store = rig.store()
    store.take_in([request("q1")], [], AT)
    store.close()
    (place,) = rig.data()
    place.with_name("other.parquet").write_bytes(b"none of ours")
    rig.store()
    assert rig.ids() == ["q1"]
    assert [path.name.split("~")[-1] for path in (rig.folder / "damaged").iterdir()] == [
        "other.parquet"
    ]


def test_taking_up_that_fails_leaves_no_copies_and_is_done_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(store: TelemetryStore) -> None:
        for n in range(3):
            store.take_in([request(f"new{n}", NOON + 3)], [], AT)

    copy = backed_up(rig, meanwhile)
    before = copy.data()
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr("fairlead.telemetry.adoption.Catalogue.apply", _refuse)
            with pytest.raises(StorageFailed):
                copy.store()
    assert copy.data() == before
    copy.store()
    assert copy.ids() == rig.ids()
    copy.close()
