"""What is known of releases by their probes."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, select, update

from fairlead.domain.errors import Conflict
from fairlead.store.database import Database, as_rows
from fairlead.store.probes import ProbesRow
from fairlead.store.rows import EventRow
from fairlead.store.schema import events as events_table
from fairlead.store.schema import probes

_EVENT = ("at", "kind", "message", "service", "rollout", "data")


class SqlProbes:
    """Implements `ProbeStore`."""

    _db: Database

    def commit_probes(
        self, row: ProbesRow, *, expected_version: int, events: Sequence[EventRow] = ()
    ) -> None:
        (given,) = as_rows([row], ProbesRow.__struct_fields__)
        values = {**given, "version": expected_version + 1}
        c = probes.c
        mine = (c.service == row.service) & (c.release == row.release)
        with self._db.writing(f"keeping probes of {row.service}") as connection:
            kept = connection.execute(select(c.version).where(mine)).scalar()
            if (kept or 0) != expected_version:
                raise Conflict(
                    f"probes of {row.service}: changed by someone else since version "
                    f"{expected_version}",
                    hint="read them again",
                )
            statement = insert(probes) if kept is None else update(probes).where(mine)
            connection.execute(statement.values(values))
            if events:
                connection.execute(insert(events_table), as_rows(events, _EVENT))

    def probes(self) -> list[ProbesRow]:
        query = select(probes).order_by(probes.c.service, probes.c.updated_at, probes.c.release)
        with self._db.reading("reading probes") as connection:
            return [ProbesRow(*row) for row in connection.execute(query)]
