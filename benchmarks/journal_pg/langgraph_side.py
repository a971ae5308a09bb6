"""LangGraph's side, run by a Python of its own: imports nothing of Cattlegrid.

A graph of five nodes that each add a message of 2 KB, with `AsyncPostgresSaver` over a pool of psycopg connections, its
default durability. `saver` makes the calls that the graph makes of its checkpointer again, without the graph; `graph`
is the whole of it. Sessions are threads; each run of a session is one `ainvoke`.

    python langgraph_side.py saver|graph URL SESSIONS ROUNDS TEXTS     waits for a line, then one JSON object
"""
# pyright: basic, reportMissingImports=false

import asyncio
import json
import operator
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool
from side import Meter, wait_for_start

STEPS = 5
POOL = 20
Run = Callable[[str, int], Awaitable[None]]


class State(TypedDict):
    """The messages of one run."""

    messages: Annotated[list[str], operator.add]


class Recording(AsyncPostgresSaver):
    """Keeps the calls that a graph makes, when asked to."""

    calls: list[tuple[str, tuple[Any, ...]]] | None = None

    async def aput(self, *arguments: Any) -> Any:  # noqa: ANN401
        if self.calls is not None:
            self.calls.append(("aput", arguments))
        return await super().aput(*arguments)

    async def aput_writes(self, *arguments: Any) -> None:  # noqa: ANN401
        if self.calls is not None:
            self.calls.append(("aput_writes", arguments))
        await super().aput_writes(*arguments)


def compiled(saver: AsyncPostgresSaver, texts: list[str]) -> Any:  # noqa: ANN401
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


async def measure(what: str, url: str, sessions: int, rounds: int, texts: list[str]) -> dict[str, float]:
    """Figures of this process."""
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(url, min_size=POOL, max_size=POOL, kwargs=options, open=False) as pool:
        await pool.wait()
        saver = Recording(pool)
        graph = compiled(saver, texts)
        saver.calls = []
        await graph.ainvoke({"messages": ["hello"]}, {"configurable": {"thread_id": "warm"}})
        calls, saver.calls = saver.calls, None
        run = _saver_run(saver, calls) if what == "saver" else _graph_run(graph)
        wait_for_start()
        with Meter() as meter:
            await asyncio.gather(*(_session(run, number, rounds) for number in range(sessions)))
    return meter.figures(sessions * rounds)


def _graph_run(graph: Any) -> Run:  # noqa: ANN401
    async def run(thread: str, number: int) -> None:
        await graph.ainvoke({"messages": ["x" * number]}, {"configurable": {"thread_id": thread}})

    return run


def _saver_run(saver: Recording, calls: list[tuple[str, tuple[Any, ...]]]) -> Run:
    async def run(thread: str, number: int) -> None:
        for name, (config, *rest) in calls:
            configurable = {
                "thread_id": f"{thread}-{number}",
                "checkpoint_ns": "",
                "checkpoint_id": config["configurable"].get("checkpoint_id"),
            }
            await getattr(saver, name)({"configurable": configurable}, *rest)

    return run


async def _session(run: Run, number: int, rounds: int) -> None:
    for turn in range(rounds):
        await run(f"thread-{os.getpid()}-{number}-{turn}", turn)


async def prepare(url: str) -> None:
    """Make the tables."""
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        await saver.setup()


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        asyncio.run(prepare(sys.argv[2]))
    else:
        given = json.loads(Path(sys.argv[5]).read_text())
        figures = measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), given)
        print(json.dumps(asyncio.run(figures)))
