"""LangGraph's side, run by a Python of its own: imports nothing of Cattlegrid.

A graph of five nodes that each add a message of 2 KB, compiled with `AsyncSqliteSaver` (WAL, `synchronous=FULL`), its
default durability. Two figures: `saver`, the calls that the graph makes of its checkpointer, recorded once and made
again without the graph; and `graph`, the whole of it. Sessions are threads; each run of a session is one `ainvoke`.

    python langgraph_side.py SESSIONS ROUNDS FOLDER TEXTS      one JSON object; TEXTS is a JSON array
"""
# pyright: basic, reportMissingImports=false

import asyncio
import json
import operator
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

STEPS = 5
Run = Callable[[str, int], Awaitable[None]]


class State(TypedDict):
    """The messages of one run."""

    messages: Annotated[list[str], operator.add]


class Recording(AsyncSqliteSaver):
    """Keeps the calls that a graph makes."""

    calls: list[tuple[str, tuple[Any, ...]]]

    async def aput(self, *arguments: Any) -> Any:  # noqa: ANN401
        self.calls.append(("aput", arguments))
        return await super().aput(*arguments)

    async def aput_writes(self, *arguments: Any) -> None:  # noqa: ANN401
        self.calls.append(("aput_writes", arguments))
        await super().aput_writes(*arguments)


def compiled(saver: AsyncSqliteSaver, texts: list[str]) -> Any:  # noqa: ANN401
    """The graph."""
    graph = StateGraph(State)
    before = START
    for step in range(STEPS):

        async def node(state: State, step: int = step) -> dict[str, list[str]]:
            return {"messages": [texts[(len(state["messages"][0]) + step * 31) % len(texts)]]}

        graph.add_node(f"step{step}", node)
        graph.add_edge(before, f"step{step}")
        before = f"step{step}"
    graph.add_edge(before, END)
    return graph.compile(checkpointer=saver)


async def measure(sessions: int, rounds: int, folder: Path, texts: list[str]) -> dict[str, dict[str, float]]:
    """Both figures."""
    found: dict[str, dict[str, float]] = {}
    for name in ("saver", "graph"):
        path = folder / f"{name}.db"
        async with Recording.from_conn_string(str(path)) as saver:
            saver.calls = []
            await saver.setup()
            await saver.conn.execute("PRAGMA synchronous=FULL")
            graph = compiled(saver, texts)
            await graph.ainvoke({"messages": ["hello"]}, {"configurable": {"thread_id": "warm"}})
            run = _saver_run(saver, list(saver.calls)) if name == "saver" else _graph_run(graph, saver)
            found[name] = await _load(run, sessions, rounds)
        found[name]["bytes_per_run"] = path.stat().st_size / (sessions * rounds)
    return found


def _graph_run(graph: Any, saver: Recording) -> Run:  # noqa: ANN401
    async def run(thread: str, number: int) -> None:
        saver.calls.clear()
        await graph.ainvoke({"messages": ["x" * number]}, {"configurable": {"thread_id": thread}})

    return run


def _saver_run(saver: Recording, calls: list[tuple[str, tuple[Any, ...]]]) -> Run:
    plain = {"aput": super(Recording, saver).aput, "aput_writes": super(Recording, saver).aput_writes}

    async def run(thread: str, number: int) -> None:
        for name, (config, *rest) in calls:
            configurable = {
                "thread_id": f"{thread}-{number}",
                "checkpoint_ns": "",
                "checkpoint_id": config["configurable"].get("checkpoint_id"),
            }
            await plain[name]({"configurable": configurable}, *rest)

    return run


async def _load(run: Run, sessions: int, rounds: int) -> dict[str, float]:
    latencies_s: list[float] = []

    async def session(number: int) -> None:
        for turn in range(rounds):
            started_s = time.perf_counter()
            await run(f"thread-{number}-{turn}", turn)
            latencies_s.append(time.perf_counter() - started_s)

    cpu_s, wall_s = time.process_time(), time.perf_counter()
    await asyncio.gather(*(session(number) for number in range(sessions)))
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    runs = sessions * rounds
    ordered = sorted(latencies_s)
    return {
        "runs": runs,
        "runs_per_s": runs / wall_s,
        "p50_ms": ordered[runs // 2] * 1000,
        "p99_ms": ordered[min(runs - 1, int(runs * 0.99))] * 1000,
        "cpu_ms_per_run": cpu_s / runs * 1000,
    }


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[4]).read_text())
    print(json.dumps(asyncio.run(measure(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), given))))
