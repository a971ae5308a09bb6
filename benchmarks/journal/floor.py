"""The floor: the same rows, encoded, hashed and encrypted beforehand, put into SQLite with nothing checked.

Two tables with the keys that reading them needs, one `executemany` for each in every transaction, as many transactions
as our side made, WAL and `synchronous=FULL`. No lease, no head, no directory, no threads, no event loop.

    python -m benchmarks.journal.floor SESSIONS RUNS FOLDER ROWS    one JSON object
"""

import json
import pickle
import sqlite3
import sys
import time
from pathlib import Path

from cattlegrid.journal.store import Append

_SCHEMA = """
CREATE TABLE events (stream TEXT, seq INTEGER, run_id TEXT, type TEXT, at_us INTEGER, data BLOB, prev_hash BLOB,
                     hash BLOB, PRIMARY KEY (stream, seq));
CREATE TABLE bodies (owner TEXT, digest TEXT, sealed BLOB, PRIMARY KEY (owner, digest));
"""


def measure(runs: int, folder: Path, rows: Path) -> dict[str, float]:
    """Insert what our side has written; figures for each run."""
    commits, writes = pickle.loads(rows.read_bytes())  # noqa: S301 - our own file
    groups = _groups(writes, commits)
    path = folder / "floor.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.executescript(_SCHEMA)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    for events, bodies in groups:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", events)
        connection.executemany("INSERT INTO bodies VALUES (?, ?, ?)", bodies)
        connection.execute("COMMIT")
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    connection.close()
    return {
        "runs": runs,
        "runs_per_s": runs / wall_s,
        "cpu_ms_per_run": cpu_s / runs * 1000,
        "bytes_per_run": path.stat().st_size / runs,
        "transactions_per_run": len(groups) / runs,
    }


def _groups(
    writes: list[Append], commits: int
) -> list[tuple[list[tuple[object, ...]], list[tuple[object, ...]]]]:
    """The rows of all writes in their order, spread evenly over a number of transactions."""
    groups: list[tuple[list[tuple[object, ...]], list[tuple[object, ...]]]] = [
        ([], []) for _ in range(commits)
    ]
    for place, write in enumerate(writes):
        events, bodies = groups[place * commits // len(writes)]
        events.extend(
            (row.stream, row.seq, row.run_id, row.type, row.at_us, row.data, row.prev_hash, row.hash)
            for row in write.rows
        )
        bodies.extend((body.owner, body.digest, body.sealed) for body in write.bodies)
    return groups


if __name__ == "__main__":
    given_sessions, given_rounds, given_folder, given_rows = sys.argv[1:]
    made = int(given_sessions) * int(given_rounds)
    print(json.dumps(measure(made, Path(given_folder), Path(given_rows))))
