"""Services, rollouts, events."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, case, func, insert, select, update

from fairlead.domain.errors import Conflict, NotFound
from fairlead.store.database import Database, as_rows
from fairlead.store.rows import EventRow, RolloutRow, ServiceRow
from fairlead.store.schema import events, rollouts, services

_EVENT = ("at", "kind", "message", "service", "rollout", "data")
_ROLLOUT = RolloutRow.__struct_fields__


class SqlRollouts:
    """Implements `RolloutStore`."""

    _db: Database

    def put_service(self, name: str, spec: bytes, at: float) -> None:
        statement = self._db.insert(services).values(name=name, spec=spec, updated_at=at)
        with self._db.writing(f"keeping service {name}") as connection:
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["name"], set_={"spec": spec, "updated_at": at}
                )
            )

    def service(self, name: str) -> ServiceRow | None:
        with self._db.reading(f"reading service {name}") as connection:
            row = connection.execute(select(services).where(services.c.name == name)).first()
        return None if row is None else ServiceRow(*row)

    def services(self) -> list[ServiceRow]:
        with self._db.reading("reading services") as connection:
            rows = connection.execute(select(services).order_by(services.c.name)).all()
        return [ServiceRow(*row) for row in rows]

    def set_champion(
        self, service: str, champion: str | None, at: float, events: Sequence[EventRow] = ()
    ) -> None:
        with self._db.writing(f"changing the champion of {service}") as connection:
            _set_champion(connection, service, champion, at)
            _add_events(connection, events)

    def commit_rollout(
        self,
        rollout: RolloutRow,
        *,
        expected_version: int,
        events: Sequence[EventRow] = (),
        service: ServiceRow | None = None,
        followed_by: RolloutRow | None = None,
    ) -> None:
        with self._db.writing(f"keeping rollout {rollout.id}") as connection:
            _save_rollout(connection, rollout, expected_version)
            if followed_by is not None:
                _save_rollout(connection, followed_by, 0)
            if service is not None:
                _save_service(connection, service)
            _add_events(connection, events)

    def rollout(self, rollout_id: str) -> RolloutRow | None:
        with self._db.reading(f"reading rollout {rollout_id}") as connection:
            row = connection.execute(select(rollouts).where(rollouts.c.id == rollout_id)).first()
        return None if row is None else RolloutRow(*row)

    def rollouts(
        self,
        service: str | None = None,
        *,
        active: bool | None = None,
        state: str | None = None,
        limit: int = 100,
    ) -> list[RolloutRow]:
        query = select(rollouts).order_by(rollouts.c.created_at.desc(), rollouts.c.id.desc())
        if service is not None:
            query = query.where(rollouts.c.service == service)
        if active is not None:
            query = query.where(rollouts.c.active.is_(active))
        if state is not None:
            query = query.where(rollouts.c.state == state)
        with self._db.reading("reading rollouts") as connection:
            rows = connection.execute(query.limit(limit)).all()
        return [RolloutRow(*row) for row in rows]

    def count_rollouts(self) -> dict[tuple[str, str], int]:
        by = (rollouts.c.service, rollouts.c.state)
        query = select(*by, func.count()).group_by(*by)
        with self._db.reading("counting rollouts") as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(query)}

    def add_events(self, events: Sequence[EventRow]) -> None:
        if events:
            with self._db.writing("keeping events") as connection:
                _add_events(connection, events)

    def events(
        self,
        service: str | None = None,
        rollout: str | None = None,
        *,
        after_id: int = 0,
        limit: int = 100,
        newest: bool = False,
    ) -> list[EventRow]:
        order = events.c.id.desc() if newest else events.c.id
        query = select(events).order_by(order)
        query = query.where(events.c.id > after_id)
        if service is not None:
            query = query.where(events.c.service == service)
        if rollout is not None:
            query = query.where(events.c.rollout == rollout)
        with self._db.reading("reading events") as connection:
            found = [
                EventRow(
                    at=row.at,
                    kind=row.kind,
                    message=row.message,
                    service=row.service,
                    rollout=row.rollout,
                    data=row.data,
                    id=row.id,
                )
                for row in connection.execute(query.limit(limit))
            ]
        return found[::-1] if newest else found


def _save_rollout(connection: Connection, rollout: RolloutRow, expected_version: int) -> None:
    values = {**as_rows([rollout], _ROLLOUT)[0], "version": expected_version + 1}
    _require_service(connection, rollout.service)
    _require_only_active(connection, rollout)
    if expected_version == 0:
        taken = select(rollouts.c.version).where(rollouts.c.id == rollout.id)
        if connection.execute(taken).first() is not None:
            raise Conflict(f"rollout {rollout.id} exists already")
        connection.execute(insert(rollouts).values(values))
        return
    result = connection.execute(
        update(rollouts)
        .where(rollouts.c.id == rollout.id, rollouts.c.version == expected_version)
        .values(values)
    )
    if result.rowcount != 1:
        raise Conflict(
            f"rollout {rollout.id} was changed by someone else since version {expected_version}",
            hint="read it again",
        )


def _require_service(connection: Connection, name: str) -> None:
    if connection.execute(select(services.c.name).where(services.c.name == name)).first() is None:
        raise NotFound(f"there is no service {name}")


def _require_only_active(connection: Connection, rollout: RolloutRow) -> None:
    """A clear message for what the unique index would refuse anyhow."""
    if not rollout.active:
        return
    other = connection.execute(
        select(rollouts.c.id).where(
            rollouts.c.service == rollout.service,
            rollouts.c.active.is_(True),
            rollouts.c.id != rollout.id,
        )
    ).scalar()
    if other is not None:
        raise Conflict(
            f"service {rollout.service} has an active rollout already: {other}",
            hint="wait for its end, or abort it",
        )


def _save_service(connection: Connection, service: ServiceRow) -> None:
    values = {
        "spec": service.spec,
        "champion": service.champion,
        "previous": service.previous,
        "updated_at": service.updated_at,
    }
    connection.execute(update(services).where(services.c.name == service.name).values(values))


def _set_champion(connection: Connection, service: str, champion: str | None, at: float) -> None:
    changes = services.c.champion.is_distinct_from(champion)
    result = connection.execute(
        update(services)
        .where(services.c.name == service)
        .values(
            previous=case((changes, services.c.champion), else_=services.c.previous),
            champion=champion,
            updated_at=at,
        )
    )
    if result.rowcount != 1:
        raise NotFound(f"there is no service {service}")


def _add_events(connection: Connection, added: Sequence[EventRow]) -> None:
    if added:
        connection.execute(insert(events), as_rows(added, _EVENT))
