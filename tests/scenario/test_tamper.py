"""Somebody who can write to the database changes the past: `verify` finds it, however well the hashes fit."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from cattlegrid.journal.codec import GENESIS, decode, encode_data, hash_of
from cattlegrid.journal.events import RunFinished, RunStatus
from cattlegrid.journal.store import Row
from tests.scenario import records
from tests.scenario.server import Server

_STREAM = "(SELECT id FROM heads WHERE stream = ?)"


def rewrite_one_event(database: sqlite3.Connection, rows: list[Row]) -> None:
    """The last event says something else; its hash stays."""
    database.execute(
        f"UPDATE events SET data = ? WHERE stream_id = {_STREAM} AND seq = ?",
        (_failed(rows[-1]), rows[-1].stream, rows[-1].seq),
    )


def rewrite_the_chain(database: sqlite3.Connection, rows: list[Row]) -> None:
    """An event in the middle says something else, and every hash from there to the head fits."""
    place = next(at for at, row in enumerate(rows) if row.type.startswith("run_finished"))
    last = rows[place - 1].hash if place else GENESIS
    for at, row in enumerate(rows[place:]):
        data = _failed(row) if not at else row.data
        changed = msgspec.structs.replace(row, data=data, prev_hash=last)
        last = hash_of(changed)
        database.execute(
            f"UPDATE events SET data = ?, prev_hash = ?, hash = ? WHERE stream_id = {_STREAM} AND seq = ?",
            (data, changed.prev_hash, last, row.stream, row.seq),
        )
    database.execute("UPDATE heads SET hash = ? WHERE stream = ?", (last, rows[0].stream))


def cut_the_tail(database: sqlite3.Connection, rows: list[Row]) -> None:
    """The last two events are gone, and the head has moved back."""
    end = rows[-3]
    database.execute(f"DELETE FROM events WHERE stream_id = {_STREAM} AND seq > ?", (end.stream, end.seq))
    database.execute("UPDATE heads SET seq = ?, hash = ? WHERE stream = ?", (end.seq, end.hash, end.stream))


def take_the_stream_away(database: sqlite3.Connection, rows: list[Row]) -> None:
    """A whole session is gone, without a retirement on record."""
    stream = rows[0].stream
    database.execute(f"DELETE FROM events WHERE stream_id = {_STREAM}", (stream,))
    for table in ("entries", "heads"):
        database.execute(f"DELETE FROM {table} WHERE stream = ?", (stream,))


def leave_a_seal_out(state: Path) -> None:
    """The seal log misses its last line but one; the database is untouched."""
    lines = (state / "seals.jsonl").read_text().splitlines(keepends=True)
    (state / "seals.jsonl").write_text("".join([*lines[:-2], lines[-1]]))


@pytest.mark.requirement("journal:verify")
@pytest.mark.requirement("journal:seals")
def test_verify_finds_a_rewritten_chain_and_a_cut_tail_after_a_seal(server: Server, tmp_path: Path) -> None:
    session_id = [_session(server) for _ in range(2)][-1]
    rows = records.rows(server.state, session_id)
    whole = server.ran("verify")
    assert whole.returncode == 0, whole.stdout
    assert "2 seals" in whole.stdout
    changes: list[Callable[[sqlite3.Connection, list[Row]], None]] = [
        rewrite_one_event,
        rewrite_the_chain,
        cut_the_tail,
        take_the_stream_away,
    ]
    for change in changes:
        changed = _copy(server)
        with closing(sqlite3.connect(records.journal(changed.state), isolation_level=None)) as database:
            change(database, rows)
        _found(changed, named=session_id)
    changed = _copy(server)
    leave_a_seal_out(changed.state)
    _found(changed, named="seal log")


def _session(server: Server) -> str:
    """A session of two runs, sealed when its server stops."""
    server.start()
    ana = server.customer("ana@example.com")
    session_id = str(ana.insist("POST", "/runs", {"agent": "till", "input": "One."})["session_id"])
    ana.insist("POST", f"/sessions/{session_id}/runs", {"input": "Two."})
    assert server.stop() == 0
    return session_id


def _found(changed: Server, *, named: str) -> None:
    told = changed.ran("verify")
    assert told.returncode == 1, told.stdout + told.stderr
    assert "NOT as it was written" in told.stdout
    assert named in told.stdout


def _copy(server: Server) -> Server:
    folder = server.root.parent / f"{server.root.name}-copy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(server.root, folder)
    return Server(folder)


def _failed(row: Row) -> bytes:
    """What an event says, told otherwise: the same bytes with one changed, or a run that has failed."""
    data = decode(row).data
    if isinstance(data, RunFinished):
        return encode_data(msgspec.structs.replace(data, status=RunStatus.FAILED))
    return bytes([*row.data[:-1], row.data[-1] ^ 1])
