"""The tables. `migrations/` brings a database of any earlier version to this form."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeDecorator

HEAD = "0009"
"""The revision that this code works on; the newest of `migrations/versions`."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class JsonDocument(TypeDecorator[bytes]):
    """JSON that another room encoded: bytes in the program, text that people can query in SQL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Any) -> str | None:
        return None if value is None else value.decode()

    def process_result_value(self, value: str | None, dialect: Any) -> bytes | None:
        return None if value is None else value.encode()


# An INTEGER PRIMARY KEY is what SQLite numbers by itself; PostgreSQL gets a wide one.
_Serial = BigInteger().with_variant(Integer(), "sqlite")


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _float(name: str) -> Column[float]:
    return Column(name, Float, nullable=False)


def _integer(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _document(name: str) -> Column[bytes]:
    return Column(name, JsonDocument, nullable=False)


services = Table(
    "services",
    metadata,
    Column("name", Text, primary_key=True),
    _document("spec"),
    Column("champion", Text),
    Column("previous", Text),
    _float("updated_at"),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("service", Text, ForeignKey("services.name"), nullable=False),
    _text("release"),
    _text("name"),
    _text("state"),
    Column("active", Boolean, nullable=False),
    _float("created_at"),
    _float("updated_at"),
    _integer("version"),
    _document("document"),
    Index("ix_rollouts_service_created_at", "service", "created_at"),
    Index(
        "uq_rollouts_active",
        "service",
        unique=True,
        sqlite_where=text("active"),
        postgresql_where=text("active"),
    ),
)

events = Table(
    "events",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    _float("at"),
    _text("service"),
    _text("rollout"),
    _text("kind"),
    _text("message"),
    _document("data"),
    Index("ix_events_service_id", "service", "id"),
    Index("ix_events_rollout_id", "rollout", "id"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    _text("name"),
    _text("sha256"),
    _float("created_at"),
    Column("revoked_at", Float),
    Column("priority", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint("sha256"),
    Index(
        "uq_keys_name_in_force",
        "name",
        unique=True,
        sqlite_where=text("revoked_at IS NULL"),
        postgresql_where=text("revoked_at IS NULL"),
    ),
)

quotas = Table(
    "quotas",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("tenant", Text),
    _document("document"),
)

quota_use = Table(
    "quota_use",
    metadata,
    Column("limit", Text, primary_key=True),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("seat", Text, primary_key=True),
    _integer("used"),
    _float("ends_at"),
    Index("ix_quota_use_ends_at", "ends_at"),
)

settings = Table(
    "settings",
    metadata,
    Column("key", Text, primary_key=True),
    _text("value"),
)

case_results = Table(
    "case_results",
    metadata,
    Column("release", Text, primary_key=True),
    Column("scorer", Text, primary_key=True),
    Column("case_id", Text, primary_key=True),
    Column("score", Float),
    Column("error", Text),
    _text("answer"),
    _float("latency_ms"),
    _float("at"),
)

gate_results = Table(
    "gate_results",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    _text("rollout"),
    _text("release"),
    _text("gate"),
    _text("outcome"),
    _document("document"),
    _float("at"),
    Index("ix_gate_results_rollout", "rollout"),
    Index("ix_gate_results_release", "release"),
)

probes = Table(
    "probes",
    metadata,
    Column("service", Text, primary_key=True),
    Column("release", Text, primary_key=True),
    _float("updated_at"),
    _integer("version"),
    _document("document"),
)

records = Table(
    "records",
    metadata,
    Column("id", Text, primary_key=True),
    _text("service"),
    _text("release"),
    _text("arm"),
    _text("replica"),
    _text("key"),
    _text("unit"),
    _float("rho"),
    _text("rollout"),
    _integer("phase"),
    _text("endpoint"),
    Column("stream", Boolean, nullable=False),
    _integer("status"),
    _text("error"),
    _float("started_at"),
    _float("ttft_ms"),
    _float("itl_ms"),
    _float("duration_ms"),
    _integer("prompt_tokens"),
    _integer("completion_tokens"),
    _integer("attempts"),
    Column("cost_usd", Float, nullable=False, server_default="-1"),
    Column("refused", BigInteger, nullable=False, server_default="-1"),
    Column("malformed", BigInteger, nullable=False, server_default="-1"),
    Column("guardrail_hits", BigInteger, nullable=False, server_default="-1"),
    Column("guardrails", Text, nullable=False, server_default=""),
    Column("blocked_by", Text, nullable=False, server_default=""),
    Column("stratum", BigInteger, nullable=False, server_default="-1"),
    Index("ix_records_service_started_at", "service", "started_at", "id"),
    Index("ix_records_release_started_at", "release", "started_at", "id"),
    Index("ix_records_started_at", "started_at", "id"),
    # The judge reads in this order. Most requests come outside a rollout: they cost nothing here.
    Index(
        "ix_records_rollout_started_at",
        "rollout",
        "started_at",
        "id",
        sqlite_where=text("rollout <> ''"),
        postgresql_where=text("rollout <> ''"),
    ),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", Text, primary_key=True),
    _text("request"),
    _text("key"),
    _text("name"),
    _float("value"),
    _float("at"),
    Index("ix_feedback_request", "request"),
    Index("ix_feedback_at", "at"),
)

samples = Table(
    "samples",
    metadata,
    Column("id", Text, primary_key=True),
    _text("service"),
    _text("key"),
    _text("unit"),
    _float("at"),
    _float("keep_until"),
    _text("prompt"),
    _text("answer"),
    Column("is_cut", Boolean, nullable=False),
    Index("ix_samples_service_at", "service", "at", "id"),
    Index("ix_samples_keep_until", "keep_until"),
    Index("ix_samples_key", "key"),
)

# What a judge model said of a sample; it stays when the sample is deleted, but for its words.
judgements = Table(
    "judgements",
    metadata,
    Column("request", Text, primary_key=True),
    _text("service"),
    _text("rollout"),
    _text("outcome"),
    Column("score", Float),
    _text("reason"),
    _integer("attempts"),
    _float("usd"),
    _float("at"),
    Index("ix_judgements_service_at", "service", "at"),
    Index("ix_judgements_rollout", "rollout"),
)

spools = Table(
    "spools",
    metadata,
    Column("boot", Text, primary_key=True),
    _integer("segment"),
    _integer("offset"),
    _float("complete_until"),
    Column("closed", Boolean, nullable=False),
    _integer("broken"),
)

# What watching remembers: alerts, incidents, monitors, how far it has read; JSON by other rooms.
documents = Table(
    "documents",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    _document("document"),
)

# What promises are counted by: requests of a minute, and the bad ones of them (for cost: USD).
minutes = Table(
    "minutes",
    metadata,
    Column("service", Text, primary_key=True),
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("promise", Text, primary_key=True),
    _float("total"),
    _float("bad"),
    Index("ix_minutes_minute", "minute"),
)
