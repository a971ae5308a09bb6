"""Does the work of a project's store in this process until SIGTERM or SIGINT: lets what is under way end, then stops."""

import asyncio
import signal
import sys
from collections.abc import Callable
from typing import Final

import uvicorn

from cattlegrid.adapters.clock import SystemClock
from cattlegrid.app.compose import open_project
from cattlegrid.app.settings import Settings
from cattlegrid.core.errors import ConfigurationError
from cattlegrid.telemetry.logs import configure

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def work(settings: Settings, *, concurrency: int, announce: Callable[[], None]) -> None:
    """Work until a signal; `announce` is called once the work has begun.

    Raises:
        ConfigurationError: the store is a file, whose server does the work itself.
        CattlegridError: the project cannot be opened; see `compose.open_project`.
    """
    if not settings.database_url:
        raise ConfigurationError(
            "There is no work for others here: the journal is a file, and the server that has it open does everything "
            "itself. Workers are for PostgreSQL: set DATABASE_URL."
        )
    configure(clock=SystemClock(), stream=sys.stderr)
    uvloop = uvicorn.Config("", loop="auto").get_loop_factory()
    with asyncio.Runner(loop_factory=uvloop) as runner:
        runner.run(_work(settings, concurrency, announce))


async def _work(settings: Settings, concurrency: int, announce: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    async with open_project(settings, concurrency=concurrency):
        announce()
        await stop.wait()
        # What is left ends in time and is safe to cut off: a further signal ends the process at once.
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
