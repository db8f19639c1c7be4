"""Opens the catalogue, and takes up data files that it does not know.

One that is lost or damaged is made anew from the data files.

The files say all that the catalogue said, but for which of them had been merged into others, and
how far the spools had been taken in. So the files of one hour and service are merged here by record
id, and what is then read from the spools again is recognised by its ids. The new catalogue takes
its place by one rename: until then nothing is deleted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fairlead.domain.errors import Damaged, FairleadError, InvalidInput, StorageFailed
from fairlead.telemetry.catalogue import Catalogue, Change, DataFile
from fairlead.telemetry.engine import paths, rows_of, single, telling
from fairlead.telemetry.files import Folder, measure, rename, sync
from fairlead.telemetry.schema import HOUR_US, TABLES

if TYPE_CHECKING:
    from fairlead.telemetry.writer import TelemetryWriter

_tables = {table.kind: table for table in TABLES}


def opened(writer: TelemetryWriter) -> Catalogue:
    """The writer's catalogue. Raises StorageFailed, Unavailable or Damaged."""
    path = writer.folder.catalogue
    if Catalogue.is_whole(path):
        return Catalogue(path)
    if not Catalogue.is_there(path) and not any(writer.folder.everything()):
        return Catalogue(path, create=True)
    writer.warn(f"telemetry: {path} is damaged or gone; making it anew from the data")
    return _made_anew(writer)


def _made_anew(writer: TelemetryWriter) -> Catalogue:
    folder = writer.folder
    found = sorted(folder.everything())
    temporary = folder.temporary(".db")
    files: list[DataFile] = []
    try:
        for alike in _partitions(writer, found):
            files += _as_one(writer, alike)
        catalogue = Catalogue(temporary, create=True)
        catalogue.apply(Change(add=files), writer.clock())
        catalogue.close()
        _put_in_place(folder, temporary)
    except FairleadError:
        writer.discard([file for file in files if file.place not in found])
        raise
    try:
        sync(folder.root)
    except OSError as error:
        raise StorageFailed(f"{folder.root}: {error.strerror}") from error
    catalogue = Catalogue(folder.catalogue)
    _remove(folder, found, but=files)
    return catalogue


def adopt(writer: TelemetryWriter) -> None:
    """Have records count that are only in files which the catalogue does not know.

    Such files are left by a life that ended before they came to count, and are in a backup whose
    data is younger than its catalogue. Raises StorageFailed, Unavailable or Damaged.
    """
    known = writer.catalogue.places()
    unknown = set(writer.folder.everything()) - known
    for alike in _partitions(writer, unknown):
        made = _as_one(writer, alike)
        copies = [file for file in made if file.place not in unknown]
        try:
            count = [each for file in made for each in _beyond(writer, file)]
        except FairleadError:
            writer.discard(copies)
            raise
        copies += [file for file in count if file.place not in unknown]
        if count:
            writer.commit(Change(add=count), copies)
        _remove(writer.folder, [file.place for file in [*made, *alike]], but=count)


def _beyond(writer: TelemetryWriter, file: DataFile) -> list[DataFile]:
    """What of this file is in none that counts."""
    table = _tables[file.kind]
    partition = writer.catalogue.files(
        kind=file.kind, hours=(file.hour, file.hour), services=[file.service]
    )
    if not partition:
        return [file]
    like = msgspec.structs.replace(
        file,
        place=writer.folder.place(file.kind, file.hour, file.service),
        columns=len(table.columns),
    )
    made = writer.copy_new(table, f"({rows_of(table, writer.folder.data, [file])})", like)
    if made.rows:
        return [made]
    writer.discard([made])
    return []


def _remove(folder: Folder, places: Iterable[str], but: Iterable[DataFile]) -> None:
    for place in set(places) - {file.place for file in but}:
        folder.remove(place)


def _put_in_place(folder: Folder, temporary: Path) -> None:
    try:
        if folder.catalogue.exists():
            rename(folder.catalogue, folder.damaged / f"catalogue-{time.time_ns()}.db")
        journal = folder.catalogue.with_name(folder.catalogue.name + "-journal")
        journal.unlink(missing_ok=True)
        rename(temporary, folder.catalogue)
    except OSError as error:
        raise StorageFailed(f"{folder.catalogue}: {error.strerror}") from error


def _partitions(writer: TelemetryWriter, places: Iterable[str]) -> list[list[DataFile]]:
    """The files that can be read, by kind, hour and service. The others are set aside."""
    found: dict[tuple[str, int, str], list[DataFile]] = {}
    for place in places:
        try:
            file = _described(writer, place)
        except (Damaged, InvalidInput) as damage:  # invalid is our question to a file of others
            writer.folder.set_aside(place)
            writer.warn(f"telemetry: {place} is damaged and set aside: {damage.message}")
        else:
            found.setdefault((file.kind, file.hour, file.service), []).append(file)
    return list(found.values())


def _described(writer: TelemetryWriter, place: str) -> DataFile:
    table = _tables.get(place.split("/")[0])
    if table is None:
        raise Damaged(f"{place}: not a kind of records")
    source = f"read_parquet({paths(writer.folder.data, [place])})"
    service = "min(service)" if table.kind == "records" else "''"
    with telling(place):
        rows, first, last, name, _ = single(
            writer.engine,
            # The hash is for what it reads: all columns.
            f"SELECT count(id), epoch_us(min({table.by_time})), epoch_us(max({table.by_time})),"  # noqa: S608
            f" {service}, bit_xor(hash(f)) FROM {source} f",
        )
        columns = len(writer.engine.execute(f"DESCRIBE FROM {source}").fetchall())
    if not rows or first is None or name is None or first // HOUR_US != last // HOUR_US:
        raise Damaged(f"{place}: not the records of an hour")
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


def _as_one(writer: TelemetryWriter, files: list[DataFile]) -> list[DataFile]:
    """One file with each record of these once; none when none can be read.

    The others do not come to count.
    """
    if len(files) < 2:
        return files
    first = files[0]
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
    try:
        return [writer.copy(query, like)]
    except Damaged:  # since it was described: look at each again
        rest = [file for alike in _partitions(writer, [f.place for f in files]) for file in alike]
        if len(rest) == len(files):
            raise
        return _as_one(writer, rest)
