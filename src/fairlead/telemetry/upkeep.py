"""Merging small files and deleting old ones, in steps of bounded size.

While an hour goes on, eight files of about the same size become one, so that a record is written
some log8(n) times. When the hour is over and nothing has come for it for a while, all its files
become one. Each is sorted by time.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fairlead.domain.errors import Damaged
from fairlead.telemetry.catalogue import REMOVED, Change, DataFile
from fairlead.telemetry.engine import rows_of
from fairlead.telemetry.schema import HOUR_MAX, HOUR_S, HOUR_US, TABLES, US_PER_S
from fairlead.telemetry.writer import TelemetryWriter

ROWS_MAX = 4_000_000
"""Rows of a file that merging makes, at most."""
ALIKE = 8
"""As many files of about one size become one."""
SETTLE_S = 600.0
"""Seconds for which nothing has come for an hour before its files become one."""
GRACE_S = 300.0
"""Seconds for which a file that counts no longer stays, for who reads it. A question takes less."""
PURGED_AT_ONCE = 500
CONFIRM_S = 86_400.0
"""Seconds for which records come in before a time far ahead of all others is believed."""

_tables = {table.kind: table for table in TABLES}


def step(writer: TelemetryWriter, given_up: set[tuple[str, int, str]]) -> bool:
    """Delete what is due and merge the files of one hour and service; whether there may be more.

    Raises as the writer's methods do.

    Args:
        given_up: (kind, hour, service) that cannot be merged; grows when one more cannot.
    """
    now = writer.clock()
    more = _purge(writer, now)
    _expire(writer, now)
    for partition in writer.catalogue.crowded():
        chosen = [] if partition in given_up else choose(_of(writer, partition), now)
        if chosen:
            try:
                merge(writer, chosen)
            except Damaged as damage:  # its files are as they were; the others go on
                given_up.add(partition)
                writer.warn(f"telemetry: cannot be merged: {damage.message}")
            return True
    return more


def choose(files: Sequence[DataFile], now: float) -> list[DataFile]:
    """Which files of one hour and service are to become one; none, or two and more."""
    small = [file for file in files if file.rows <= ROWS_MAX // 2]
    if not small:
        return []
    is_over = now >= (small[0].hour + 1) * HOUR_S + SETTLE_S
    if is_over and now - max(file.since for file in small) >= SETTLE_S:
        return _within(small)
    tiers: dict[int, list[DataFile]] = {}
    for file in small:
        tiers.setdefault((max(file.rows, 1).bit_length() - 1) // 3, []).append(file)
    for _, alike in sorted(tiers.items()):
        if len(alike) >= ALIKE:
            return _within(alike)
    return []


def merge(writer: TelemetryWriter, files: Sequence[DataFile]) -> None:
    """Put one file in the place of these. A damaged one is set aside first, and nothing merged."""
    if writer.set_aside(files):
        return
    first = files[0]
    table = _tables[first.kind]
    like = msgspec.structs.replace(
        first,
        id=0,
        place=writer.folder.place(first.kind, first.hour, first.service),
        first_us=min(file.first_us for file in files),
        last_us=max(file.last_us for file in files),
        columns=len(table.columns),
    )
    query = f"{rows_of(table, writer.folder.data, files)} ORDER BY {table.by_time}"
    made = writer.copy(query, like)
    expected = sum(file.rows for file in files)
    if made.rows != expected:
        writer.discard([made])
        raise Damaged(f"{made.place}: {made.rows} rows where {expected} were to be")
    writer.commit(Change(add=[made], states={file.id: REMOVED for file in files}), [made])


def _within(files: Sequence[DataFile]) -> list[DataFile]:
    chosen: list[DataFile] = []
    rows = 0
    for file in files:
        rows += file.rows
        if rows > ROWS_MAX:
            break
        chosen.append(file)
    return chosen if len(chosen) > 1 else []


def _of(writer: TelemetryWriter, partition: tuple[str, int, str]) -> list[DataFile]:
    kind, hour, service = partition
    return writer.catalogue.files(kind=kind, hours=(hour, hour), services=[service])


def _expire(writer: TelemetryWriter, now: float) -> None:
    """Files of hours that are kept no longer count no more."""
    last = writer.oldest_us(now) // HOUR_US - 1
    old = writer.catalogue.files(hours=(0, last)) if last >= 0 else []
    if not old:
        return
    kept = writer.catalogue.files(hours=(last + 1, HOUR_MAX))
    if is_confirmed(old, kept, now, writer.keep_s):
        writer.doubts_the_clock = False
        writer.catalogue.apply(Change(states={file.id: REMOVED for file in old}), now)
    elif not writer.doubts_the_clock:
        writer.doubts_the_clock = True
        writer.warn(
            "telemetry: by the clock all is too old that came before a gap in the records; it"
            " stays until new records have come for a day"
        )


def is_confirmed(
    old: Sequence[DataFile], kept: Sequence[DataFile], now: float, keep_s: float
) -> bool:
    """Whether it is not the clock alone that says that old files are to be deleted.

    A clock that jumps forward makes a gap as long as records are kept. So does an installation that
    was off for so long; then records confirm the time when they have come for a day.
    """
    if not kept:
        return False
    first_us, newest_us = min(f.first_us for f in kept), max(f.last_us for f in old)
    if first_us - newest_us < keep_s * US_PER_S:
        return True
    return now - first_us / US_PER_S >= min(CONFIRM_S, keep_s / 2)


def _purge(writer: TelemetryWriter, now: float) -> bool:
    removed = writer.catalogue.files(state=REMOVED)
    ahead = [file for file in removed if file.since > now]
    if ahead:  # the clock was set back: they have the whole while before them
        writer.catalogue.apply(Change(states={file.id: REMOVED for file in ahead}), now)
    due = [file for file in removed if now - file.since >= GRACE_S]
    for file in due[:PURGED_AT_ONCE]:
        writer.folder.remove(file.place)
    if due:
        purged = [file.id for file in due[:PURGED_AT_ONCE]]
        writer.catalogue.apply(Change(purged=purged), now)
    return len(due) > PURGED_AT_ONCE
