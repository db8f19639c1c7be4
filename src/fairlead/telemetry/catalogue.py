"""Which files count, and how far each spool has been taken in: one small SQLite file.

It is the store's only truth. A change is one transaction; who reads sees it whole or not at all.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from fairlead.domain.errors import Damaged, NotFound, StorageFailed, Unavailable

LIVE, REMOVED, DAMAGED = "live", "removed", "damaged"
_VERSION = 1
_BUSY_S = 10.0
_SCHEMA = f"""
CREATE TABLE files (
  id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, hour INTEGER NOT NULL,
  service TEXT NOT NULL, place TEXT NOT NULL UNIQUE, rows INTEGER NOT NULL,
  bytes INTEGER NOT NULL, checksum INTEGER NOT NULL, first_us INTEGER NOT NULL,
  last_us INTEGER NOT NULL, columns INTEGER NOT NULL, state TEXT NOT NULL, since REAL NOT NULL
);
CREATE INDEX files_by_partition ON files (state, kind, hour, service);
CREATE TABLE spools (
  boot TEXT PRIMARY KEY, segment INTEGER NOT NULL, offset INTEGER NOT NULL,
  complete_until REAL NOT NULL, closed INTEGER NOT NULL, broken INTEGER NOT NULL
);
CREATE TABLE counts (name TEXT PRIMARY KEY, value REAL NOT NULL);
PRAGMA user_version = {_VERSION};
"""


class DataFile(msgspec.Struct, frozen=True):
    """One Parquet file.

    Attributes:
        id: Given by the catalogue, growing; 0 before.
        kind: `records` or `feedback`.
        hour: Hours since 1970 of all its rows.
        place: Relative to the store's `data` folder.
        bytes, checksum: Size and CRC-32 as it was written.
        first_us, last_us: Its rows lie between these times, microseconds since 1970.
        columns: How many columns the table had when it was written.
        state: `live`, `removed` (to be deleted soon) or `damaged` (set aside).
        since: Unix time in seconds from which on it is in that state.
    """

    kind: str
    hour: int
    service: str
    place: str
    rows: int
    bytes: int
    checksum: int
    first_us: int
    last_us: int
    columns: int
    state: str = LIVE
    since: float = 0.0
    id: int = 0


class SpoolPosition(msgspec.Struct, frozen=True):
    """How far a spool has been taken in; the fields are those of the observer's cursor."""

    segment: int = 1
    offset: int = 0
    complete_until: float = 0.0
    closed: bool = False
    broken: int = 0


class Change(msgspec.Struct):
    """What one transaction does.

    Attributes:
        add: Files that count from now on.
        states: New state by id.
        purged: Ids of files that are deleted.
        positions: How far spools have been taken in.
        forget: Spools that are gone.
        counts: What to add to the counts, by name.
    """

    add: Sequence[DataFile] = ()
    states: Mapping[int, str] = {}
    purged: Sequence[int] = ()
    positions: Mapping[str, SpoolPosition] = {}
    forget: Sequence[str] = ()
    counts: Mapping[str, float] = {}


_FILE = tuple(name for name in DataFile.__struct_fields__)
_NEW_FILE = tuple(name for name in _FILE if name != "id")
_COLUMNS = ", ".join(_FILE)
_POSITION = SpoolPosition.__struct_fields__


class Catalogue:
    """Of one thread. Each method raises StorageFailed, Unavailable (locked) or Damaged.

    Raises NotFound when there is none yet, unless it is to be made.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self._path = path
        with self._telling():
            mode = "rwc" if create else "rw"
            self._connection = sqlite3.connect(
                f"file:{_quoted(path)}?mode={mode}",
                uri=True,
                timeout=_BUSY_S,
                isolation_level=None,
            )
            try:
                self._open(create)
            except BaseException:
                self._connection.close()
                raise

    @classmethod
    def is_there(cls, path: Path) -> bool:
        """Whether there is anything of a catalogue; raises StorageFailed."""
        try:
            return path.stat().st_size > 0
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StorageFailed(f"{path}: {error.strerror}") from error

    @classmethod
    def is_whole(cls, path: Path) -> bool:
        """Whether there is a catalogue that can be read; raises StorageFailed or Unavailable."""
        if not cls.is_there(path):
            return False
        try:
            with contextlib.closing(cls(path)) as catalogue, catalogue._telling():
                return bool(
                    catalogue._connection.execute("PRAGMA quick_check").fetchone()[0] == "ok"
                )
        except (Damaged, NotFound):
            return False

    def close(self) -> None:
        """Let go of it; what is not committed is not done."""
        self._connection.close()

    def _open(self, create: bool) -> None:
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version == 0 and create:
            self._connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            self._path.chmod(0o600)
        elif version == 0:
            raise NotFound(f"{self._path}: not made yet", hint="`fairlead up` makes it")
        elif version != _VERSION:
            raise Unavailable(
                f"{self._path}: written by another version of fairlead ({version})",
                hint="use that version, or move the telemetry folder away",
            )
        self._connection.execute("PRAGMA synchronous = FULL")

    def apply(self, change: Change, now: float) -> None:
        """Do all of it, or nothing. `now` is Unix time in seconds."""
        with self._telling(), self._transaction() as connection:
            marks = ", ".join("?" for _ in _NEW_FILE)
            connection.executemany(
                f"INSERT INTO files ({', '.join(_NEW_FILE)}) VALUES ({marks})",  # noqa: S608
                [
                    [{"since": now}.get(name) or getattr(file, name) for name in _NEW_FILE]
                    for file in change.add
                ],
            )
            connection.executemany(
                "UPDATE files SET state = ?, since = ? WHERE id = ?",
                [(state, now, number) for number, state in change.states.items()],
            )
            connection.executemany("DELETE FROM files WHERE id = ?", [(n,) for n in change.purged])
            connection.executemany(
                "INSERT OR REPLACE INTO spools VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (boot, *(getattr(position, name) for name in _POSITION))
                    for boot, position in change.positions.items()
                ],
            )
            connection.executemany(
                "DELETE FROM spools WHERE boot = ?", [(b,) for b in change.forget]
            )
            connection.executemany(
                "INSERT INTO counts VALUES (?, ?)"
                " ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                list(change.counts.items()),
            )

    def positions(self) -> dict[str, SpoolPosition]:
        """How far each spool has been taken in."""
        with self._telling():
            rows = self._connection.execute(f"SELECT boot, {', '.join(_POSITION)} FROM spools")  # noqa: S608
            return {
                row[0]: SpoolPosition(row[1], row[2], row[3], bool(row[4]), row[5]) for row in rows
            }

    def counts(self) -> dict[str, float]:
        """What was counted, by name."""
        with self._telling():
            return dict(self._connection.execute("SELECT name, value FROM counts"))

    def files(
        self,
        state: str = LIVE,
        kind: str | None = None,
        hours: tuple[int, int] | None = None,
        services: Sequence[str] = (),
    ) -> list[DataFile]:
        """Files in this state, by time.

        Args:
            hours: Only from the first up to the last of these, both included.
            services: Only of these; of all when empty.
        """
        query = f"SELECT {_COLUMNS} FROM files WHERE state = ?"  # noqa: S608
        given: list[object] = [state]
        if kind is not None:
            query, given = f"{query} AND kind = ?", [*given, kind]
        if hours is not None:
            query, given = f"{query} AND hour BETWEEN ? AND ?", [*given, *hours]
        if services:
            marks = ", ".join("?" for _ in services)
            query, given = f"{query} AND service IN ({marks})", [*given, *services]
        with self._telling():
            rows = self._connection.execute(f"{query} ORDER BY hour, service, first_us, id", given)
            return [DataFile(**dict(zip(_FILE, row, strict=True))) for row in rows]

    def crowded(self) -> list[tuple[str, int, str]]:
        """(kind, hour, service) of all that have more than one file, the oldest first."""
        with self._telling():
            rows = self._connection.execute(
                "SELECT kind, hour, service FROM files WHERE state = ?"
                " GROUP BY kind, hour, service HAVING count(*) > 1 ORDER BY hour, kind, service",
                [LIVE],
            )
            return [(kind, hour, service) for kind, hour, service in rows]

    def places(self) -> set[str]:
        """Of all files it knows."""
        with self._telling():
            return {row[0] for row in self._connection.execute("SELECT place FROM files")}

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._commit()
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise

    def _commit(self) -> None:
        self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise Unavailable(f"{self._path}: locked by another process") from error
            raise StorageFailed(f"{self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise Damaged(
                f"{self._path}: {error}",
                hint="the observer makes it anew from the data files at its next start",
            ) from error
        except OSError as error:
            raise StorageFailed(f"{self._path}: {error.strerror}") from error


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
