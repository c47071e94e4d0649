"""What the loop keeps: rollouts, labels, checks of windows, decisions on retraining, leases."""

import sqlalchemy as sa
from alembic import op

revision = "r0004"
down_revision = "r0003"

_ACTIVE = sa.text("state IN ('running', 'paused', 'watching')")


def upgrade() -> None:
    """Make the tables, empty."""
    op.create_table(
        "rollouts",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("challenger", sa.Integer, nullable=False),
        sa.Column("champion", sa.Integer, nullable=False),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("share", sa.Float, nullable=False),
        sa.Column("mirror", sa.Float, nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("started", sa.Float, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("finished", sa.Float),
    )
    op.create_index("rollouts_project", "rollouts", ["project", "started"])
    op.create_index(
        "one_rollout",
        "rollouts",
        ["project", "model"],
        unique=True,
        sqlite_where=_ACTIVE,
        postgresql_where=_ACTIVE,
    )
    op.create_table(
        "labels",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("prediction", sa.String, primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_index("labels_at", "labels", ["project", "at"])
    op.create_table(
        "checks",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("first_time", sa.Float, nullable=False),
        sa.Column("last_time", sa.Float, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("verdict", sa.String, nullable=False),
        sa.Column("sentence", sa.String, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
    )
    op.create_index("one_check", "checks", ["project", "model", "kind", "last_time"], unique=True)
    op.create_table(
        "decisions",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("act", sa.String, nullable=False),
        sa.Column("sentence", sa.String, nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("run_id", sa.String),
    )
    op.create_index("decisions_project", "decisions", ["project", "at"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("holder", sa.String, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
