"""The first schema."""

from alembic import op
from sqlalchemy import BLOB, Column, Integer, PrimaryKeyConstraint, Text, UniqueConstraint, text

revision = "0001"
down_revision = None

_LIVE = "status IN ('open', 'running', 'held', 'pending', 'in_doubt')"
_NO_TEXT = text("''")
_ZERO = text("0")


def upgrade() -> None:
    """Make every table."""
    _make_streams()
    _make_bodies()
    _make_directory()
    _make_inbox()


def _make_streams() -> None:
    op.create_table(
        "heads",
        Column("id", Integer, primary_key=True),
        Column("stream", Text, nullable=False),
        Column("epoch", Integer, nullable=False, server_default=_ZERO),
        Column("seq", Integer, nullable=False, server_default=_ZERO),
        Column("hash", BLOB, nullable=False),
        Column("holder", Text, nullable=False, server_default=_NO_TEXT),
        Column("lease_until_us", Integer),
        UniqueConstraint("stream", name="heads_stream"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "events",
        Column("position", Integer, primary_key=True),
        Column("stream_id", Integer, nullable=False),
        Column("seq", Integer, nullable=False),
        Column("run_id", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("at_us", Integer, nullable=False),
        Column("data", BLOB, nullable=False),
        Column("prev_hash", BLOB, nullable=False),
        Column("hash", BLOB, nullable=False),
        UniqueConstraint("stream_id", "seq", name="events_seq"),
    )


def _make_bodies() -> None:
    op.create_table(
        "owners",
        Column("id", Integer, primary_key=True),
        Column("owner", Text, nullable=False),
        Column("wrapped", BLOB),
        Column("created_us", Integer, nullable=False, server_default=_ZERO),
        UniqueConstraint("owner", name="owners_owner"),
    )
    op.create_table(
        "bodies",
        Column("id", Integer, primary_key=True),
        Column("owner_id", Integer, nullable=False),
        Column("digest", Text, nullable=False),
        Column("sealed", BLOB, nullable=False),
        Column("stream_id", Integer, nullable=False, server_default=_ZERO),
        Column("shared", Integer, nullable=False, server_default=_ZERO),
        UniqueConstraint("owner_id", "digest", name="bodies_digest"),
    )


def _make_directory() -> None:
    op.create_table(
        "entries",
        Column("kind", Text, nullable=False),
        Column("id", Text, nullable=False),
        Column("stream", Text, nullable=False),
        *(
            Column(name, Text, nullable=False, server_default=_NO_TEXT)
            for name in ("tenant", "owner", "agent", "status", "ref", "digest")
        ),
        *(
            Column(name, Integer, nullable=False, server_default=_ZERO)
            for name in ("due_us", "created_us", "updated_us")
        ),
        PrimaryKeyConstraint("kind", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index("entries_live", "entries", ["kind", "status", "id"], sqlite_where=text(_LIVE))
    op.create_index("entries_owner", "entries", ["owner", "kind", "id"])
    op.create_table(
        "settings",
        Column("name", Text, nullable=False),
        Column("value", Text, nullable=False),
        PrimaryKeyConstraint("name"),
        sqlite_with_rowid=False,
    )


def _make_inbox() -> None:
    op.create_table(
        "inbox",
        Column("position", Integer, primary_key=True),
        Column("id", Text, nullable=False),
        Column("stream", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("data", BLOB),
        Column("at_us", Integer, nullable=False, server_default=_ZERO),
        UniqueConstraint("id", name="inbox_id"),
        UniqueConstraint("stream", "key", name="inbox_key"),
    )
    op.create_index("inbox_waiting", "inbox", ["stream", "position"], sqlite_where=text("data IS NOT NULL"))
