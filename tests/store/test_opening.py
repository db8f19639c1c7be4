"""What is particular to SQLite, and to opening the store by several processes."""

from __future__ import annotations

import resource
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from fairlead.domain.errors import (
    Conflict,
    Damaged,
    FairleadError,
    InvalidInput,
    StorageFailed,
    Unavailable,
)
from fairlead.store import database, open_store, opening
from fairlead.store.keys import KeyRow
from fairlead.store.rows import RequestRow, SpoolCursor
from fairlead.store.schema import HEAD, metadata


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def tables(path: Path) -> dict[str, str]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql <> ''").fetchall()
    connection.close()
    return {name: " ".join(sql.split()) for name, sql in rows if name != "alembic_version"}


def test_migrating_an_empty_file_gives_the_tables_that_the_code_works_on(
    path: Path, tmp_path: Path
) -> None:
    open_store(url_of(path)).close()
    engine = create_engine(url_of(tmp_path / "direct.db"))
    metadata.create_all(engine)
    engine.dispose()
    assert tables(path) == tables(tmp_path / "direct.db")


def test_keys_of_the_first_version_are_kept_with_the_middle_priority(path: Path) -> None:
    store = open_store(url_of(path))
    store.create_key(KeyRow("k1", "app", "aa", 1.0))
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE keys DROP COLUMN priority")
        connection.execute("DROP TABLE quotas")
        connection.execute("DROP TABLE quota_use")
        connection.execute("DROP TABLE samples")
        connection.execute("DROP TABLE judgements")
        connection.execute("DROP TABLE probes")
        connection.execute("DROP TABLE documents")
        connection.execute("DROP TABLE minutes")
        added = (
            "cost_usd", "refused", "malformed", "guardrail_hits", "guardrails", "blocked_by",
            "stratum",
        )  # fmt: skip
        for name in added:
            connection.execute(f"ALTER TABLE records DROP COLUMN {name}")
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    connection.close()
    store = open_store(url_of(path))
    assert store.list_keys() == [KeyRow("k1", "app", "aa", 1.0, None, 0)]
    store.create_key(KeyRow("k2", "other", "bb", 2.0, None, -3))
    assert [key.priority for key in store.list_keys()] == [0, -3]
    store.close()


def test_the_newest_migration_is_the_one_the_code_names() -> None:
    from alembic.script import ScriptDirectory

    from fairlead.store import migrations

    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert scripts.get_current_head() == HEAD
    assert {script.revision for script in scripts.walk_revisions()} == migrations.KNOWN


def test_the_files_are_readable_by_their_owner_alone(path: Path) -> None:
    store = open_store(url_of(path))
    store.set_setting("secret", "x")
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    store.close()
    assert {"store.db", "store.db-wal", "store.db-shm"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_every_connection_is_durable_and_the_file_has_a_write_ahead_log(path: Path) -> None:
    opened = database.open_database(url_of(path))
    open_store(url_of(path)).close()
    with opened.reading("test") as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    opened.close()
    assert values == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 10_000,
    }


def test_a_store_that_is_up_to_date_is_opened_without_alembic_and_never_with_the_orm(
    path: Path,
) -> None:
    script = (
        "import sys; from fairlead.store import open_store; s = open_store(sys.argv[1]);"
        "s.set_setting('a', 'b'); print('alembic' in sys.modules, 'sqlalchemy.orm' in sys.modules)"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", script, url_of(path)], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert said == [["True", "False"], ["False", "False"]]


def test_processes_that_open_a_new_store_at_the_same_time_all_succeed(path: Path) -> None:
    script = (
        "import sys; from fairlead.store import open_store;"
        "s = open_store(sys.argv[1]); [s.next_number('n') for _ in range(5)]; s.close()"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, url_of(path)], stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [(p.returncode, e) for p, e in zip(processes, errors, strict=True)] == [(0, "")] * 3
    store = open_store(url_of(path))
    assert store.next_number("n") == 16
    store.close()


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    open_store(url_of(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(Conflict, match="9999"):
        open_store(url_of(path))


def test_a_migration_that_fails_leaves_no_table_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fairlead.store import migrations

    upgrade = migrations.upgrade

    def killed(connection: object) -> None:
        upgrade(connection)  # type: ignore[arg-type]
        raise StorageFailed("the disk")

    monkeypatch.setattr(migrations, "upgrade", killed)
    with pytest.raises(StorageFailed):
        open_store(url_of(path))
    assert tables(path) == {}
    monkeypatch.undo()
    open_store(url_of(path)).close()
    assert tables(path) != {}


@pytest.mark.parametrize(
    ("url", "error", "says"),
    [
        ("no url", InvalidInput, "URL"),
        ("sqlite://", InvalidInput, "file"),
        ("sqlite:///:memory:", InvalidInput, "file"),
        ("postgresql://host/db", InvalidInput, "postgresql"),
        ("sqlite:////nowhere/at/all/store.db", StorageFailed, "nowhere"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_clear_error(
    url: str, error: type[FairleadError], says: str
) -> None:
    with pytest.raises(error, match=says):
        open_store(url)


def test_a_file_that_is_no_database_is_damaged(path: Path) -> None:
    path.write_bytes(b"this is no database at all, but long enough to be looked at" * 20)
    with pytest.raises(Damaged, match=r"store\.db"):
        open_store(url_of(path))


def test_a_database_locked_for_too_long_is_unavailable_and_free_again_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.1)
    store = open_store(url_of(path))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        store.set_setting("a", "b")
    assert store.get_setting("a") is None
    other.execute("ROLLBACK")
    other.close()
    store.set_setting("a", "b")
    assert store.get_setting("a") == "b"
    store.close()


def test_a_migration_by_another_process_is_waited_for_only_so_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_S", 0.1)
    with opening._migration_lock(path), pytest.raises(Unavailable, match="migrated"):
        open_store(url_of(path))


@contextmanager
def full_disk(bytes_max: int) -> Iterator[None]:
    """No file may grow beyond that many bytes: a write fails as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_storage_failed_keeps_nothing_of_the_batch_and_is_survived(
    path: Path, request_row: Callable[..., RequestRow]
) -> None:
    store = open_store(url_of(path))
    store.ingest("b1", [request_row("q0", 0.0)], [], SpoolCursor(1, 1))
    rows = [request_row(f"q{n}", float(n), error="x" * 500) for n in range(2000)]
    with full_disk(256 * 1024), pytest.raises(StorageFailed, match=r"store\.db"):
        store.ingest("b1", rows, [], SpoolCursor(1, 2))
    assert [r.id for r in store.records()] == ["q0"]
    assert store.open_spool("b1").offset == 1
    store.ingest("b1", rows, [], SpoolCursor(1, 2))
    assert len(store.records(limit=9000)) == 2000
    store.close()


def test_many_threads_share_one_store(path: Path) -> None:
    store = open_store(url_of(path))
    failures: list[FairleadError] = []

    def work(number: int) -> None:
        try:
            for n in range(5):
                store.set_setting(f"{number}-{n}", "x")
                store.get_setting(f"{number}-{n}")
        except FairleadError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    store.close()


def test_the_judges_query_and_pruning_use_their_indexes(path: Path) -> None:
    store = open_store(url_of(path))
    seen: list[str] = []
    connection = sqlite3.connect(path)
    statements = (
        "SELECT id FROM records WHERE rollout = 'r' AND rollout <> ''"
        " AND (started_at, id) > (1.0, '') AND started_at < 2.0 ORDER BY started_at, id LIMIT 9",
        "SELECT id FROM records WHERE started_at < 9.0 ORDER BY started_at LIMIT 9",
    )
    for statement in statements:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        seen.append(" ".join(row[3] for row in plan))
    connection.close()
    store.close()
    assert "ix_records_rollout_started_at" in seen[0]
    assert "ix_records_started_at" in seen[1]
    assert "B-TREE" not in " ".join(seen)
