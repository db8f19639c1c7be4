"""Of which stratum of risk a request was."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of records that are there it is not known."""
    stratum = sa.Column("stratum", sa.BigInteger(), nullable=False, server_default="-1")
    op.add_column("records", stratum)
