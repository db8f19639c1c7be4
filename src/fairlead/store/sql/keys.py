"""API keys and settings."""

from __future__ import annotations

from sqlalchemy import BigInteger, Text, cast, insert, or_, select, update

from fairlead.domain.errors import Conflict, NotFound
from fairlead.store.database import Database, as_rows
from fairlead.store.keys import KeyRow
from fairlead.store.schema import keys, settings


class SqlKeys:
    """Implements `KeyStore`."""

    _db: Database

    def create_key(self, key: KeyRow) -> None:
        with self._db.writing(f"keeping key {key.name}") as connection:
            taken = select(keys.c.id).where(keys.c.name == key.name, keys.c.revoked_at.is_(None))
            if connection.execute(taken).first() is not None:
                raise Conflict(
                    f"there is a key named {key.name} already",
                    hint="choose another name, or revoke that key",
                )
            connection.execute(insert(keys), as_rows([key], KeyRow.__struct_fields__))

    def list_keys(self, *, revoked: bool = False) -> list[KeyRow]:
        query = select(keys).order_by(keys.c.created_at, keys.c.id)
        if not revoked:
            query = query.where(keys.c.revoked_at.is_(None))
        with self._db.reading("reading keys") as connection:
            return [KeyRow(*row) for row in connection.execute(query)]

    def revoke_key(self, id_or_name: str, at: float) -> KeyRow:
        named = or_(keys.c.id == id_or_name, keys.c.name == id_or_name)
        # An id wins over a name that looks like it.
        found = (
            select(keys)
            .where(named, keys.c.revoked_at.is_(None))
            .order_by((keys.c.id == id_or_name).desc())
        )
        with self._db.writing(f"revoking key {id_or_name}") as connection:
            row = connection.execute(found).first()
            if row is None:
                raise NotFound(f"no key in force has the id or name {id_or_name}")
            connection.execute(update(keys).where(keys.c.id == row.id).values(revoked_at=at))
        return KeyRow(row.id, row.name, row.sha256, row.created_at, at, row.priority)

    def get_setting(self, key: str) -> str | None:
        with self._db.reading(f"reading setting {key}") as connection:
            return connection.execute(
                select(settings.c.value).where(settings.c.key == key)
            ).scalar()

    def set_setting(self, key: str, value: str) -> None:
        statement = self._db.insert(settings).values(key=key, value=value)
        with self._db.writing(f"keeping setting {key}") as connection:
            connection.execute(
                statement.on_conflict_do_update(index_elements=["key"], set_={"value": value})
            )

    def setdefault_setting(self, key: str, value: str) -> str:
        statement = self._db.insert(settings).values(key=key, value=value)
        with self._db.writing(f"keeping setting {key}") as connection:
            connection.execute(statement.on_conflict_do_nothing(index_elements=["key"]))
            kept: str = connection.execute(
                select(settings.c.value).where(settings.c.key == key)
            ).scalar_one()
        return kept

    def next_number(self, key: str) -> int:
        following = cast(cast(settings.c.value, BigInteger) + 1, Text)
        statement = self._db.insert(settings).values(key=key, value="1")
        with self._db.writing(f"counting {key}") as connection:
            connection.execute(
                statement.on_conflict_do_update(index_elements=["key"], set_={"value": following})
            )
            value = connection.execute(
                select(settings.c.value).where(settings.c.key == key)
            ).scalar_one()
        return int(value)
