"""Our side: `SessionWriter`, vault and SQLite journal under the load, nothing left out.

python -m benchmarks.journal.ours SESSIONS RUNS FOLDER [ROWS]   one JSON object; ROWS receives the encoded writes
"""

import asyncio
import json
import pickle
import sys
import time
from pathlib import Path

from benchmarks.common import percentile
from benchmarks.journal.load import opened, run_writes
from cattlegrid.adapters.clock import SystemClock
from cattlegrid.adapters.sqlite.journal import SqliteJournal
from cattlegrid.core.ids import Ids
from cattlegrid.core.ports import Clock
from cattlegrid.journal.bodies import OwnerBox
from cattlegrid.journal.events import NewEvent
from cattlegrid.journal.kek import Kek
from cattlegrid.journal.store import Append, JournalStore
from cattlegrid.journal.vault import Vault
from cattlegrid.journal.writer import SessionWriter, open_stream

LEASE_S = 30.0


class Recording(SqliteJournal):
    """Keeps every write that is made."""

    writes: list[Append]

    def append(self, batch: Append) -> asyncio.Future[None]:
        self.writes.append(batch)
        return super().append(batch)


async def measure(sessions: int, rounds: int, folder: Path, rows: Path | None) -> dict[str, float]:
    """Run the load; figures for each run."""
    clock = SystemClock()
    ids = Ids(clock)
    kind = SqliteJournal if rows is None else Recording
    store = await kind.open(folder / "journal.db", clock=clock)
    if isinstance(store, Recording):
        store.writes = []
    opened_sessions = await open_sessions(store, ids, sessions, clock)
    runs, latencies_s, barriers_s = sessions * rounds, list[float](), list[float]()
    commits = store.commits
    size_bytes = _size(folder)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for writer, box in opened_sessions:
            group.create_task(drive(writer, box, ids, rounds, latencies_s, barriers_s))
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    commits = store.commits - commits
    if rows is not None and isinstance(store, Recording):
        rows.write_bytes(pickle.dumps((commits, store.writes[sessions:])))
    await store.close()
    return {
        "runs": runs,
        "runs_per_s": runs / wall_s,
        "p50_ms": percentile(latencies_s, 0.5) * 1000,
        "p99_ms": percentile(latencies_s, 0.99) * 1000,
        "barrier_p50_ms": percentile(barriers_s, 0.5) * 1000,
        "cpu_ms_per_run": cpu_s / runs * 1000,
        "bytes_per_run": (_size(folder) - size_bytes) / runs,
        "transactions_per_run": commits / runs,
    }


async def open_sessions(
    store: JournalStore, ids: Ids, sessions: int, clock: Clock
) -> list[tuple[SessionWriter, OwnerBox]]:
    """Sessions of as many users, each with its lease and its first event."""
    vault = Vault(store, Kek(bytes(range(32))), clock)
    made: list[tuple[SessionWriter, OwnerBox]] = []
    for _ in range(sessions):
        id = ids.session()
        box = await vault.create_owner(vault.owner_of("acme", id))
        writer, _unread = await open_stream(store, id, holder="bench", lease_s=LEASE_S, clock=clock)
        await writer.append([NewEvent(opened(box.owner, "3f" * 32))])
        made.append((writer, box))
    return made


async def drive(
    writer: SessionWriter,
    box: OwnerBox,
    ids: Ids,
    rounds: int,
    latencies_s: list[float],
    barriers_s: list[float],
) -> None:
    """Make the runs of one session, one after the other."""
    base = ""
    for number in range(rounds):
        started_s = time.perf_counter()
        run_id = ids.run()
        for write in run_writes(box, run_id, number, base):
            ticket = writer.append(write.events, bodies=write.bodies)
            if write.awaited:
                waited_s = time.perf_counter()
                await ticket
                barriers_s.append(time.perf_counter() - waited_s)
            else:
                await asyncio.sleep(0)
        latencies_s.append(time.perf_counter() - started_s)


def _size(folder: Path) -> int:
    """Bytes of the database, as it will be when its log is folded in."""
    return sum(file.stat().st_size for file in folder.glob("journal.db"))


if __name__ == "__main__":
    given_sessions, given_rounds, given_folder, *given_rows = sys.argv[1:]
    kept = Path(given_rows[0]) if given_rows else None
    print(json.dumps(asyncio.run(measure(int(given_sessions), int(given_rounds), Path(given_folder), kept))))
