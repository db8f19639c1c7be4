"""Samples of prompts and answers, and what a judge model said of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "samples",
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("id", "service", "key", "unit")),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("keep_until", sa.Float(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("is_cut", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_samples"),
    )
    op.create_index("ix_samples_service_at", "samples", ["service", "at", "id"], unique=False)
    op.create_index("ix_samples_keep_until", "samples", ["keep_until"], unique=False)
    op.create_index("ix_samples_key", "samples", ["key"], unique=False)
    op.create_table(
        "judgements",
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("rollout", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("usd", sa.Float(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("request", name="pk_judgements"),
    )
    op.create_index("ix_judgements_service_at", "judgements", ["service", "at"], unique=False)
    op.create_index("ix_judgements_rollout", "judgements", ["rollout"], unique=False)
