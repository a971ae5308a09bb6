"""DBOS's side, run by a Python of its own: imports nothing of Cattlegrid.

An asynchronous workflow of five asynchronous steps that each return a text of 2 KB, with DBOS's own defaults. Each run of
a session is one workflow.

    python dbos_side.py run URL SESSIONS ROUNDS TEXTS     waits for a line, then one JSON object
"""
# pyright: basic, reportMissingImports=false

import asyncio
import json
import os
import sys
from pathlib import Path

from dbos import DBOS, SetWorkflowID
from side import Meter, wait_for_start

STEPS = 5
TEXTS: list[str] = []


@DBOS.step()
async def step(number: int, place: int) -> str:
    """What a model or a tool would say."""
    return TEXTS[(number + place * 31) % len(TEXTS)]


@DBOS.workflow()
async def run(number: int, text: str) -> str:
    """One run."""
    said = text
    for place in range(STEPS):
        said = await step(number, place)
    return said


async def measure(sessions: int, rounds: int) -> dict[str, float]:
    """Figures of this process."""
    await run(0, "warm")
    wait_for_start()
    with Meter() as meter:
        await asyncio.gather(*(_session(number, rounds) for number in range(sessions)))
    return meter.figures(sessions * rounds)


async def _session(number: int, rounds: int) -> None:
    for turn in range(rounds):
        with SetWorkflowID(f"{os.getpid()}-{number}-{turn}"):
            await run(turn, "x" * turn)


def main() -> None:
    """Launch, measure, print."""
    what, url = sys.argv[1:3]
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url,
            "log_level": "ERROR",
            "executor_id": str(os.getpid()),
        }
    )
    DBOS.launch()
    if what == "run":
        TEXTS.extend(json.loads(Path(sys.argv[5]).read_text()))
        print(json.dumps(asyncio.run(measure(int(sys.argv[3]), int(sys.argv[4])))), flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    main()
