"""Opens the catalogue; one that is lost or damaged is made anew from the data files.

The files say all that the catalogue said, but for which of them had been merged into others, and
how far the spools had been taken in. So the files of one hour and service are merged here by record
id, and what is then read from the spools again is recognised by its ids. The new catalogue takes
its place by one rename: until then nothing is deleted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from fairlead.domain.errors import Damaged, StorageFailed
from fairlead.telemetry.catalogue import Catalogue, Change, DataFile
from fairlead.telemetry.engine import paths, single, telling
from fairlead.telemetry.files import measure, rename, sync
from fairlead.telemetry.schema import HOUR_US, TABLES

if TYPE_CHECKING:
    from fairlead.telemetry.writer import TelemetryWriter

_tables = {table.kind: table for table in TABLES}


def opened(writer: TelemetryWriter) -> Catalogue:
    """The writer's catalogue. Raises StorageFailed, Unavailable, and Damaged for one file."""
    folder = writer.folder
    there = any(folder.everything())
    if not there or Catalogue.is_whole(folder.catalogue):
        return Catalogue(folder.catalogue, create=True)
    writer.warn(f"telemetry: {folder.catalogue} is damaged or gone; making it anew from the data")
    return _made_anew(writer)


def _made_anew(writer: TelemetryWriter) -> Catalogue:
    folder = writer.folder
    partitions: dict[tuple[str, int, str], list[DataFile]] = {}
    for place in sorted(folder.everything()):
        try:
            file = _described(writer, place)
        except Damaged as damage:
            folder.set_aside(place)
            writer.warn(f"telemetry: {place} is damaged and set aside: {damage.message}")
            continue
        partitions.setdefault((file.kind, file.hour, file.service), []).append(file)
    files = [_as_one(writer, alike) for alike in partitions.values()]
    temporary = folder.temporary(".db")
    catalogue = Catalogue(temporary, create=True)
    catalogue.apply(Change(add=files), writer.clock())
    catalogue.close()
    try:
        if folder.catalogue.exists():
            rename(folder.catalogue, folder.damaged / f"catalogue-{time.time_ns()}.db")
        journal = folder.catalogue.with_name(folder.catalogue.name + "-journal")
        journal.unlink(missing_ok=True)
        rename(temporary, folder.catalogue)
        sync(folder.root)
    except OSError as error:
        raise StorageFailed(f"{folder.catalogue}: {error.strerror}") from error
    return Catalogue(folder.catalogue)


def _described(writer: TelemetryWriter, place: str) -> DataFile:
    table = _tables.get(place.split("/")[0])
    if table is None:
        raise Damaged(f"{place}: not a kind of records")
    source = f"read_parquet({paths(writer.folder.data, [place])})"
    service = "min(service)" if table.kind == "records" else "''"
    with telling(place):
        rows, first, last, name = single(
            writer.engine,
            f"SELECT count(*), epoch_us(min({table.by_time})), epoch_us(max({table.by_time})),"  # noqa: S608
            f" {service} FROM {source}",
        )
        columns = len(writer.engine.execute(f"DESCRIBE FROM {source}").fetchall())
    if not rows:
        raise Damaged(f"{place}: empty")
    try:
        size, checksum = measure(writer.folder.data / place)
    except OSError as error:
        raise StorageFailed(f"{place}: {error.strerror}") from error
    return DataFile(
        kind=table.kind,
        hour=first // HOUR_US,
        service=name,
        place=place,
        rows=rows,
        bytes=size,
        checksum=checksum,
        first_us=first,
        last_us=last,
        columns=columns,
    )


def _as_one(writer: TelemetryWriter, files: Sequence[DataFile]) -> DataFile:
    """One file with each record of these once. The others do not come to count."""
    first = files[0]
    if len(files) == 1:
        return first
    table = _tables[first.kind]
    source = paths(writer.folder.data, [file.place for file in files])
    like = msgspec.structs.replace(
        first,
        place=writer.folder.place(first.kind, first.hour, first.service),
        first_us=min(file.first_us for file in files),
        last_us=max(file.last_us for file in files),
        columns=len(table.columns),
    )
    query = (
        f"SELECT {table.names} FROM (FROM read_parquet({source}, union_by_name = true)"  # noqa: S608
        f" UNION ALL BY NAME {table.nothing})"
        f" QUALIFY row_number() OVER (PARTITION BY id ORDER BY {table.by_time}) = 1"
        f" ORDER BY {table.by_time}"
    )
    return writer.copy(query, like)
