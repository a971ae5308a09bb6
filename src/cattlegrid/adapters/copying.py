"""Copies a journal from one database to another, row by row and whole: from SQLite to PostgreSQL, and back.

Numbers and positions stay what they are, so that whoever reads the feed goes on where it was. The target's rows appear in
one transaction. Leases are not copied: nobody may hold one. Loaded only to copy: it needs SQLAlchemy.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine, Table, func, insert, select, text

from cattlegrid.adapters.postgres import migrate as postgres
from cattlegrid.adapters.postgres.connections import conninfo_of
from cattlegrid.adapters.sqlite import migrate as sqlite
from cattlegrid.adapters.tables import METADATA
from cattlegrid.core.errors import ConfigurationError, IntegrityError

_AT_ONCE: Final = 500
_NUMBERED: Final = {"heads": "id", "events": "position", "owners": "id", "bodies": "id", "inbox": "position"}
_PASSING: Final = frozenset({"last_ping_us"})
"""Settings that say nothing about the journal."""


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows of each table were copied."""

    rows: dict[str, int]


def copy(source: str, target: str, *, progress: Callable[[int, int], None]) -> Copied:
    """Copy everything. Blocks; for a thread, or a command.

    Args:
        source: the path of a file, or the URL of a PostgreSQL database; both are journals of this version.
        target: the same, of a journal with nothing in it.
        progress: told rows copied, and rows in all.

    Raises:
        ConfigurationError: a server is at work on the source, or the target is not empty.
        IntegrityError: the target does not hold what the source does.
        sqlalchemy.exc.SQLAlchemyError: the database's own.
    """
    from_engine, to_engine = _engine(source), _engine(target)
    try:
        with from_engine.begin() as reading, to_engine.begin() as writing:
            _enter(reading)
            _enter(writing)
            _refuse_when_at_work(reading, source)
            _refuse_when_used(writing, target)
            counts = {name: _count(reading, table) for name, table in METADATA.tables.items()}
            total, done = sum(counts.values()), 0
            for table in METADATA.tables.values():
                for rows in _rows(reading, table):
                    writing.execute(insert(table), rows)
                    done += len(rows)
                    progress(done, total)
            _count_on(writing)
            copied = {name: _count(writing, table) for name, table in METADATA.tables.items()}
            if counts != copied or _heads(reading) != _heads(writing):
                detail = f"{counts} were to be copied, {copied} were"
                raise IntegrityError("The copy is not what the source is; nothing was kept.", detail=detail)
    finally:
        from_engine.dispose()
        to_engine.dispose()
    return Copied(rows=copied)


def _engine(place: str) -> Engine:
    return postgres.engine_of(conninfo_of(place)) if "://" in place else sqlite.engine_of(Path(place))


def _enter(connection: Connection) -> None:
    """Work on the journal's tables, and on one state of them."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        connection.execute(text("SET LOCAL search_path TO cattlegrid"))


def _refuse_when_at_work(reading: Connection, source: str) -> None:
    heads = METADATA.tables["heads"]
    held = select(func.count()).where(heads.c.lease_until_us > time.time() * 1_000_000)
    count = reading.execute(held).scalar_one()
    if count:
        where = "the database" if "://" in source else source
        raise ConfigurationError(
            "A server is at work on this journal: stop it, then copy. What it writes meanwhile would be lost.",
            detail=f"{count} leases of {where} have not ended",
        )


def _refuse_when_used(writing: Connection, target: str) -> None:
    settings = METADATA.tables["settings"]
    writing.execute(settings.delete().where(settings.c.name.in_(_PASSING)))
    used = [name for name, table in METADATA.tables.items() if _count(writing, table)]
    if used:
        where = "the database" if "://" in target else target
        raise ConfigurationError(
            "There is a journal already: copy to an empty one.", detail=f"{where}: {used}"
        )


def _count(connection: Connection, table: Table) -> int:
    query = select(func.count()).select_from(table)
    if table.name == "settings":
        query = query.where(table.c.name.not_in(_PASSING))
    return connection.execute(query).scalar_one()


def _rows(reading: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    """The rows of a table in pages, with leases given back."""
    query = select(table).order_by(*table.primary_key.columns)
    if table.name == "settings":
        query = query.where(table.c.name.not_in(_PASSING))
    found = reading.execution_options(yield_per=_AT_ONCE).execute(query)
    for page in found.mappings().partitions(_AT_ONCE):
        rows = [dict(row) for row in page]
        if table.name == "heads":
            rows = [{**row, "holder": "", "lease_until_us": None} for row in rows]
        yield rows


def _count_on(writing: Connection) -> None:
    """Have numbers that are given out from now on follow those that were copied."""
    if writing.dialect.name != "postgresql":
        return
    for table, column in _NUMBERED.items():
        last = f"(SELECT max({column}) FROM {table})"  # noqa: S608 - the names are our own
        sequence = f"pg_get_serial_sequence('cattlegrid.{table}', '{column}')"
        writing.execute(text(f"SELECT setval({sequence}, coalesce({last}, 1), {last} IS NOT NULL)"))


def _heads(connection: Connection) -> Sequence[Any]:
    heads = METADATA.tables["heads"]
    query = select(heads.c.stream, heads.c.epoch, heads.c.seq, heads.c.hash).order_by(heads.c.id)
    return [tuple(row) for row in connection.execute(query)]
