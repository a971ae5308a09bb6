"""The migrations of the PostgreSQL store, as Alembic reads them."""
