"""The columns of the store, in one place.

What a record says with -1 (not measured, not known) is NULL here, so that an average in SQL is one
over what was measured. Times are timestamps in UTC. Whether a request was failed by the server is
not kept: `failed` is computed by the rule of `fairlead.domain.outcomes`.
"""

from __future__ import annotations

import msgspec

from fairlead.domain.outcomes import CLIENT_ERRORS, NO_ROOM, NOT_FAILED, SERVER_ERRORS

US_PER_S = 1_000_000
HOUR_S = 3_600
HOUR_US = HOUR_S * US_PER_S
HOUR_MAX = 2**40
"""Later than any hour since 1970 that there is."""
_LATEST_S = 253_402_300_799
_REAL_MAX = "3.0e38"


class Column(msgspec.Struct, frozen=True):
    """One column.

    Attributes:
        name: As the record's field.
        given: DuckDB type in which the field is read.
        kept: SQL expression over the given columns; its type is the column's.
    """

    name: str
    given: str
    kept: str


class Table(msgspec.Struct, frozen=True):
    """One kind of records.

    Attributes:
        kind: Name of the table, and of the folder with its files.
        time: The column by whose hour files are divided, and by which they are sorted.
        columns: In the order of the record's fields. New ones go to the end.
    """

    kind: str
    time: str
    columns: tuple[Column, ...]

    @property
    def by_time(self) -> str:
        """The time's column, for SQL."""
        return f'"{self.time}"'

    @property
    def names(self) -> str:
        """The columns' names, for SQL."""
        return ", ".join(f'"{column.name}"' for column in self.columns)

    @property
    def kept(self) -> str:
        """What is kept, as SQL over the given columns."""
        return ", ".join(f'{column.kept} AS "{column.name}"' for column in self.columns)

    @property
    def nothing(self) -> str:
        """SQL that gives all columns with their types, and no row."""
        given = ", ".join(f'CAST(NULL AS {c.given}) AS "{c.name}"' for c in self.columns)
        return f"SELECT {self.kept} FROM (SELECT {given}) WHERE false"  # noqa: S608


def _text(name: str) -> Column:
    return Column(name, "VARCHAR", f'"{name}"')


def _time(name: str) -> Column:
    return Column(name, "BIGINT", f'make_timestamp("{name}")')


def _measured(name: str) -> Column:
    kept = f'CASE WHEN "{name}" >= 0 THEN CAST(least("{name}", {_REAL_MAX}) AS REAL) END'
    return Column(name, "DOUBLE", kept)


def _counted(name: str) -> Column:
    return Column(name, "BIGINT", f'CASE WHEN "{name}" >= 0 THEN "{name}" END')


def _flag(name: str) -> Column:
    return Column(name, "BIGINT", f'CASE "{name}" WHEN 1 THEN true WHEN 0 THEN false END')


def _plain(name: str, kind: str) -> Column:
    return Column(name, kind, f'"{name}"')


RECORDS = Table(
    "records",
    "started_at",
    (
        *(_text(name) for name in ("id", "service", "release", "arm", "replica", "key", "unit")),
        _plain("rho", "DOUBLE"),
        _text("rollout"),
        _plain("phase", "BIGINT"),
        _text("endpoint"),
        _plain("stream", "BOOLEAN"),
        _plain("status", "BIGINT"),
        _text("error"),
        _time("started_at"),
        *(_measured(name) for name in ("ttft_ms", "itl_ms", "duration_ms")),
        *(_counted(name) for name in ("prompt_tokens", "completion_tokens")),
        _plain("attempts", "BIGINT"),
        Column("cost_usd", "DOUBLE", 'CASE WHEN "cost_usd" >= 0 THEN "cost_usd" END'),
        *(_flag(name) for name in ("refused", "malformed")),
        _counted("guardrail_hits"),
        *(_text(name) for name in ("guardrails", "blocked_by")),
        _counted("stratum"),
    ),
)

FEEDBACK = Table(
    "feedback",
    "at",
    (
        *(_text(name) for name in ("id", "request", "key", "name")),
        _plain("value", "DOUBLE"),
        _time("at"),
    ),
)

TABLES = (RECORDS, FEEDBACK)

_WELL = ", ".join(f"'{error}'" for error in NOT_FAILED)
FAILED = (
    f"(status >= {SERVER_ERRORS} OR status = {NO_ROOM}"
    f" OR (status < {CLIENT_ERRORS} AND error NOT IN ({_WELL})))"
)
"""SQL for `fairlead.domain.outcomes.failed_by_server`."""


def microseconds(at: float) -> int:
    """Unix time in whole microseconds, within what a timestamp can say (1970 to 9999)."""
    return round(min(max(at, 0.0), _LATEST_S) * US_PER_S)
