"""DuckDB: opened when it is needed, its errors translated.

The import takes a fifth of a second and 30 MB, so it happens here, in the processes that use it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.domain.errors import Damaged, FairleadError, InvalidInput, StorageFailed, Unavailable
from fairlead.telemetry.catalogue import DataFile
from fairlead.telemetry.schema import Table

if TYPE_CHECKING:
    import duckdb

WRITER_MEMORY_MB = 256
_NO_SPACE = "No space left on device"
_OF_A_FILE = re.compile(r"\.parquet|stats size|unicode", re.IGNORECASE)


def open_engine(threads: int, memory_mb: int) -> duckdb.DuckDBPyConnection:
    """A database in memory that knows no file yet; raises Unavailable without DuckDB."""
    try:
        import duckdb
    except ImportError as error:
        raise Unavailable(
            f"the telemetry store needs DuckDB, which cannot be loaded: {error}",
            hint="pip install duckdb, or turn the store off: fairlead up --telemetry-days 0",
        ) from None
    with telling("DuckDB"):
        engine = duckdb.connect(
            ":memory:",
            config={
                "threads": str(threads),
                "memory_limit": f"{memory_mb}MB",
                "python_enable_replacements": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            },
        )
        engine.execute("SET TimeZone = 'UTC'")
        return engine


def writing_engine(spill: Path) -> duckdb.DuckDBPyConnection:
    """One core, little memory; what does not fit is sorted on the disk."""
    engine = open_engine(1, WRITER_MEMORY_MB)
    with telling("DuckDB"):
        engine.execute(f"SET temp_directory = {literal(str(spill))}")
    return engine


@contextlib.contextmanager
def telling(what: str) -> Iterator[None]:
    """Raise DuckDB's errors as ours.

    Damaged for files that cannot be read as Parquet, StorageFailed for the disk, memory and all
    else that is not the question's fault, InvalidInput for a question that is none, Unavailable
    when it was interrupted.
    """
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise _translated(what, error) from error


def _translated(what: str, error: duckdb.Error) -> FairleadError:
    import duckdb

    message = " ".join(str(error).split("\n\n")[0].split())
    if isinstance(error, duckdb.InterruptException):
        return Unavailable(f"{what}: interrupted")
    if isinstance(error, duckdb.OutOfMemoryException):
        return StorageFailed(f"{what}: {message}")
    asked_wrongly = (
        duckdb.ParserException,
        duckdb.BinderException,
        duckdb.CatalogException,
        duckdb.PermissionException,
        duckdb.ConversionException,
        duckdb.OutOfRangeException,
        duckdb.SyntaxException,
        duckdb.TypeMismatchException,
        duckdb.NotImplementedException,
    )
    if isinstance(error, asked_wrongly):
        return InvalidInput(f"{what}: {message}")
    if isinstance(error, duckdb.IOException) and _NO_SPACE in message:
        return StorageFailed(f"{what}: {message}")
    return Damaged(f"{what}: {message}")


def is_of_a_file(damage: Damaged) -> bool:
    """Whether it may be a file's: DuckDB says the same kind of error of what questions compute."""
    import duckdb

    computed = isinstance(damage.__cause__, duckdb.InvalidInputException)
    return not computed or bool(_OF_A_FILE.search(damage.message))


def literal(text: str) -> str:
    """A string in SQL."""
    return "'" + text.replace("'", "''") + "'"


def paths(root: Path, places: Sequence[str]) -> str:
    """A list of files in SQL; what is a pattern for DuckDB in a folder's name means itself."""
    return "[" + ", ".join(literal(as_itself(str(root / place))) for place in places) + "]"


def rows_of(table: Table, root: Path, files: Sequence[DataFile]) -> str:
    """SQL that gives the rows of these files with all columns; those that are new are NULL."""
    if not files:
        return table.nothing
    source = paths(root, [file.place for file in files])
    if all(file.columns == len(table.columns) for file in files):
        return f"SELECT {table.names} FROM read_parquet({source})"  # noqa: S608
    return (
        f"SELECT {table.names} FROM (FROM read_parquet({source}, union_by_name = true)"  # noqa: S608
        f" UNION ALL BY NAME {table.nothing})"
    )


def as_itself(path: str) -> str:
    """A pattern that matches this path alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)


def single(engine: duckdb.DuckDBPyConnection, query: str, *given: Any) -> tuple[Any, ...]:
    """The one row of an answer."""
    row = engine.execute(query, list(given)).fetchone()
    assert row is not None
    return tuple(row)
