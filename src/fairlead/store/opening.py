"""Opening the store: bring the database to the form this code works on, once, whoever comes first.

Alembic is heavy and loaded only when there is something to migrate. Processes that open the same
new file at the same time take turns by a lock file beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from fairlead.domain.errors import Conflict, StorageFailed, Unavailable
from fairlead.store.database import BUSY_TIMEOUT_S, Database, open_database
from fairlead.store.interface import Store
from fairlead.store.schema import HEAD
from fairlead.store.sql import SqlStore

_LOCK_RETRY_S = 0.05


def open_store(url: str) -> Store:
    """Open `sqlite:////path/to/file`, made and migrated as needed.

    Raises InvalidInput (the URL), StorageFailed (the disk), Damaged (not a database), Conflict
    (written by a newer version of this program), Unavailable (locked for too long).
    """
    database = open_database(url)
    try:
        if _revision(database) != HEAD:
            with _migration_lock(Path(database.where)):
                _migrate(database)
    except BaseException:
        database.close()
        raise
    return SqlStore(database)


def _revision(database: Database) -> str | None:
    with database.reading("opening the store") as connection:
        return _stored_revision(connection)


def _stored_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _migrate(database: Database) -> None:
    revision = _revision(database)
    if revision == HEAD:
        return
    from fairlead.store.migrations import KNOWN, upgrade

    if revision is not None and revision not in KNOWN:
        raise Conflict(
            f"opening the store: {database.where} has revision {revision}, unknown to this version",
            hint="it was written by a newer fairlead; use that one",
        )
    database.use_write_ahead_log()
    with database.writing("migrating the store") as connection:
        upgrade(connection)


@contextlib.contextmanager
def _migration_lock(path: Path) -> Iterator[None]:
    lock = path.with_name(f"{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageFailed(f"opening the store: {lock}: {error.strerror}") from None
    try:
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"opening the store: {path} is being migrated by another process",
                        hint="try again",
                    ) from None
                time.sleep(_LOCK_RETRY_S)
        yield
    finally:
        os.close(descriptor)
