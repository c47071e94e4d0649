"""What Alembic runs: the revisions, in the transaction that `Database.open` has begun."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
