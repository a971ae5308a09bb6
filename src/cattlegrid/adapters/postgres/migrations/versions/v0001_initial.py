"""The first schema: the tables, and the functions of the hot path, which write in one statement each."""

from pathlib import Path

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Identity,
    LargeBinary,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    text,
)

revision = "0001"
down_revision = None

_LIVE = "status IN ('open', 'running', 'held', 'pending', 'in_doubt')"
_NO_TEXT = text("''")
_ZERO = text("0")
_TEXT = Text(collation="C")


def upgrade() -> None:
    """Make every table and function."""
    _make_streams()
    _make_bodies()
    _make_directory()
    _make_inbox()
    functions = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # Several statements at once are only taken when no parameters are sent with them.
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(functions)


def _make_streams() -> None:
    op.create_table(
        "heads",
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("stream", _TEXT, nullable=False),
        Column("epoch", BigInteger, nullable=False, server_default=_ZERO),
        Column("seq", BigInteger, nullable=False, server_default=_ZERO),
        Column("hash", LargeBinary, nullable=False),
        Column("holder", _TEXT, nullable=False, server_default=_NO_TEXT),
        Column("lease_until_us", BigInteger),
        UniqueConstraint("stream", name="heads_stream"),
        postgresql_with={"fillfactor": 70},
        comment="Where each stream ends and who may write to it.",
    )
    op.create_table(
        "events",
        Column("position", BigInteger, Identity(), primary_key=True),
        Column("stream_id", BigInteger, nullable=False),
        Column("seq", BigInteger, nullable=False),
        Column("run_id", _TEXT, nullable=False),
        Column("type", _TEXT, nullable=False),
        Column("at_us", BigInteger, nullable=False),
        Column("data", LargeBinary, nullable=False),
        Column("prev_hash", LargeBinary, nullable=False),
        Column("hash", LargeBinary, nullable=False),
        UniqueConstraint("stream_id", "seq", name="events_seq"),
        comment="All events in commit order. Positions are never used again.",
    )


def _make_bodies() -> None:
    op.create_table(
        "owners",
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("owner", _TEXT, nullable=False),
        Column("wrapped", LargeBinary),
        Column("created_us", BigInteger, nullable=False, server_default=_ZERO),
        UniqueConstraint("owner", name="owners_owner"),
        comment="Keys of users, wrapped; bundles have none.",
    )
    op.create_table(
        "bodies",
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("owner_id", BigInteger, nullable=False),
        Column("digest", _TEXT, nullable=False),
        Column("sealed", LargeBinary, nullable=False),
        Column("stream_id", BigInteger, nullable=False, server_default=_ZERO),
        Column("shared", BigInteger, nullable=False, server_default=_ZERO),
        UniqueConstraint("owner_id", "digest", name="bodies_digest"),
        comment="Sealed texts. `stream_id` brought a body first, 0 for none; `shared` when another stream brought it too.",
    )


def _make_directory() -> None:
    op.create_table(
        "entries",
        Column("kind", _TEXT, nullable=False),
        Column("id", _TEXT, nullable=False),
        Column("stream", _TEXT, nullable=False),
        *(
            Column(name, _TEXT, nullable=False, server_default=_NO_TEXT)
            for name in ("tenant", "owner", "agent", "status", "ref", "digest")
        ),
        *(
            Column(name, BigInteger, nullable=False, server_default=_ZERO)
            for name in ("due_us", "created_us", "updated_us")
        ),
        PrimaryKeyConstraint("kind", "id"),
        postgresql_with={"fillfactor": 70},
        comment="The directory of sessions, runs, approvals and idempotency keys.",
    )
    op.create_index("entries_live", "entries", ["kind", "status", "id"], postgresql_where=text(_LIVE))
    op.create_index("entries_owner", "entries", ["owner", "kind", "id"])
    op.create_table(
        "settings",
        Column("name", _TEXT, nullable=False),
        Column("value", _TEXT, nullable=False),
        PrimaryKeyConstraint("name"),
        comment="Small settings of the store itself.",
    )


def _make_inbox() -> None:
    op.create_table(
        "inbox",
        Column("position", BigInteger, Identity(), primary_key=True),
        Column("id", _TEXT, nullable=False),
        Column("stream", _TEXT, nullable=False),
        Column("key", _TEXT, nullable=False),
        Column("data", LargeBinary),
        Column("at_us", BigInteger, nullable=False, server_default=_ZERO),
        UniqueConstraint("id", name="inbox_id"),
        UniqueConstraint("stream", "key", name="inbox_key"),
        comment="What writers shall fold in; `data` is NULL once they have.",
    )
    op.create_index(
        "inbox_waiting", "inbox", ["stream", "position"], postgresql_where=text("data IS NOT NULL")
    )
