"""Questions to the store, by people and by monitors; in another process than the writer's, or not.

A question sees the files that count at one moment. It can read these and nothing else: no other
file, no network, no variable of Python; it changes nothing; it has a limit of time and of memory.
Files that are damaged are left out, and the answer says so.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
import time
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fairlead.domain.errors import Damaged, InvalidInput, NotFound, Unavailable
from fairlead.telemetry.catalogue import DAMAGED, LIVE, Catalogue, DataFile, SpoolPosition
from fairlead.telemetry.engine import (
    as_itself,
    is_of_a_file,
    literal,
    open_engine,
    rows_of,
    telling,
)
from fairlead.telemetry.files import Folder
from fairlead.telemetry.schema import (
    FAILED,
    FEEDBACK,
    HOUR_MAX,
    HOUR_US,
    RECORDS,
    TABLES,
    US_PER_S,
    microseconds,
)

if TYPE_CHECKING:
    import duckdb

MEMORY_MB = 1_024
TIME_LIMIT_S = 30.0
ROWS_MAX = 10_000
_TRIES = 4
_REACH_INTO_THE_PROCESS = re.compile(
    r"\b(arrow_scan\w*|pandas_scan\w*|python_\w+|query|query_table|json_execute_serialized_sql"
    r"|from_substrait\w*)\b",
    re.IGNORECASE,
)
"""Functions that take an address in memory, or run SQL from a string and could call such."""


class Scope(msgspec.Struct, frozen=True):
    """What a question is about; files outside it are not opened.

    Attributes:
        since, until: Unix time in seconds: records that began from then on, and before.
        services: Only these; all when empty.
    """

    since: float | None = None
    until: float | None = None
    services: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """What came of a question.

    Attributes:
        columns: Their names.
        rows: Values of each row, as JSON knows them.
        more: Whether there were more rows than asked for.
        left_out: What is missing in it, in words; empty when nothing is.
        complete_until: Unix time in seconds: what began before is in the store, as far as it has
            been taken in at all; None when no spool was read.
        seconds: How long it took.
    """

    columns: list[str]
    rows: list[tuple[Any, ...]]
    more: bool
    left_out: list[str]
    complete_until: float | None
    seconds: float


class _Session(msgspec.Struct):
    """A database with views over these files."""

    scope: Scope
    files: tuple[DataFile, ...]
    engine: Any


class TelemetryReader:
    """Answers questions; of one thread.

    Args:
        folder: The store's; raises NotFound when there is none.
        threads: Cores that one question may use; None for all.
        memory_mb, time_limit_s: What one question may take.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int | None = None,
        memory_mb: int = MEMORY_MB,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> None:
        self._folder = Folder(folder)
        self._threads = threads
        self._memory_mb = memory_mb
        self._time_limit_s = time_limit_s
        self._session: _Session | None = None
        if not self._folder.catalogue.exists():
            raise no_store(self._folder)

    def close(self) -> None:
        """Let go of everything."""
        if self._session is not None:
            self._session.engine.close()
            self._session = None

    def ask(
        self,
        sql: str,
        parameters: Sequence[Any] = (),
        *,
        scope: Scope | None = None,
        limit: int = ROWS_MAX,
    ) -> Answer:
        """The answer to one SELECT over the views `records` and `feedback`.

        Raises InvalidInput for anything else, Unavailable when it takes too long, StorageFailed
        when it takes too much memory, Damaged when the catalogue cannot be read.
        """
        started = time.monotonic()
        until = started + self._time_limit_s
        scope = scope or Scope()
        without: set[int] = set()
        for _ in range(_TRIES):
            live, left_out, complete_until = self._look(scope)
            files = tuple(file for file in live if file.id not in without)
            left_out += [file for file in live if file.id in without]
            try:
                engine = self._opened(scope, files)
                columns, rows = self._run(engine, sql, parameters, limit + 1, until)
            except (Damaged, InvalidInput) as error:
                # Of a file that is gone DuckDB says that it may not look for others like it.
                read = isinstance(error, Damaged) and is_of_a_file(error)
                if self._blame(files, without, until if read else None):
                    continue
                raise InvalidInput(error.message, hint=error.hint) from error
            return Answer(
                columns=columns,
                rows=rows[:limit],
                more=len(rows) > limit,
                left_out=in_words(left_out),
                complete_until=complete_until,
                seconds=time.monotonic() - started,
            )
        raise Unavailable(f"{self._folder.root}: its files change faster than they can be read")

    def _blame(self, files: Sequence[DataFile], without: set[int], until: float | None) -> bool:
        """Note which files are gone, or damaged; whether it makes sense to try again.

        Args:
            until: Read them up to this time; None for not at all.
        """
        bad = set()
        for file in files:
            if until is not None:
                self._left(until)
            if not (self._folder.data / file.place).exists() or (
                until is not None
                and not self._folder.is_sound(file.place, file.bytes, file.checksum)
            ):
                bad.add(file.id)
        without |= bad
        return bool(bad)

    def _left(self, until: float) -> float:
        """Seconds that a question has; raises Unavailable when it has none."""
        left = until - time.monotonic()
        if left <= 0:
            raise Unavailable(
                f"the question took longer than {self._time_limit_s:g} s",
                hint="narrow it by time or service (--since, --until, --service)",
            )
        return left

    def _look(self, scope: Scope) -> tuple[list[DataFile], list[DataFile], float | None]:
        """Files that count, damaged ones, and up to when all is there."""
        first = 0 if scope.since is None else microseconds(scope.since) // HOUR_US
        last = HOUR_MAX if scope.until is None else microseconds(scope.until) // HOUR_US
        found: dict[str, list[DataFile]] = {LIVE: [], DAMAGED: []}
        with contextlib.closing(Catalogue(self._folder.catalogue)) as catalogue:
            for state, files in found.items():
                files += catalogue.files(state, RECORDS.kind, (first, last), scope.services)
                # What was said of a request may be said long after it.
                files += catalogue.files(state, FEEDBACK.kind, (first, HOUR_MAX))
            positions = catalogue.positions().values()
        return found[LIVE], found[DAMAGED], complete_until(positions)

    def _opened(self, scope: Scope, files: tuple[DataFile, ...]) -> duckdb.DuckDBPyConnection:
        held = self._session
        if held is not None and held.scope == scope and held.files == files:
            engine: duckdb.DuckDBPyConnection = held.engine
            return engine
        self.close()
        threads = self._threads
        engine = open_engine(threads if threads is not None else _cores(), self._memory_mb)
        try:
            self._confine(engine, files)
            with telling("telemetry"):
                for table in TABLES:
                    of_kind = [file for file in files if file.kind == table.kind]
                    rows = rows_of(table, self._folder.data, of_kind)
                    engine.execute(f"CREATE VIEW {table.kind} AS {_seen(table.kind, rows, scope)}")
                engine.execute("SET lock_configuration = true")
        except BaseException:
            engine.close()
            raise
        self._session = _Session(scope, files, engine)
        return engine

    def _confine(self, engine: duckdb.DuckDBPyConnection, files: Sequence[DataFile]) -> None:
        """Let it read these files and nothing else."""
        named = [str(self._folder.data / file.place) for file in files]
        allowed = dict.fromkeys([*named, *map(as_itself, named)])
        with telling("telemetry"):
            engine.execute("SET temp_directory = ''")
            engine.execute("SET parquet_metadata_cache = true")
            engine.execute(f"SET allowed_paths = [{', '.join(map(literal, allowed))}]")
            engine.execute("SET enable_external_access = false")

    def _run(
        self,
        engine: duckdb.DuckDBPyConnection,
        sql: str,
        parameters: Sequence[Any],
        limit: int,
        until: float,
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        with telling("telemetry"), self._within_time(engine, until):
            statement = _one_select(engine, sql)
            result = engine.execute(statement, list(parameters) or None)
            columns = [str(column[0]) for column in result.description or ()]
            rows = [tuple(map(_plain, row)) for row in result.fetchmany(limit)]
        return columns, rows

    @contextlib.contextmanager
    def _within_time(self, engine: duckdb.DuckDBPyConnection, until: float) -> Iterator[None]:
        import duckdb

        timer = threading.Timer(self._left(until), engine.interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield
        except duckdb.InterruptException:
            self._left(until)
            raise
        finally:
            timer.cancel()
            timer.join()


def no_store(folder: Folder) -> NotFound:
    """What to say where there is no store."""
    return NotFound(
        f"{folder.root}: no telemetry store here",
        hint="`fairlead up` fills one, unless it runs with --telemetry-days 0",
    )


def complete_until(positions: Collection[SpoolPosition]) -> float | None:
    """Unix time in seconds: what began before is in the store; None when no spool was read."""
    still_open = [each.complete_until for each in positions if not each.closed]
    if still_open:
        return min(still_open)
    return max((each.complete_until for each in positions), default=None)


def _one_select(engine: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    import duckdb

    for name in _called(sql):
        found = _REACH_INTO_THE_PROCESS.search(name)
        if found:
            raise InvalidInput(f"telemetry: {found.group()} cannot be used here")
    statements = engine.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise InvalidInput(
            "telemetry: a question is one SELECT",
            hint="the tables are `records` and `feedback`; `DESCRIBE records` shows the columns",
        )
    return statements[0]


def _called(sql: str) -> Iterator[str]:
    """What stands before a bracket, as DuckDB itself divides the text: comments are none of it.

    All of it where there are spaces beyond ASCII, at which it divides otherwise than it reads.
    """
    import duckdb

    if any(unicodedata.category(letter)[0] in "CZ" for letter in sql if not letter.isascii()):
        yield sql
        return
    text = sql.encode()
    tokens = duckdb.tokenize(sql)
    ends = [*(start for start, _ in tokens[1:]), len(text)]
    words = [
        text[start:end].decode(errors="replace")
        for (start, kind), end in zip(tokens, ends, strict=False)
        if kind != duckdb.token_type.comment
    ]
    for word, following in itertools.pairwise(words):
        if following.startswith("("):
            yield word


def _seen(kind: str, rows: str, scope: Scope) -> str:
    """SQL of the view over these rows."""
    if kind == FEEDBACK.kind:
        return rows
    where = []
    if scope.since is not None:
        where.append(f"started_at >= make_timestamp({microseconds(scope.since)})")
    if scope.until is not None:
        where.append(f"started_at < make_timestamp({microseconds(scope.until)})")
    only = f" WHERE {' AND '.join(where)}" if where else ""
    return f"SELECT *, {FAILED} AS failed FROM ({rows}){only}"  # noqa: S608


def in_words(files: Sequence[DataFile]) -> list[str]:
    """What is missing when these files are."""
    told: dict[tuple[str, str], list[DataFile]] = {}
    for file in files:
        told.setdefault((file.kind, file.service), []).append(file)
    words = []
    for (kind, service), missing in told.items():
        rows = sum(file.rows for file in missing)
        first = min(file.first_us for file in missing) / US_PER_S
        last = max(file.last_us for file in missing) / US_PER_S
        of = f" of {service}" if service else ""
        words.append(
            f"{rows} {kind}{of} between {_when(first)} and {_when(last)}:"
            f" {len(missing)} damaged file{'s' if len(missing) > 1 else ''}"
        )
    return words


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))


def _plain(value: Any) -> Any:
    """As JSON knows it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if type(value).__name__ == "Decimal":
        return float(value)
    return value.isoformat(sep=" ") if hasattr(value, "hour") else str(value)


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
