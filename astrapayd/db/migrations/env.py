"""Alembic's entry: migrates over the connection that :func:`astrapayd.db.migrate.upgrade` hands in."""

from alembic import context

from astrapayd.db.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
)
with context.begin_transaction():
    context.run_migrations()
