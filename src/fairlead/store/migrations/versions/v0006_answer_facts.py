"""What an answer cost, whether it refused, and whether it was the JSON that was asked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of records that are there nothing of it is known."""
    op.add_column("records", sa.Column("cost_usd", sa.Float(), nullable=False, server_default="-1"))
    for name in ("refused", "malformed"):
        column = sa.Column(name, sa.BigInteger(), nullable=False, server_default="-1")
        op.add_column("records", column)
