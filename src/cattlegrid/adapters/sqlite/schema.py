"""The tables, as SQLAlchemy metadata: what migrations are compared with, and what `schema.sql` is rendered from.

`schema.sql` creates a fresh database without loading SQLAlchemy. A test proves that it, this metadata, and the sum of
the migrations are the same.
"""

from pathlib import Path
from typing import Final

from sqlalchemy import BLOB, Column, Index, Integer, MetaData, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

METADATA: Final = MetaData()
SCHEMA_FILE: Final = Path(__file__).with_name("schema.sql")

LIVE: Final = "status IN ('open', 'running', 'held', 'pending', 'in_doubt')"
"""The condition of the small index over entries that still wait for something."""


def _text(name: str, *, default: str | None = "") -> Column[str]:
    return Column(
        name, Text, nullable=False, server_default=None if default is None else text(f"'{default}'")
    )


def _number(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=text("0"))


Table(
    "heads",
    METADATA,
    Column("id", Integer, primary_key=True),
    _text("stream", default=None),
    _number("epoch"),
    _number("seq"),
    Column("hash", BLOB, nullable=False),
    _text("holder"),
    Column("lease_until_us", Integer),
    UniqueConstraint("stream", name="heads_stream"),
    comment="Where each stream ends and who may write to it.",
    sqlite_autoincrement=True,
)
Table(
    "events",
    METADATA,
    Column("position", Integer, primary_key=True),
    Column("stream_id", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    _text("run_id", default=None),
    _text("type", default=None),
    Column("at_us", Integer, nullable=False),
    Column("data", BLOB, nullable=False),
    Column("prev_hash", BLOB, nullable=False),
    Column("hash", BLOB, nullable=False),
    UniqueConstraint("stream_id", "seq", name="events_seq"),
    comment="All events in commit order. Positions are never used again.",
)
Table(
    "owners",
    METADATA,
    Column("id", Integer, primary_key=True),
    _text("owner", default=None),
    Column("wrapped", BLOB),
    _number("created_us"),
    UniqueConstraint("owner", name="owners_owner"),
    comment="Keys of users, wrapped; bundles have none.",
)
Table(
    "bodies",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("owner_id", Integer, nullable=False),
    _text("digest", default=None),
    Column("sealed", BLOB, nullable=False),
    _number("stream_id"),
    _number("shared"),
    UniqueConstraint("owner_id", "digest", name="bodies_digest"),
    comment="Sealed texts. `stream_id` brought a body first, 0 for none; `shared` when another stream brought it too.",
)
Table(
    "entries",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
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
    Index("entries_live", "kind", "status", "id", sqlite_where=text(LIVE)),
    comment="The directory of sessions, runs, approvals and idempotency keys.",
    sqlite_with_rowid=False,
)
Table(
    "inbox",
    METADATA,
    Column("position", Integer, primary_key=True),
    _text("id", default=None),
    _text("stream", default=None),
    _text("key", default=None),
    Column("data", BLOB),
    _number("at_us"),
    UniqueConstraint("id", name="inbox_id"),
    UniqueConstraint("stream", "key", name="inbox_key"),
    Index("inbox_waiting", "stream", "position", sqlite_where=text("data IS NOT NULL")),
    comment="What writers shall fold in; `data` is NULL once they have.",
)
Table(
    "settings",
    METADATA,
    Column("name", Text, primary_key=True),
    _text("value", default=None),
    comment="Small settings of the store itself.",
    sqlite_with_rowid=False,
)


def statements() -> list[str]:
    """The SQL that makes every table and index, in a fixed order."""
    dialect = sqlite.dialect()
    made: list[str] = []
    for table in METADATA.tables.values():
        made.append(str(CreateTable(table).compile(dialect=dialect)).strip())
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        made.extend(str(CreateIndex(index).compile(dialect=dialect)).strip() for index in indexes)
    return ["\n".join(line.rstrip() for line in statement.splitlines()) for statement in made]


def render() -> str:
    """The text of `schema.sql`."""
    return (
        "-- Rendered from schema.py; a test says when it is stale.\n\n" + ";\n\n".join(statements()) + ";\n"
    )


if __name__ == "__main__":
    SCHEMA_FILE.write_text(render(), encoding="utf-8")
