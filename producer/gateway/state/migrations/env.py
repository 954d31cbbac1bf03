"""alembic runs this for each command; the connection and its transaction are the gateway's."""

from __future__ import annotations

from alembic import context

_given = context.config.attributes
context.configure(
    connection=_given["connection"], target_metadata=_given["metadata"], transactional_ddl=True
)
with context.begin_transaction():
    context.run_migrations()
