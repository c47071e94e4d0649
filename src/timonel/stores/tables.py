"""The database's tables, as queries see them; `migrations` is what makes them.

Times are float seconds since 1970, UTC. The indexes called `one_…` are promises that no code can
break: one champion a model, one running run a project, one valid key a name, one export of a
source.
"""

from sqlalchemy import (
    JSON,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    text,
)

__all__ = [
    "aliases",
    "checks",
    "decisions",
    "events",
    "exports",
    "generation",
    "keys",
    "labels",
    "leases",
    "metadata",
    "rollouts",
    "runs",
    "segments",
    "steps",
    "versions",
]

metadata = MetaData()

_CHAMPION = text("state = 'champion'")
_RUNNING = text("status = 'running'")
_ACTIVE = text("state IN ('running', 'paused', 'watching')")
_VALID = text("revoked IS NULL")

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("who", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("before", String),
    Column("after", String),
    Column("evidence", JSON, nullable=False),
    Index("events_subject", "subject", "id"),
    Index("events_at", "at"),
    sqlite_autoincrement=True,
)

generation = Table(
    "generation",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", Integer, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("project", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("run_id", String),
    Column("reason", String, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("created", Float, nullable=False),
    Index(
        "one_champion",
        "project",
        "model",
        unique=True,
        sqlite_where=_CHAMPION,
        postgresql_where=_CHAMPION,
    ),
)

aliases = Table(
    "aliases",
    metadata,
    Column("project", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("number", Integer),
    Column("at", Float, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False),
    Column("status", String, nullable=False),
    Column("who", String, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("host", String, nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("reason", String),
    Column("started", Float, nullable=False),
    Column("beat", Float, nullable=False),
    Column("finished", Float),
    Index("runs_project", "project", "started"),
    Index(
        "one_running",
        "project",
        unique=True,
        sqlite_where=_RUNNING,
        postgresql_where=_RUNNING,
    ),
)

steps = Table(
    "steps",
    metadata,
    Column("run_id", String, ForeignKey("runs.id"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("status", String, nullable=False),
    Column("key", String),
    Column("output", JSON(none_as_null=True)),
    Column("note", String),
    Column("share", Float),
    Column("started", Float, nullable=False),
    Column("changed", Float, nullable=False),
    Index("steps_key", "key", "changed"),
)

segments = Table(
    "segments",
    metadata,
    Column("source", String, primary_key=True),
    Column("project", String, primary_key=True),
    Column("object_key", String, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("first_id", String, nullable=False),
    Column("last_id", String, nullable=False),
    Column("first_time", Float, nullable=False),
    Column("last_time", Float, nullable=False),
    Column("added", Float, nullable=False),
    Index("segments_time", "project", "first_time"),
)

exports = Table(
    "exports",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String, nullable=False),
    Column("source", String, nullable=False),
    Column("offset", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Index("one_export", "name", "source", unique=True),
    Index("exports_name", "name", "id"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("former", String),
    Column("former_until", Float),
    Column("scopes", JSON, nullable=False),
    Column("projects", JSON(none_as_null=True)),
    Column("rate", Integer),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("revoked", Float),
    Index("one_key", "name", unique=True, sqlite_where=_VALID, postgresql_where=_VALID),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String, primary_key=True),
    Column("project", String, nullable=False),
    Column("model", String, nullable=False),
    Column("challenger", Integer, nullable=False),
    Column("champion", Integer, nullable=False),
    Column("plan", JSON, nullable=False),
    Column("state", String, nullable=False),
    Column("step", Integer, nullable=False),
    Column("share", Float, nullable=False),
    Column("mirror", Float, nullable=False),
    Column("who", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("started", Float, nullable=False),
    Column("since", Float, nullable=False),
    Column("finished", Float),
    Index("rollouts_project", "project", "started"),
    Index(
        "one_rollout",
        "project",
        "model",
        unique=True,
        sqlite_where=_ACTIVE,
        postgresql_where=_ACTIVE,
    ),
)

labels = Table(
    "labels",
    metadata,
    Column("project", String, primary_key=True),
    Column("prediction", String, primary_key=True),
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("label", String, nullable=False),
    Column("at", Float, nullable=False),
    Index("labels_at", "project", "at"),
)

checks = Table(
    "checks",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", String, nullable=False),
    Column("model", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("at", Float, nullable=False),
    Column("first_time", Float, nullable=False),
    Column("last_time", Float, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("verdict", String, nullable=False),
    Column("sentence", String, nullable=False),
    Column("detail", JSON, nullable=False),
    Index("one_check", "project", "model", "kind", "last_time", unique=True),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", String, nullable=False),
    Column("at", Float, nullable=False),
    Column("act", String, nullable=False),
    Column("sentence", String, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("run_id", String),
    Index("decisions_project", "project", "at"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("until", Float, nullable=False),
)
