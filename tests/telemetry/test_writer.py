"""Taking records in: each once, in its hour, whatever its service is called."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fairlead.domain.errors import StorageFailed, Unavailable
from fairlead.domain.outcomes import failed_by_server
from fairlead.telemetry import files
from fairlead.telemetry.catalogue import Catalogue, SpoolPosition
from fairlead.telemetry.schema import FEEDBACK, RECORDS
from fairlead.wire.record import FeedbackRecord, RequestRecord

from .conftest import HOUR, NOON, Rig, request, said

AT = {"b1": SpoolPosition(1, 100)}


def test_the_columns_are_the_fields_of_the_records_in_their_order() -> None:
    # Where a request is in a trace is told to whom traces are sent, and kept by nobody else.
    own = ("trace", "tried")
    fields = tuple(name for name in RequestRecord.__struct_fields__ if name not in own)
    assert tuple(c.name for c in RECORDS.columns) == fields
    assert tuple(c.name for c in FEEDBACK.columns) == FeedbackRecord.__struct_fields__


def test_a_record_comes_back_as_it_was_and_what_is_not_known_is_null(rig: Rig) -> None:
    store = rig.store()
    known = request("q1", NOON + 0.25, cost_usd=0.5, refused=1, malformed=0,
                    guardrail_hits=2, guardrails="a,b", blocked_by="b", stratum=3)  # fmt: skip
    unknown = request(
        "q2", NOON + 1, ttft_ms=-1.0, itl_ms=-1.0, prompt_tokens=-1, completion_tokens=-1
    )
    assert store.take_in([known, unknown], [said()], AT) == 3
    answer = rig.reader().ask("SELECT * EXCLUDE (failed) FROM records ORDER BY id")
    first, second = (dict(zip(answer.columns, row, strict=True)) for row in answer.rows)
    assert first == {
        **{column.name: getattr(known, column.name) for column in RECORDS.columns},
        "started_at": "2026-09-21 14:00:00.250000",
        "refused": True,
        "malformed": False,
    }
    missing = [name for name, value in second.items() if value is None]
    assert missing == [
        "ttft_ms", "itl_ms", "prompt_tokens", "completion_tokens", "cost_usd", "refused",
        "malformed", "guardrail_hits", "stratum",
    ]  # fmt: skip
    feedback = rig.reader().ask("SELECT * FROM feedback")
    assert feedback.rows == [("f1", "q1", "key_1", "success", 1.0, "2026-09-21 14:01:00")]


def test_failed_is_what_the_projects_one_rule_says(rig: Rig) -> None:
    cases = [
        (status, error)
        for status in (200, 201, 400, 404, 429, 499, 500, 503)
        for error in (
            "",
            "upstream_cut",
            "canary_unavailable",
            "service_unavailable_fell_back",
            "guardrail",
        )
    ]
    rig.store().take_in(
        [request(f"q{n:02}", status=s, error=e) for n, (s, e) in enumerate(cases)], [], AT
    )
    rows = rig.reader().ask("SELECT failed FROM records ORDER BY id").rows
    assert [row[0] for row in rows] == [failed_by_server(*case) for case in cases]


def test_each_hour_and_service_has_files_of_its_own_sorted_by_time(rig: Rig) -> None:
    store = rig.store()
    records = [request(f"q{n}", NOON + n * HOUR / 2, service=f"s{n % 2}") for n in (3, 2, 1, 0)]
    store.take_in(records, [], AT)
    assert [(f.hour - NOON // HOUR, f.service, f.rows) for f in store.catalogue.files()] == [
        (0, "s0", 1), (0, "s1", 1), (1, "s0", 1), (1, "s1", 1),
    ]  # fmt: skip
    store.take_in([request(f"r{n}", NOON + 9 - n) for n in range(9)], [], AT)
    assert [
        r[0] for r in rig.reader().ask("SELECT id FROM records WHERE service = 'bank'").rows
    ] == [f"r{n}" for n in range(8, -1, -1)]


def test_a_record_that_is_spooled_twice_is_kept_once(rig: Rig) -> None:
    """In one portion, in two, and when it was merged in between; feedback too."""
    store = rig.store()
    twice = [request("q1", NOON + 5), request("q2", NOON + 6), request("q1", NOON + 5)]
    assert store.take_in(twice, [said(), said()], AT) == 3
    assert store.take_in([*twice, request("q3", NOON + 5.5)], [said()], AT) == 1
    rig.clock.now += 2 * HOUR
    store.step()
    assert len(store.catalogue.files(kind="records")) == 1
    assert store.take_in([request("q2", NOON + 6)], [said()], AT) == 0
    assert (rig.ids(), rig.ids("feedback")) == (["q1", "q2", "q3"], ["f1"])
    assert store.catalogue.counts() == {"duplicates": 2 + 4 + 2}


def test_a_late_record_goes_to_its_own_hour(rig: Rig) -> None:
    store = rig.store()
    store.take_in([request("q1", NOON + 10)], [], AT)
    rig.clock.now += 20 * HOUR
    store.take_in([request("late", NOON + 5), request("q2", rig.clock.now)], [], AT)
    hours = [(file.hour - NOON // HOUR, file.rows) for file in store.catalogue.files()]
    assert hours == [(0, 1), (0, 1), (20, 1)]
    assert rig.ids() == ["late", "q1", "q2"]


def test_what_is_older_than_may_be_kept_is_not_taken_in(rig: Rig) -> None:
    store = rig.store(keep_s=2 * HOUR)
    old = request("old", NOON - 3 * HOUR)
    assert store.take_in([old, request("new")], [said("f", at=NOON - 9 * HOUR)], AT) == 1
    assert rig.ids() == ["new"]
    assert store.catalogue.counts() == {"expired": 2}


@pytest.mark.parametrize(
    "service",
    [
        "../../../../etc/cron.d/x", "..", ".", "", "/", "a/b", "a\0b", "Bank", "bank", "b*[a]?k",
        "x" * 5_000, "naïve ☃", "' OR 1=1 --", "~", "hour=1", "\n",
    ],
)  # fmt: skip
def test_a_service_may_be_called_anything_and_stays_inside(rig: Rig, service: str) -> None:
    store = rig.store()
    store.take_in([request("q1", service=service), request("q2", service="other")], [], AT)
    store.take_in([request("q1", service=service)], [], AT)
    kept = service.replace("\0", "\ufffd")
    assert rig.ids() == ["q1", "q2"]
    answer = rig.reader().ask("SELECT service FROM records WHERE id = 'q1'")
    assert answer.rows == [(kept,)]
    root = rig.folder.resolve()
    assert all(root in path.resolve().parents for path in rig.data())
    assert {len(path.relative_to(root).parts) for path in rig.data()} == {5}
    assert sorted(p.name for p in rig.folder.parent.iterdir()) == ["telemetry"]


def test_services_that_differ_in_case_only_have_different_folders(rig: Rig) -> None:
    rig.store().take_in([request("q1", service="Bank"), request("q2", service="bank")], [], AT)
    assert len({path.parent.name.lower() for path in rig.data()}) == 2


@pytest.mark.parametrize("odd", ["st[a]te", "st*te", "st?te", "it's", 'a"b', "a b", "a%20b#c"])
def test_the_folder_may_be_called_anything(tmp_path: Path, odd: str) -> None:
    rig = Rig(tmp_path / odd / "telemetry")
    store = rig.store()
    store.take_in([request("q1")], [], AT)
    store.take_in([request("q1"), request("q2")], [], AT)
    rig.clock.now += 2 * HOUR
    store.step()
    assert rig.ids() == ["q1", "q2"]
    assert len(store.catalogue.files()) == 1
    rig.close()


@pytest.mark.parametrize("at", [-1e18, -1.0, 0.0, 1e12, 1e300])
def test_a_time_that_no_clock_says_is_kept_at_the_nearest_that_can_be_said(
    rig: Rig, at: float
) -> None:
    rig.store().take_in([request("q1", at, duration_ms=1e300, ttft_ms=5e-324)], [], AT)
    rows = rig.reader().ask("SELECT started_at, duration_ms > 1e37 FROM records").rows
    assert rows in ([("1970-01-01 00:00:00", True)], [("9999-12-31 23:59:59", True)])


def test_strings_that_json_and_sql_know_are_kept_as_they_are(rig: Rig) -> None:
    odd = '"\'\\ \n\t\u2028 \\u0041 ☃ {"a": 1}'
    rig.store().take_in([request(odd, error=odd, unit=odd)], [], AT)
    assert rig.reader().ask("SELECT id, error, unit FROM records").rows == [(odd, odd, odd)]


def test_a_record_beyond_all_measure_does_not_keep_out_the_others(rig: Rig) -> None:
    records = [request("q1"), request("huge", error="x" * (3 << 20)), request("q2")]
    rig.store().take_in(records, [], AT)
    assert rig.ids() == ["q1", "q2"]
    assert rig.warnings == ["telemetry: 1 records are too long and left out"]


def test_positions_are_kept_with_the_records_and_forgotten_on_demand(rig: Rig) -> None:
    store = rig.store()
    positions = {"b1": SpoolPosition(2, 50, 9.5, closed=True, broken=1), "b2": SpoolPosition(1, 7)}
    store.take_in([request("q1")], [], positions)
    store.close()
    again = rig.store()
    assert again.positions() == positions
    again.take_in([], [], {}, forget=["b1"])
    assert again.positions() == {"b2": positions["b2"]}
    assert rig.ids() == ["q1"]


def full(*_: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("operation", ["write", "sync", "rename", "measure"])
def test_a_full_disk_changes_nothing_and_the_same_portion_is_taken_in_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    store = rig.store()
    store.take_in([request("q0")], [], {"b1": SpoolPosition(1, 10)})
    where = files if operation != "measure" and operation != "write" else None
    with monkeypatch.context() as patch:
        if where is not None:
            patch.setattr(files, operation, full)
        else:
            patch.setattr(f"fairlead.telemetry.writer.{operation}", full)
        with pytest.raises(StorageFailed, match="No space left"):
            store.take_in([request("q1")], [said()], {"b1": SpoolPosition(1, 20)})
    assert (rig.ids(), store.positions()) == (["q0"], {"b1": SpoolPosition(1, 10)})
    assert list((rig.folder / "tmp").iterdir()) == []
    store.take_in([request("q1")], [said()], {"b1": SpoolPosition(1, 20)})
    assert (rig.ids(), rig.ids("feedback")) == (["q0", "q1"], ["f1"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_duckdb_on_a_full_disk_is_a_failed_storage(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real thing: DuckDB writes to a device that has no room."""
    store = rig.store()
    with monkeypatch.context() as patch:
        link = rig.folder / "tmp" / "full.parquet"
        patch.setattr(store.folder, "temporary", lambda suffix: link.with_suffix(suffix))
        link.symlink_to("/dev/full")
        with pytest.raises(StorageFailed):
            store.take_in([request("q1")], [], AT)
    assert (rig.ids(), store.positions()) == ([], {})


def test_a_locked_catalogue_is_waited_out_by_the_caller(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.telemetry.catalogue._BUSY_S", 0.05)
    store = rig.store()
    other = sqlite3.connect(rig.folder / "catalogue.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unavailable, match="locked"):
        store.take_in([request("q1")], [], AT)
    other.execute("ROLLBACK")
    other.close()
    assert rig.data() == []
    store.take_in([request("q1")], [], AT)
    assert rig.ids() == ["q1"]


class Unsure:
    """Commits, and says that it failed; while `mute` nobody can ask the catalogue either."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on = self.mute = False
        commit, places = Catalogue._commit, Catalogue.places

        def committing(catalogue: Catalogue) -> None:
            commit(catalogue)
            if self.on:
                raise sqlite3.OperationalError("disk I/O error")

        def answering(catalogue: Catalogue) -> set[str]:
            if self.on and self.mute:
                raise StorageFailed("disk I/O error")
            return places(catalogue)

        monkeypatch.setattr(Catalogue, "_commit", committing)
        monkeypatch.setattr(Catalogue, "places", answering)


def test_a_commit_that_is_reported_as_failed_and_was_none_is_done(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, unsure = rig.store(), Unsure(monkeypatch)
    unsure.on = True
    for n in range(8):
        assert store.take_in([request(f"q{n}", NOON + n)], [], {"b1": SpoolPosition(1, n)}) == 1
    assert store.step()  # merged, which is a commit too
    assert [file.rows for file in store.catalogue.files()] == [8]
    assert store.positions() == {"b1": SpoolPosition(1, 7)}
    assert rig.ids() == [f"q{n}" for n in range(8)]


def test_files_stay_when_nobody_knows_whether_they_count(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, unsure = rig.store(), Unsure(monkeypatch)
    unsure.on = unsure.mute = True
    for n in range(8):
        with pytest.raises(StorageFailed):
            store.take_in([request(f"q{n}", NOON + n)], [], {"b1": SpoolPosition(1, n)})
    with pytest.raises(StorageFailed):
        store.step()
    unsure.on = False
    assert rig.ids() == [f"q{n}" for n in range(8)]
    rig.store().take_in([request("q7", NOON + 7)], [], AT)
    assert rig.ids() == [f"q{n}" for n in range(8)]


@pytest.mark.parametrize("operation", ["glob", "chmod", "stat"])
def test_a_disk_that_refuses_at_the_start_is_a_failed_storage(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """So the observer tries again."""
    with monkeypatch.context() as patch:
        patch.setattr(Path, operation, full)
        with pytest.raises(StorageFailed, match="No space left"):
            rig.store()
    rig.store().take_in([request("q1")], [], AT)
    assert rig.ids() == ["q1"]


def test_all_of_it_can_be_read_by_the_owner_alone(rig: Rig) -> None:
    rig.store().take_in([request("q1")], [], AT)
    folders = [path for path in [rig.folder, *rig.folder.rglob("*")] if path.is_dir()]
    assert {oct(path.stat().st_mode & 0o777) for path in folders} == {"0o700"}
    assert oct((rig.folder / "catalogue.db").stat().st_mode & 0o777) == "0o600"


def test_a_million_records_of_a_usual_kind_need_less_than_60_mb(rig: Rig) -> None:
    """Measured on 20,000, with random ids and units, and merged."""
    import random

    chance, store = random.Random(1), rig.store()
    for portion in range(4):
        store.take_in(
            [
                request(
                    f"req_{chance.randbytes(20).hex()}", NOON + portion * 60 + n / 100,
                    unit=chance.randbytes(8).hex(), ttft_ms=chance.expovariate(0.01),
                    itl_ms=chance.expovariate(0.05), duration_ms=chance.expovariate(1e-3),
                    prompt_tokens=chance.randrange(4_000), completion_tokens=chance.randrange(900),
                    cost_usd=chance.random() * 1e-3, replica=f"bank-{chance.randrange(8)}",
                )
                for n in range(5_000)
            ],
            [],
            AT,
        )  # fmt: skip
    rig.clock.now += 2 * HOUR
    store.step()
    (file,) = store.catalogue.files()
    assert file.rows == 20_000
    assert file.bytes / file.rows < 60
