"""What is declared and used of limits."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select

from fairlead.domain.quota import UseRow
from fairlead.store.database import Database, as_rows
from fairlead.store.keys import QuotaRow
from fairlead.store.schema import quota_use, quotas


class SqlQuotas:
    """Implements the part of `KeyStore` on limits."""

    _db: Database

    def put_quota(self, quota: QuotaRow) -> None:
        (values,) = as_rows([quota], QuotaRow.__struct_fields__)
        statement = self._db.insert(quotas).values(**values)
        with self._db.writing(f"keeping limits of {quota.scope} {quota.subject}") as connection:
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["scope", "subject"],
                    set_={"tenant": quota.tenant, "document": quota.document},
                )
            )

    def quotas(self) -> list[QuotaRow]:
        query = select(quotas).order_by(quotas.c.scope, quotas.c.subject)
        with self._db.reading("reading limits") as connection:
            return [QuotaRow(*row) for row in connection.execute(query)]

    def put_quota_use(self, rows: Sequence[UseRow], now: float) -> None:
        statement = self._db.insert(quota_use)
        with self._db.writing("keeping the use of limits") as connection:
            connection.execute(delete(quota_use).where(quota_use.c.ends_at < now))
            if rows:
                connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["limit", "start", "seat"],
                        set_={"used": statement.excluded.used},
                    ),
                    as_rows(rows, UseRow.__struct_fields__),
                )

    def quota_use(self, now: float) -> list[UseRow]:
        query = select(quota_use).where(quota_use.c.ends_at >= now)
        with self._db.reading("reading the use of limits") as connection:
            return [UseRow(*row) for row in connection.execute(query)]
