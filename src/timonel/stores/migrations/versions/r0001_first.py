"""The first tables: events, generation, versions, runs and their steps, segments and exports."""

import sqlalchemy as sa
from alembic import op

revision = "r0001"
down_revision = None


def upgrade() -> None:
    """Make the tables, with generation 0."""
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("before", sa.String),
        sa.Column("after", sa.String),
        sa.Column("evidence", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_subject", "events", ["subject", "id"])
    op.create_index("events_at", "events", ["at"])

    generation = op.create_table(
        "generation",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("value", sa.Integer, nullable=False),
    )
    op.bulk_insert(generation, [{"id": 1, "value": 0}])

    op.create_table(
        "versions",
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("run_id", sa.String),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
    champion = sa.text("state = 'champion'")
    op.create_index(
        "one_champion",
        "versions",
        ["project", "model"],
        unique=True,
        sqlite_where=champion,
        postgresql_where=champion,
    )

    op.create_table(
        "runs",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("project", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("parameters", sa.JSON, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("started", sa.Float, nullable=False),
        sa.Column("beat", sa.Float, nullable=False),
        sa.Column("finished", sa.Float),
    )
    op.create_index("runs_project", "runs", ["project", "started"])
    running = sa.text("status = 'running'")
    op.create_index(
        "one_running",
        "runs",
        ["project"],
        unique=True,
        sqlite_where=running,
        postgresql_where=running,
    )

    op.create_table(
        "steps",
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("key", sa.String),
        sa.Column("output", sa.JSON),
        sa.Column("note", sa.String),
        sa.Column("share", sa.Float),
        sa.Column("started", sa.Float, nullable=False),
        sa.Column("changed", sa.Float, nullable=False),
    )
    op.create_index("steps_key", "steps", ["key", "changed"])

    op.create_table(
        "segments",
        sa.Column("source", sa.String, primary_key=True),
        sa.Column("project", sa.String, primary_key=True),
        sa.Column("object_key", sa.String, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("first_id", sa.String, nullable=False),
        sa.Column("last_id", sa.String, nullable=False),
        sa.Column("first_time", sa.Float, nullable=False),
        sa.Column("last_time", sa.Float, nullable=False),
        sa.Column("added", sa.Float, nullable=False),
    )
    op.create_index("segments_time", "segments", ["project", "first_time"])

    op.create_table(
        "exports",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("offset", sa.Integer, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_index("one_export", "exports", ["name", "source"], unique=True)
    op.create_index("exports_name", "exports", ["name", "id"])
