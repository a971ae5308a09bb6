"""What operators do with the database of a journal as a whole: look whether it is fit, bring it up to date, copy it."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from cattlegrid.adapters.clock import SystemClock
from cattlegrid.adapters.sqlite.database import VERSION as SQLITE_VERSION
from cattlegrid.adapters.sqlite.journal import SqliteJournal
from cattlegrid.adapters.sqlite.ledger import ErasureLedger
from cattlegrid.adapters.stores import open_journal
from cattlegrid.core.errors import CattlegridError, ConfigurationError, NotFound, StoreUnavailable
from cattlegrid.journal.store import JournalStore
from cattlegrid.journal.verify import Progress, Report, verify

_SKEW_S: Final = 2.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    name: str
    ok: bool
    said: str


class Upgraded(msgspec.Struct, frozen=True, kw_only=True):
    """Versions of the schema, before and after."""

    before: int
    after: int


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a journal is: a PostgreSQL database, or a SQLite file when `url` is empty."""

    url: str = ""
    folder: Path
    """Where the file is, and the list of erasures."""
    name: str = "journal.db"

    @classmethod
    def of(cls, text: str, *, folder: Path) -> "Place":
        """The place that somebody has named: a URL, or the path of a file."""
        if "://" in text:
            return cls(url=text, folder=folder)
        path = Path(text).resolve()
        return cls(folder=path.parent, name=path.name)

    @property
    def file(self) -> Path:
        return self.folder / self.name

    @property
    def ledger(self) -> ErasureLedger:
        file = self.folder / "erasures.jsonl" if self.url else Path(f"{self.file}.erasures.jsonl")
        return ErasureLedger(file)

    async def open(self) -> JournalStore:
        """The journal. Raises StoreUnavailable, ConfigurationError."""
        if self.url:
            return await open_journal(url=self.url, folder=self.folder, clock=SystemClock(), durable=False)
        return await SqliteJournal.open(self.file, clock=SystemClock())


async def upgrade(place: Place) -> Upgraded:
    """Bring the schema up to date. Raises StoreUnavailable, ConfigurationError."""
    if not place.url:
        before = _file_version(place.file)
        await (await place.open()).close()
        return Upgraded(before=before, after=_file_version(place.file))
    from cattlegrid.adapters.postgres import schema
    from cattlegrid.adapters.postgres.connections import Connections
    from cattlegrid.adapters.spread import schema as jobs

    connections = Connections(place.url)
    await connections.open()
    try:
        before = await schema.version_of(connections)
        await schema.upgrade(connections)
        await jobs.upgrade(connections)
        return Upgraded(before=before, after=await schema.version_of(connections))
    finally:
        await connections.close()


async def examine(place: Place) -> list[Finding]:
    """Look whether a journal's database is fit to be served from. Changes nothing but a mark of the time.

    Raises:
        StoreUnavailable, ConfigurationError: it cannot even be asked.
    """
    return await (_examine_server(place) if place.url else asyncio.to_thread(_examine_file, place.file))


async def copy(
    source: Place, target: Place, *, told: Callable[[int, int], None], checked: Progress
) -> Report:
    """Copy a journal, then verify the copy; what was found in the copy.

    Raises:
        ConfigurationError: a server is at work on the source, the target is not empty, or one of both cannot be used.
        IntegrityError, StoreUnavailable: it was not copied.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from cattlegrid.adapters import copying

    if not source.url and not source.file.is_file():
        raise NotFound(f"There is no journal {source.file}.")
    for place in (
        source,
        target,
    ):  # makes, upgrades, and erases again what a restored backup has brought back
        await (await place.open()).close()
    erased = target.ledger.read()
    for owner, at_us in source.ledger.read().items():
        if erased.get(owner, -1) < at_us:
            target.ledger.record(owner, at_us)
    names = (source.url or str(source.file), target.url or str(target.file))
    try:
        await asyncio.to_thread(copying.copy, *names, progress=told)
    except SQLAlchemyError as error:
        reason = getattr(error, "orig", None) or error
        raise StoreUnavailable(
            "The journal could not be copied.", detail=" ".join(str(reason).split())
        ) from error
    store = await target.open()
    try:
        return await verify(store, progress=checked)
    finally:
        await store.close()


async def _examine_server(place: Place) -> list[Finding]:
    from cattlegrid.adapters.postgres import schema
    from cattlegrid.adapters.postgres.connections import Connections
    from cattlegrid.adapters.spread import schema as jobs

    connections = Connections(place.url)
    await connections.open()
    try:
        facts = connections.facts
        missing = await jobs.lacking(connections)
        version = await schema.version_of(connections)
        began_s = time.time()
        server_s = (await connections.read("SELECT extract(epoch FROM clock_timestamp())::float8"))[0][0]
        apart_s = abs(server_s - (began_s + time.time()) / 2)
        number = f"{facts.version // 10_000}.{facts.version % 10_000}"
    finally:
        await connections.close()
    found = [
        Finding(name="server", ok=True, said=f"PostgreSQL {number}, {connections.where}"),
        _durability(facts.unsafe),
        Finding(
            name="notifications",
            ok=True,
            said="there is a pooler in between: processes look for each other's writes twice a second"
            if facts.pooled
            else "processes hear of each other's writes at once",
        ),
        Finding(name="clock", ok=apart_s < _SKEW_S, said=f"{apart_s:.2f} s from the server's"),
        _schema(version, schema.VERSION),
        _jobs(missing),
    ]
    return [*found, await _writable(place)] if version == schema.VERSION else found


def _jobs(missing: list[str] | None) -> Finding:
    if missing is None:
        return Finding(name="jobs", ok=True, said="the first server makes their tables")
    said = "older than this program: run `cattlegrid db upgrade`" if missing else "as this program needs them"
    return Finding(name="jobs", ok=not missing, said=said)


def _examine_file(file: Path) -> list[Finding]:
    if not file.is_file():
        return [Finding(name="file", ok=False, said=f"there is none: {file}")]
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            said = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        return [Finding(name="file", ok=False, said=f"{file}: {error}")]
    return [
        Finding(name="file", ok=True, said=str(file)),
        Finding(name="pages", ok=said == "ok", said="whole" if said == "ok" else said),
        _schema(version, SQLITE_VERSION),
    ]


async def _writable(place: Place) -> Finding:
    try:
        store = await place.open()
        try:
            await store.ping()
        finally:
            await store.close()
    except CattlegridError as error:
        return Finding(name="writes", ok=False, said=str(error))
    return Finding(name="writes", ok=True, said="a durable write was made")


def _durability(unsafe: str) -> Finding:
    if unsafe:
        return Finding(
            name="durability", ok=False, said=f"a crash of the server may lose what it acknowledged: {unsafe}"
        )
    return Finding(name="durability", ok=True, said="what the server acknowledges survives its crash")


def _schema(version: int, wanted: int) -> Finding:
    if version == 0:
        said = "there is none yet: the first server makes it, or `cattlegrid db upgrade`"
    elif version < wanted:
        said = f"version {version}, and this program needs {wanted}: cattlegrid db upgrade"
    elif version > wanted:
        said = f"version {version} of a newer program: this one knows {wanted}"
    else:
        said = f"version {version}"
    return Finding(name="schema", ok=version == wanted, said=said)


def _file_version(file: Path) -> int:
    if not file.is_file():
        return 0
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        raise ConfigurationError("The journal's file cannot be read.", detail=f"{file}: {error}") from error
