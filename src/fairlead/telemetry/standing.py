"""What the store holds and needs, and whether it is whole."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fairlead.telemetry.catalogue import DAMAGED, Catalogue, DataFile
from fairlead.telemetry.files import Folder
from fairlead.telemetry.reader import complete_until, in_words, no_store
from fairlead.telemetry.schema import FEEDBACK, RECORDS, US_PER_S
from fairlead.telemetry.writer import DUPLICATES, EXPIRED


class Standing(msgspec.Struct, frozen=True):
    """The store at one moment. Times are Unix times in seconds.

    Attributes:
        records, feedback: How many there are.
        bytes: Of all files that count.
        bytes_per_million: Bytes per million request records; None while there are none.
        partitions, files: Hours and services that have files of records, and how many files.
        oldest, newest: Start of the first and the last request; None when there is none.
        complete_until: What began before has been taken in; None when no spool was read.
        duplicates, expired: Records that were left out: there already, or older than may be kept.
        damaged: What is missing because files are damaged, in words.
        damaged_files: How many of these there are.
        checked: Whether every file was read for that.
    """

    records: int
    feedback: int
    bytes: int
    bytes_per_million: float | None
    partitions: int
    files: int
    oldest: float | None
    newest: float | None
    complete_until: float | None
    duplicates: int
    expired: int
    damaged: list[str]
    damaged_files: int
    checked: bool


def standing(root: Path, *, check: bool = False) -> Standing:
    """Look at the store below this folder.

    Raises NotFound when there is none, StorageFailed, Unavailable or Damaged when its catalogue
    cannot be read.

    Args:
        check: Read every file and compare its checksum; takes about a second per gigabyte.
    """
    folder = Folder(root)
    if not folder.catalogue.exists():
        raise no_store(folder)
    with contextlib.closing(Catalogue(folder.catalogue)) as catalogue:
        live, damaged = catalogue.files(), catalogue.files(DAMAGED)
        positions, counts = catalogue.positions(), catalogue.counts()
    if check:
        damaged += [f for f in live if not folder.is_sound(f.place, f.bytes, f.checksum)]
    records = [file for file in live if file.kind == RECORDS.kind]
    rows, size = _sums(records)
    feedback, feedback_size = _sums([file for file in live if file.kind == FEEDBACK.kind])
    return Standing(
        records=rows,
        feedback=feedback,
        bytes=size + feedback_size,
        bytes_per_million=size / rows * 1e6 if rows else None,
        partitions=len({(file.hour, file.service) for file in records}),
        files=len(records),
        oldest=min((file.first_us / US_PER_S for file in records), default=None),
        newest=max((file.last_us / US_PER_S for file in records), default=None),
        complete_until=complete_until(positions.values()),
        duplicates=int(counts.get(DUPLICATES, 0)),
        expired=int(counts.get(EXPIRED, 0)),
        damaged=in_words(damaged),
        damaged_files=len(damaged),
        checked=check,
    )


def _sums(files: Sequence[DataFile]) -> tuple[int, int]:
    return sum(file.rows for file in files), sum(file.bytes for file in files)
