"""Takes records in: one Parquet file for each hour and service that a portion has, all or nothing.

Exactly once rests on two things. The cursors of the spools are kept in the transaction that makes
the files count, so that no portion is taken twice. And a record whose id is there already, in a
file whose times overlap with those of the portion, is left out: a record that was spooled twice has
the same time both times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fairlead.domain.errors import Damaged, FairleadError, InvalidInput, StorageFailed
from fairlead.domain.recorded import Cursor
from fairlead.telemetry.adoption import adopt, opened
from fairlead.telemetry.catalogue import DAMAGED, Change, DataFile, SpoolPosition
from fairlead.telemetry.engine import as_itself, literal, paths, single, telling, writing_engine
from fairlead.telemetry.files import Folder, discard, measure, write
from fairlead.telemetry.schema import FEEDBACK, HOUR_US, RECORDS, Table, microseconds
from fairlead.wire.record import FeedbackRecord, RequestRecord

if TYPE_CHECKING:
    import duckdb

DAY_S = 86_400.0
PARQUET = "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880"
LINE_BYTES_MAX = 1 << 20
"""Of one record as JSON. Gateways write some hundred bytes; this is for what is none of theirs."""
DUPLICATES, EXPIRED = "duplicates", "expired"

_encoder = msgspec.json.Encoder()


class Part(msgspec.Struct):
    """What a portion has of one hour and service."""

    table: Table
    number: int
    hour: int
    service: str
    rows: list[dict[str, Any]]
    first_us: int
    last_us: int


class Portion(msgspec.Struct):
    """Parts by (kind, hour, service), and how many records are in none."""

    parts: dict[tuple[str, int, str], Part] = {}
    expired: int = 0
    duplicates: int = 0


class TelemetryWriter:
    """The one writer of a store; use it in one thread.

    Args:
        folder: Made when it is not there.
        keep_s: Seconds for which records are kept, by their own time; what is older when it comes
            is not taken in.
        clock: Unix time in seconds.
        warn: Is told of what a person should know.

    Each method raises StorageFailed, Unavailable or Damaged when it could not do its work; then
    nothing of it is done, and it can be called again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_s: float,
        clock: Callable[[], float],
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder = Folder(folder)
        self.keep_s = keep_s
        self.clock = clock
        self.warn = warn
        self.doubts_the_clock = False
        self._engine: duckdb.DuckDBPyConnection | None = None
        self.folder.create()
        self.catalogue = opened(self)
        try:
            adopt(self)
        except FairleadError:  # it is tried again, for as long as it takes
            self.close()
            raise

    @property
    def engine(self) -> duckdb.DuckDBPyConnection:
        """DuckDB, opened at first use."""
        if self._engine is None:
            self._engine = writing_engine(self.folder.spill)
        return self._engine

    def positions(self) -> Mapping[str, SpoolPosition]:
        """How far each spool has been taken in."""
        return self.catalogue.positions()

    def interrupt(self) -> None:
        """From another thread: give up what is being done; it raises Unavailable."""
        if self._engine is not None:
            self._engine.interrupt()

    def close(self) -> None:
        """Let go of everything."""
        self.catalogue.close()
        if self._engine is not None:
            self._engine.close()

    def take_in(
        self,
        requests: Sequence[RequestRecord],
        feedback: Sequence[FeedbackRecord],
        positions: Mapping[str, Cursor],
        forget: Sequence[str] = (),
    ) -> int:
        """Keep a portion together with how far the spools were read for it; how many were new."""
        now = self.clock()
        portion = self._divided(requests, feedback, now)
        made = self._write(portion)
        kept = sum(file.rows for file in made)
        given = sum(len(part.rows) for part in portion.parts.values())
        self.commit(
            Change(
                add=made,
                positions={boot: _own(position) for boot, position in positions.items()},
                forget=forget,
                counts=_counts(portion.expired, portion.duplicates + given - kept),
            ),
            made,
        )
        return kept

    def commit(self, change: Change, made: Sequence[DataFile]) -> None:
        """Apply it; if that fails, delete the files that were made for it.

        A commit may succeed and be reported as failed. So the catalogue is asked: what counts is
        done. If it does not answer, the files stay, and the next start takes them up.
        """
        try:
            self.catalogue.apply(change, self.clock())
        except FairleadError as trouble:
            try:
                known = self.catalogue.places()
            except FairleadError:
                raise trouble from None
            if change.add and known.issuperset(file.place for file in change.add):
                return
            self.discard(made)
            raise

    def discard(self, files: Sequence[DataFile]) -> None:
        """Delete files that were to count, if it can be; the next start does else."""
        for file in files:
            discard(self.folder.data / file.place)

    def copy(self, query: str, like: DataFile) -> DataFile:
        """A new file with what the query gives, published; it does not count yet."""
        temporary = self.folder.temporary(".parquet")
        try:
            with telling(f"writing {like.place}"):
                copied = single(
                    self.engine, f"COPY ({query}) TO {literal(str(temporary))} ({PARQUET})"
                )
            try:
                size, checksum = measure(temporary)
            except OSError as error:
                raise StorageFailed(f"{temporary}: {error.strerror}") from error
            self.folder.publish(temporary, like.place)
        except FairleadError as error:
            discard(temporary)
            if isinstance(error, InvalidInput):  # our own SQL: the disk's answer to it
                raise StorageFailed(error.message) from error
            raise
        return msgspec.structs.replace(like, rows=int(copied[0]), bytes=size, checksum=checksum)

    def set_aside(self, files: Sequence[DataFile]) -> int:
        """Take damaged ones among these out of the store; how many there were."""
        bad = [f for f in files if not self.folder.is_sound(f.place, f.bytes, f.checksum)]
        if bad:
            self.catalogue.apply(Change(states={file.id: DAMAGED for file in bad}), self.clock())
        for file in bad:
            self.folder.set_aside(file.place)
            self.warn(
                f"telemetry: {file.place} is damaged or gone; its {file.rows} {file.kind} are"
                f" missing in answers (set aside in {self.folder.damaged})"
            )
        return len(bad)

    def oldest_us(self, now: float) -> int:
        """Microseconds since 1970 before whose hour nothing is kept."""
        return microseconds(now - self.keep_s) // HOUR_US * HOUR_US if self.keep_s else 0

    def _divided(
        self, requests: Sequence[RequestRecord], feedback: Sequence[FeedbackRecord], now: float
    ) -> Portion:
        portion = Portion()
        oldest = self.oldest_us(now)
        for table, records in ((RECORDS, requests), (FEEDBACK, feedback)):
            seen: set[str] = set()
            for record in records:
                if record.id in seen:
                    portion.duplicates += 1
                    continue
                seen.add(record.id)
                row = msgspec.structs.asdict(record)
                at = row[table.time] = microseconds(row[table.time])
                if at < oldest:
                    portion.expired += 1
                else:
                    _add(portion, table, row, at)
        return portion

    def _write(self, portion: Portion) -> list[DataFile]:
        made: list[DataFile] = []
        try:
            for table in (RECORDS, FEEDBACK):
                parts = [part for part in portion.parts.values() if part.table is table]
                if parts:
                    self._load(table, parts)
                for part in parts:
                    file = self._write_part(part)
                    made.append(file)
        except FairleadError:
            self.discard(made)
            raise
        empty = [file for file in made if not file.rows]
        self.discard(empty)
        return [file for file in made if file.rows]

    def _load(self, table: Table, parts: Sequence[Part]) -> None:
        """The rows as a table of DuckDB, by way of JSON: the fastest that needs nothing else."""
        temporary = self.folder.temporary(".json")
        data = self._lines([row for part in parts for row in part.rows])
        given = ", ".join(f"{literal(c.name)}: {literal(c.given)}" for c in table.columns)
        try:
            write(temporary, data)
            with telling("taking in records"):
                self.engine.execute(
                    f"CREATE OR REPLACE TEMP TABLE portion AS SELECT part, {table.kept}"  # noqa: S608
                    f" FROM read_json({literal(as_itself(str(temporary)))},"
                    " format = 'newline_delimited',"
                    f" columns = {{'part': 'INTEGER', {given}}})"
                )
        except OSError as error:
            raise StorageFailed(f"{temporary}: {error.strerror}") from error
        finally:
            discard(temporary)

    def _lines(self, rows: Sequence[dict[str, Any]]) -> bytes:
        """The rows as JSON that DuckDB takes: without NUL, and without lines too long for it."""
        lines = _encoder.encode_lines(rows).replace(b"\\u0000", b"\\ufffd").split(b"\n")
        fit = [line for line in lines if len(line) <= LINE_BYTES_MAX]
        if len(fit) < len(lines):
            self.warn(f"telemetry: {len(lines) - len(fit)} records are too long and left out")
        return b"\n".join(fit)

    def _write_part(self, part: Part) -> DataFile:
        kind = part.table.kind
        like = DataFile(
            kind=kind,
            hour=part.hour,
            service=part.service,
            place=self.folder.place(kind, part.hour, part.service),
            rows=0,
            bytes=0,
            checksum=0,
            first_us=part.first_us,
            last_us=part.last_us,
            columns=len(part.table.columns),
        )
        source = f"(SELECT * FROM portion WHERE part = {part.number})"  # noqa: S608
        return self.copy_new(part.table, source, like)

    def copy_new(self, table: Table, source: str, like: DataFile) -> DataFile:
        """As `copy`, of the rows of `source` whose ids are in no file yet that counts.

        Damaged ones of these are set aside.
        """
        while True:
            near = [
                file
                for file in self.catalogue.files(
                    kind=like.kind, hours=(like.hour, like.hour), services=[like.service]
                )
                if file.first_us <= like.last_us and file.last_us >= like.first_us
            ]
            try:
                return self.copy(self._new_rows(table, source, near, like), like)
            except Damaged:
                if not self.set_aside(near):
                    raise

    def _new_rows(self, table: Table, source: str, near: Sequence[DataFile], like: DataFile) -> str:
        time = table.by_time
        query = f"SELECT {table.names} FROM {source} p"  # noqa: S608
        if near:
            files = paths(self.folder.data, [file.place for file in near])
            query += (
                f" WHERE NOT EXISTS (FROM read_parquet({files}) k WHERE k.id = p.id AND k.{time}"
                f" BETWEEN make_timestamp({like.first_us}) AND make_timestamp({like.last_us}))"
            )
        return f"{query} ORDER BY {time}"


def _add(portion: Portion, table: Table, row: dict[str, Any], at: int) -> None:
    key = (table.kind, at // HOUR_US, row.get("service", ""))
    part = portion.parts.get(key)
    if part is None:
        part = portion.parts[key] = Part(table, len(portion.parts), key[1], key[2], [], at, at)
    row["part"] = part.number
    part.rows.append(row)
    part.first_us = min(part.first_us, at)
    part.last_us = max(part.last_us, at)


def _own(position: Cursor) -> SpoolPosition:
    return SpoolPosition(
        segment=position.segment,
        offset=position.offset,
        complete_until=position.complete_until,
        closed=position.closed,
        broken=position.broken,
    )


def _counts(expired: int, duplicates: int) -> dict[str, float]:
    counts = {EXPIRED: expired, DUPLICATES: duplicates}
    return {name: float(count) for name, count in counts.items() if count}
