"""Our side: `SessionWriter`, vault and PostgreSQL journal under the load, nothing left out; one process of several.

python -m benchmarks.journal_pg.ours URL SESSIONS RUNS FOLDER     waits for a line, then one JSON object
"""

import asyncio
import json
import sys
from pathlib import Path

from benchmarks.common import percentile
from benchmarks.journal.ours import drive, open_sessions
from benchmarks.journal_pg.side import Meter, wait_for_start
from cattlegrid.adapters.clock import SystemClock
from cattlegrid.adapters.postgres.journal import PostgresJournal
from cattlegrid.core.ids import Ids


async def measure(url: str, sessions: int, rounds: int, folder: Path) -> dict[str, float]:
    """Run the load; figures of this process."""
    clock = SystemClock()
    ids = Ids(clock)
    store = await PostgresJournal.open(url, ledger=folder / "erasures.jsonl")
    opened_sessions = await open_sessions(store, ids, sessions, clock)
    latencies_s, barriers_s = list[float](), list[float]()
    commits = store.commits
    wait_for_start()
    with Meter() as meter:
        async with asyncio.TaskGroup() as group:
            for writer, box in opened_sessions:
                group.create_task(drive(writer, box, ids, rounds, latencies_s, barriers_s))
    commits = store.commits - commits
    await store.close()
    return meter.figures(sessions * rounds) | {
        "p50_ms": percentile(latencies_s, 0.5) * 1000,
        "p99_ms": percentile(latencies_s, 0.99) * 1000,
        "barrier_p50_ms": percentile(barriers_s, 0.5) * 1000,
        "transactions": commits,
    }


if __name__ == "__main__":
    given_url, given_sessions, given_rounds, given_folder = sys.argv[1:]
    made = asyncio.run(measure(given_url, int(given_sessions), int(given_rounds), Path(given_folder)))
    print(json.dumps(made))
