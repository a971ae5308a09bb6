"""Renders `schema.sql` from the tables' metadata: the text that creates a fresh database without loading SQLAlchemy.

A test proves that it, the metadata, and the sum of the migrations are the same.
"""

from pathlib import Path
from typing import Final

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from cattlegrid.adapters.tables import METADATA

SCHEMA_FILE: Final = Path(__file__).with_name("schema.sql")


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
