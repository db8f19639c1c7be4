"""The store on SQL databases, by SQLAlchemy Core; one module per role of the interface."""

from __future__ import annotations

from fairlead.store.database import Database
from fairlead.store.sql.evaluation import SqlEvaluations
from fairlead.store.sql.figures import SqlFigures
from fairlead.store.sql.ingest import SqlIngest
from fairlead.store.sql.keys import SqlKeys
from fairlead.store.sql.probes import SqlProbes
from fairlead.store.sql.quotas import SqlQuotas
from fairlead.store.sql.records import SqlRecords
from fairlead.store.sql.rollouts import SqlRollouts
from fairlead.store.sql.samples import SqlSamples
from fairlead.store.sql.watching import SqlWatching


class SqlStore(
    SqlRollouts,
    SqlKeys,
    SqlQuotas,
    SqlEvaluations,
    SqlProbes,
    SqlIngest,
    SqlRecords,
    SqlFigures,
    SqlSamples,
    SqlWatching,
):
    """Implements `fairlead.store.interface.Store`. Safe for several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def close(self) -> None:
        self._db.close()
