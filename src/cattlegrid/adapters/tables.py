"""The tables of every store in a database, as SQLAlchemy metadata: what migrations are compared with, and copies use.

Both databases have the same tables with the same columns; what differs is said beside the type or the table that it
concerns. PostgreSQL orders and compares text byte by byte, as SQLite does.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeEngine

METADATA: Final = MetaData()

LIVE: Final = "status IN ('open', 'running', 'held', 'dead', 'pending', 'in_doubt')"
"""The condition of the small index over entries that still wait for something."""
WAITING: Final = "data IS NOT NULL"
"""The condition of the small index over inbox items that were not folded in."""

INTEGER: Final[TypeEngine[int]] = BigInteger().with_variant(Integer(), "sqlite")
TEXT: Final[TypeEngine[str]] = Text().with_variant(Text(collation="C"), "postgresql")
MOVING: Final = {"fillfactor": 70}
"""Room on each page of PostgreSQL for the next version of a row that changes often."""


def _text(name: str, *, default: str | None = "") -> Column[str]:
    return Column(
        name, TEXT, nullable=False, server_default=None if default is None else text(f"'{default}'")
    )


def _number(name: str) -> Column[int]:
    return Column(name, INTEGER, nullable=False, server_default=text("0"))


def _bytes(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


Table(
    "heads",
    METADATA,
    Column("id", INTEGER, primary_key=True),
    _text("stream", default=None),
    _number("epoch"),
    _number("seq"),
    _bytes("hash"),
    _text("holder"),
    Column("lease_until_us", INTEGER),
    UniqueConstraint("stream", name="heads_stream"),
    comment="Where each stream ends and who may write to it.",
    sqlite_autoincrement=True,
    postgresql_with=MOVING,
)
Table(
    "events",
    METADATA,
    Column("position", INTEGER, primary_key=True),
    Column("stream_id", INTEGER, nullable=False),
    Column("seq", INTEGER, nullable=False),
    _text("run_id", default=None),
    _text("type", default=None),
    Column("at_us", INTEGER, nullable=False),
    _bytes("data"),
    _bytes("prev_hash"),
    _bytes("hash"),
    UniqueConstraint("stream_id", "seq", name="events_seq"),
    comment="All events in commit order. Positions are never used again.",
)
Table(
    "owners",
    METADATA,
    Column("id", INTEGER, primary_key=True),
    _text("owner", default=None),
    Column("wrapped", LargeBinary),
    _number("created_us"),
    UniqueConstraint("owner", name="owners_owner"),
    comment="Keys of users, wrapped; bundles have none.",
)
Table(
    "bodies",
    METADATA,
    Column("id", INTEGER, primary_key=True),
    Column("owner_id", INTEGER, nullable=False),
    _text("digest", default=None),
    _bytes("sealed"),
    _number("stream_id"),
    _number("shared"),
    UniqueConstraint("owner_id", "digest", name="bodies_digest"),
    comment="Sealed texts. `stream_id` brought a body first, 0 for none; `shared` when another stream brought it too.",
)
Table(
    "entries",
    METADATA,
    Column("kind", TEXT, primary_key=True),
    Column("id", TEXT, primary_key=True),
    _text("stream", default=None),
    _text("tenant"),
    _text("owner"),
    _text("agent"),
    _text("status"),
    _text("ref"),
    _text("digest"),
    _number("due_us"),
    _number("created_us"),
    _number("updated_us"),
    Index("entries_owner", "owner", "kind", "id"),
    Index("entries_live", "kind", "status", "id", sqlite_where=text(LIVE), postgresql_where=text(LIVE)),
    comment="The directory of sessions, runs, approvals and idempotency keys.",
    sqlite_with_rowid=False,
    postgresql_with=MOVING,
)
Table(
    "inbox",
    METADATA,
    Column("position", INTEGER, primary_key=True),
    _text("id", default=None),
    _text("stream", default=None),
    _text("key", default=None),
    Column("data", LargeBinary),
    _number("at_us"),
    UniqueConstraint("id", name="inbox_id"),
    UniqueConstraint("stream", "key", name="inbox_key"),
    Index("inbox_waiting", "stream", "position", sqlite_where=text(WAITING), postgresql_where=text(WAITING)),
    comment="What writers shall fold in; `data` is NULL once they have.",
)
Table(
    "settings",
    METADATA,
    Column("name", TEXT, primary_key=True),
    _text("value", default=None),
    comment="Small settings of the store itself.",
    sqlite_with_rowid=False,
)
