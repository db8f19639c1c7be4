"""A key has a priority."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keys that are there get the middle one."""
    op.add_column(
        "keys", sa.Column("priority", sa.BigInteger(), nullable=False, server_default="0")
    )
