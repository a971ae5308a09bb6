"""What one more turn of a session costs, early and late: bytes stored, bytes read and CPU at turns 10, 100 and 500.

One session of the whole engine on SQLite, with a model in memory. Every turn is alike: a question of 200 bytes, a tool
call with a result of 600, an answer of 1,000. The context is a window of 3,000 tokens, so that it is full before turn
10 and every turn sends as much as any other. Each figure is the mean over the ten turns around it; CPU is the best of
three sessions, that of the whole process.

Bytes stored count what the turn adds to the rows of the database. Bytes read count every row and body that the store
hands out. `ratio_turn_500_to_turn_10` is the worst of the three ratios. `taken_anew` says what it costs to open the
session in a process that does not know it: that reads all of its events, and grows with them.
"""

import argparse
import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.common import fdatasync_p50_ms, finish, machine, say, texts
from cattlegrid.adapters.sqlite.journal import SqliteJournal
from cattlegrid.core.bundle import ContextPolicy
from cattlegrid.core.messages import ModelRequest, Role, Usage
from cattlegrid.journal.store import BodyRow, Row
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.models import Answer, answer, call
from cattlegrid.testing.world import World, bundle_of, tool_of

TURNS = (10, 100, 500)
AROUND = 5
SESSIONS = 5
CONTEXT_TOKENS = 3_000
LEASE_S = 1e9
GOAL = 1.1

_QUESTIONS = texts(600, 200, seed=1)
_RESULTS = texts(600, 600, seed=2)
_ANSWERS = texts(600, 1_000, seed=3)


class Counting(SqliteJournal):
    """Counts the bytes that it hands out."""

    read_bytes = 0

    async def rows(self, stream: str, *, after_seq: int = 0, limit: int | None = None) -> Sequence[Row]:
        found = await super().rows(stream, after_seq=after_seq, limit=limit)
        self.read_bytes += sum(len(row.data) + len(row.run_id) + len(row.type) + 80 for row in found)
        return found

    async def bodies(self, owner: str, digests: Sequence[str]) -> Sequence[BodyRow]:
        found = await super().bodies(owner, digests)
        self.read_bytes += sum(len(body.sealed) for body in found)
        return found


class Cost(msgspec.Struct, frozen=True):
    """What something took."""

    stored_bytes: float
    read_bytes: float
    cpu_ms: float


def main() -> None:
    """Measure and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(prog="growth", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, nargs=3, default=TURNS, help="early, middle and late turn")
    parser.add_argument(
        "--sessions", type=int, default=SESSIONS, help=f"of how many the best counts ({SESSIONS})"
    )
    given = parser.parse_args()
    centers = tuple(given.turns)
    sessions: list[list[Cost]] = []
    anew: dict[int, Cost] = {}
    sync_ms = 0.0
    for number in range(given.sessions):
        with tempfile.TemporaryDirectory() as folder:
            sync_ms = fdatasync_p50_ms(Path(folder))
            turns, anew = asyncio.run(_session(Path(folder) / "journal.db", centers))
        sessions.append(turns)
        say(f"growth: session {number + 1} of {given.sessions}")
    best = [_best(same) for same in zip(*sessions, strict=True)]
    at = {turn: _mean(best[slice(*_edges(turn))]) for turn in centers}
    for turn, cost in at.items():
        say(
            f"turn {turn:>3}: {cost.stored_bytes:8.0f} bytes stored {cost.read_bytes:8.0f} read {cost.cpu_ms:6.2f} ms CPU"
        )
    early, late = at[centers[0]], at[centers[-1]]
    ratios = {
        "stored": late.stored_bytes / early.stored_bytes,
        "read": late.read_bytes / early.read_bytes,
        "cpu": late.cpu_ms / early.cpu_ms,
    }
    worst = max(ratios.values())
    say(
        f"growth: {'goal met' if worst <= GOAL else 'goal missed'}: the worst ratio is {worst:.2f}, {GOAL} is allowed"
    )
    finish(
        {
            f"ratio_turn_{centers[-1]}_to_turn_{centers[0]}": round(worst, 3),
            **{f"ratio_{name}": round(ratio, 3) for name, ratio in ratios.items()},
            "turns": {str(turn): _rounded(cost) for turn, cost in at.items()},
            "taken_anew": {str(turn): _rounded(cost) for turn, cost in anew.items()},
            "fdatasync_p50_ms": round(sync_ms, 3),
            "machine": machine(),
        }
    )


async def _session(path: Path, centers: Sequence[int]) -> tuple[list[Cost], dict[int, Cost]]:
    clock = ManualClock()
    store = await Counting.open(path, clock=clock)
    world = World(
        bundle_of("support", tools=[tool_of("find_order")], context=ContextPolicy(max_tokens=CONTEXT_TOKENS)),
        model=_answer,
        functions={"find_order": lambda: {"text": _RESULTS[len(turns)]}},
        store=store,
        clock=clock,
        lease_s=LEASE_S,
    )
    turns: list[Cost] = []
    anew: dict[int, Cost] = {}
    stored: dict[int, int] = {}
    session_id = ""
    for turn in range(1, max(centers) + AROUND + 1):
        read, cpu_s = store.read_bytes, time.process_time()
        run = await world.ask(f"{turn} {_QUESTIONS[turn]}", session_id=session_id)
        cpu_s = time.process_time() - cpu_s
        session_id = run.session_id
        assert run.status == "completed", run
        world.model.requests.clear()
        clock.advance(1)
        turns.append(Cost(0, store.read_bytes - read, cpu_s * 1000))
        if any(turn in _edges(center) for center in centers):
            stored[turn] = _stored_bytes(path)
        if turn - AROUND in centers:  # behind the turns that are measured: the next one finds everything cold
            anew[turn - AROUND] = await _taken_anew(world, store, session_id)
    await store.close()
    for center in centers:
        first, last = _edges(center)
        mean_bytes = (stored[last] - stored[first]) / (last - first)
        turns[first:last] = [
            msgspec.structs.replace(cost, stored_bytes=mean_bytes) for cost in turns[first:last]
        ]
    return turns, anew


async def _taken_anew(world: World, store: Counting, session_id: str) -> Cost:
    """Hand the session over and take it again."""
    await world.settled()
    for open_session in list(world.engine.runners):
        await world.engine.let_go(open_session)
    world.restart()
    read, cpu_s = store.read_bytes, time.process_time()
    await world.engine.attend(session_id)
    await world.settled()
    return Cost(0, store.read_bytes - read, (time.process_time() - cpu_s) * 1000)


def _answer(request: ModelRequest) -> Answer:
    usage = Usage(input_tokens=sum(len(message.text) for message in request.messages) // 4, output_tokens=250)
    last = request.messages[-1]
    if last.role is Role.USER:
        return answer(calls=[call("find_order")], usage=usage)
    number = int(next(m.text for m in reversed(request.messages) if m.role is Role.USER).split()[0])
    return answer(f"{number} {_ANSWERS[number]}", usage=usage)


def _edges(center: int) -> tuple[int, int]:
    """The turns after which the turns around one begin, and end."""
    return center - AROUND - 1, center + AROUND - 1


def _stored_bytes(path: Path) -> int:
    connection = sqlite3.connect(path)
    tables = {
        "events": "length(data) + length(run_id) + length(type) + 80",
        "bodies": "length(sealed) + length(digest)",
        "entries": "length(kind) + length(id) + length(stream) + length(owner) + length(status) + length(ref)",
    }
    sizes = [
        connection.execute(f"SELECT coalesce(sum({size}), 0) FROM {table}").fetchone()[0]  # noqa: S608
        for table, size in tables.items()
    ]
    connection.close()
    return sum(sizes)


def _mean(costs: Sequence[Cost]) -> Cost:
    count = len(costs)
    return Cost(
        sum(cost.stored_bytes for cost in costs) / count,
        sum(cost.read_bytes for cost in costs) / count,
        sum(cost.cpu_ms for cost in costs) / count,
    )


def _best(costs: Sequence[Cost]) -> Cost:
    return Cost(costs[0].stored_bytes, costs[0].read_bytes, min(cost.cpu_ms for cost in costs))


def _rounded(cost: Cost) -> dict[str, float]:
    return {name: round(getattr(cost, name), 2) for name in Cost.__struct_fields__}


if __name__ == "__main__":
    main()
