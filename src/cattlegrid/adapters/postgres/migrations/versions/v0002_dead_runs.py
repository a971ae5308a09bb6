"""Runs that were given up are among the entries that wait for something, and are found as quickly."""

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"

_LIVE = "status IN ('open', 'running', 'held', 'dead', 'pending', 'in_doubt')"


def upgrade() -> None:
    """Make the small index anew."""
    op.drop_index("entries_live", "entries")
    op.create_index("entries_live", "entries", ["kind", "status", "id"], postgresql_where=text(_LIVE))
