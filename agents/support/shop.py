"""The shop's SQLite database: where it is, and how a tool opens it.

The file is `SUPPORT_DB`, or `.cattlegrid/shop.db` in the project (the nearest folder with a `cattlegrid.yaml`). It is
created and seeded on first use, whole or not at all, also when many processes come first at once.
Money is integer cents here; tools speak euros.
"""

import os
import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from .seed import fill

BUSY_TIMEOUT_S = 5.0


def database_path() -> Path:
    """Where the shop's database is; the file need not exist yet."""
    if declared := os.environ.get("SUPPORT_DB"):
        return Path(declared)
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / "cattlegrid.yaml").is_file()), here)
    return root / ".cattlegrid" / "shop.db"


def create(path: Path) -> None:
    """Seed a database beside `path` and link it there; if somebody else was first, theirs stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".shop-") as folder:
        draft = Path(folder) / "shop.db"
        with closing(sqlite3.connect(draft)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            with db:
                fill(db, today=datetime.now(UTC).date())
        try:
            os.link(draft, path)
        except FileExistsError:
            return


def _open() -> sqlite3.Connection:
    path = database_path()
    if not path.exists():
        create(path)
    # `mode=rw`: a file that vanished in between is an error, not a new and empty shop.
    address = f"{path.absolute().as_uri()}?mode=rw"
    db = sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA foreign_keys = ON")
    return db


@contextmanager
def reading() -> Generator[sqlite3.Connection]:
    """A connection that sees one state of the shop for as long as it is open."""
    with closing(_open()) as db:
        db.execute("BEGIN")
        yield db


@contextmanager
def writing() -> Generator[sqlite3.Connection]:
    """A transaction that no other writer can come between: checks made in it still hold when it commits."""
    with closing(_open()) as db:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
