"""One database: its engine, its transactions, and its errors in this project's terms.

SQLite is opened so that several processes can share the file: write-ahead log, a writer announces
itself at its beginning (BEGIN IMMEDIATE) and waits for the other one, and a commit is on the disk
(synchronous FULL) before it is reported.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.sql.dml import Insert

from fairlead.domain.errors import (
    Conflict,
    Damaged,
    FairleadError,
    InvalidInput,
    StorageFailed,
    Unavailable,
)

BUSY_TIMEOUT_S = 10.0
POOL_SIZE = 4
POOL_OVERFLOW = 4
WAL_BYTES_KEPT = 32 * 1024 * 1024
CACHE_KB = 256
"""Pages that a connection keeps, and what it sorts in memory. The system has the file in memory
anyway; with SQLite's own 2,000, control held 10 MB more once an hour's records had passed through
its connections."""
SQLITE_VERSION_MIN = (3, 25, 0)  # window functions

_WRITES = "fairlead_writes"
_BUSY = {"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL"}
_REFUSED = {"SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM"}
_CORRUPT = {"SQLITE_CORRUPT", "SQLITE_NOTADB"}


class Database:
    """Transactions on one database. Safe for several threads."""

    def __init__(self, engine: Engine, where: str) -> None:
        self.where = where
        self.engine = engine
        self._writer = engine.execution_options(**{_WRITES: True})

    @contextlib.contextmanager
    def reading(self, what: str) -> Iterator[Connection]:
        """A transaction that reads one state of the database; `what` begins error messages."""
        with self._translated(what), self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self, what: str) -> Iterator[Connection]:
        """A transaction that may write; all of it is kept, or nothing when the block raises."""
        with self._translated(what), self._writer.begin() as connection:
            yield connection

    def insert(self, table: Table) -> Any:
        """An insert that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
        return _upserting(self.engine.dialect.name)(table)

    def use_write_ahead_log(self) -> None:
        """Let readers go on while one process writes. It stays so for the life of the file."""
        where = f"preparing the store: {self.where}"
        with self._translated("preparing the store"):
            connection = self.engine.raw_connection()
        try:
            # Not in a transaction, as every statement through the engine would be.
            connection.cursor().execute("PRAGMA journal_mode=WAL")
        except sqlite3.Error as error:
            raise _translate_sqlite(error, where) from error
        finally:
            connection.close()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise _translate(error, f"{what}: {self.where}") from error


def open_database(url: str) -> Database:
    """Connect lazily; a new SQLite file is made, readable by its owner alone.

    Raises InvalidInput for a URL that cannot be used, StorageFailed when there can be no file.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidInput(f"store URL: {error}") from None
    if parsed.get_backend_name() != "sqlite":
        raise InvalidInput(
            f"store URL: {parsed.drivername} is not supported", hint="use sqlite:////path/to/file"
        )
    if parsed.database in (None, "", ":memory:"):
        raise InvalidInput(
            "store URL: the store is shared by processes and needs a file",
            hint="use sqlite:////path/to/file",
        )
    return _open_sqlite(parsed, Path(str(parsed.database)).absolute())


def _open_sqlite(url: URL, path: Path) -> Database:
    if sqlite3.sqlite_version_info < SQLITE_VERSION_MIN:
        raise Unavailable(f"SQLite {sqlite3.sqlite_version} is too old for the store (3.25)")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StorageFailed(
            f"store: {path}: {error.strerror}", hint="its folder must exist and be writable"
        ) from None
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None},
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=BUSY_TIMEOUT_S,
    )
    event.listen(engine, "connect", _prepare_connection)
    event.listen(engine, "begin", _begin)
    return Database(engine, str(path))


def _prepare_connection(connection: sqlite3.Connection, _record: object) -> None:
    for name, value in (
        ("synchronous", "FULL"),
        ("foreign_keys", "ON"),
        ("journal_size_limit", WAL_BYTES_KEPT),
        ("cache_size", -CACHE_KB),  # negative: KiB
    ):
        connection.execute(f"PRAGMA {name}={value}")


def _begin(connection: Connection) -> None:
    # The driver's own transactions begin too late: a reader that then writes cannot wait.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _upserting(dialect: str) -> type[Insert]:
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql  # not loaded where it is not used

        return postgresql.Insert
    from sqlalchemy.dialects import sqlite

    return sqlite.Insert


def _translate(error: SQLAlchemyError, where: str) -> FairleadError:
    """The error of this project that says what a database error means."""
    if isinstance(error, IntegrityError):
        return Conflict(f"{where}: {error.orig}")
    if isinstance(error, DBAPIError):
        return _translate_sqlite(error.orig, where)
    return Unavailable(f"{where}: {error}")


def _translate_sqlite(error: BaseException | None, where: str) -> FairleadError:
    name = getattr(error, "sqlite_errorname", "")
    family = "_".join(name.split("_")[:2])
    if family in _BUSY:
        return Unavailable(f"{where}: locked by another process", hint="try again")
    if family in _CORRUPT:
        return Damaged(f"{where}: {error}", hint="restore it from a backup")
    if family in _REFUSED:
        return StorageFailed(f"{where}: {error}", hint="is the disk full, and the file writable?")
    return StorageFailed(f"{where}: {error}")


def as_rows(items: Sequence[object], columns: Sequence[str]) -> list[Mapping[str, Any]]:
    """Parameters for an insert of many: the named attributes of each item."""
    return [{name: getattr(item, name) for name in columns} for item in items]
