"""Which guardrails a request hit, and which of them ended it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of records that are there nothing of it is known."""
    hits = sa.Column("guardrail_hits", sa.BigInteger(), nullable=False, server_default="-1")
    op.add_column("records", hits)
    for name in ("guardrails", "blocked_by"):
        op.add_column("records", sa.Column(name, sa.Text(), nullable=False, server_default=""))
