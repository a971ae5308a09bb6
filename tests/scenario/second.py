"""A second process on a project's store: no HTTP, only upkeep, which takes over what another process has left.

Run as a program with the project's folder; says `ready`, and ends when its standard input does.
"""

import asyncio
import sys
from pathlib import Path

from cattlegrid.app.compose import open_project
from cattlegrid.app.settings import load_settings


async def main(root: Path) -> None:
    async with open_project(load_settings(root)):
        print("ready", flush=True)  # noqa: T201
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
