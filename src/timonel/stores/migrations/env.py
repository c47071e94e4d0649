"""What Alembic runs: the revisions, in the transaction that `Database.open` has begun.

Revisions are called `rNNNN_…`, and rise. One only adds, and what it replaces goes one release
later: workers one release older run on the new tables.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
