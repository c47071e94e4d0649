"""The version that MLflow's marks were last put on, a row a model."""

import sqlalchemy as sa
from alembic import op

revision = "r0002"
down_revision = "r0001"


def upgrade() -> None:
    """Make the table, empty."""
    op.create_table(
        "aliases",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("number", sa.Integer),
        sa.Column("at", sa.Float, nullable=False),
    )
