"""Keys of the HTTP API: who may ask, of what, and how often."""

import sqlalchemy as sa
from alembic import op

revision = "r0003"
down_revision = "r0002"


def upgrade() -> None:
    """Make the table, empty."""
    op.create_table(
        "keys",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("former", sa.String),
        sa.Column("former_until", sa.Float),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("projects", sa.JSON),
        sa.Column("rate", sa.Integer),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("expires", sa.Float),
        sa.Column("revoked", sa.Float),
    )
    named = sa.text("revoked IS NULL")
    op.create_index(
        "one_key", "keys", ["name"], unique=True, sqlite_where=named, postgresql_where=named
    )
