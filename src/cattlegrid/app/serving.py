"""Serves a project over HTTP in this process until SIGTERM or SIGINT: takes no more, lets what runs end, then stops."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Generator
from typing import Final, Literal

import msgspec
import uvicorn
from fastapi import FastAPI

from cattlegrid.adapters.clock import SystemClock
from cattlegrid.app.compose import CONCURRENCY, OpenProject, open_project
from cattlegrid.app.identity import record_configuration
from cattlegrid.app.settings import Settings
from cattlegrid.app.state import RunningServer, StateFolder
from cattlegrid.core.errors import ConfigurationError
from cattlegrid.server.bind import check_bind
from cattlegrid.telemetry.logs import configure

DRAIN_S: Final = 20.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_LAST_ANSWERS_S: Final = 5
_LAST_REQUESTS_S: Final = 0.2
"""For what was sent before nobody could connect any more."""
_KEEP_ALIVE_S: Final = 75
"""Longer than proxies keep a connection that nothing comes over, so that they never use one that is just closing."""
_BACKLOG: Final = 1_024
_COLLECT_AFTER: Final = (200_000, 20, 100)
"""Objects, and rounds of the younger generations (https://docs.python.org/3/library/gc.html#gc.set_threshold)."""


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """How to serve."""

    settings: Settings
    host: str = "127.0.0.1"
    port: int
    """0 takes a free one."""
    log_level: Literal["info", "warning"] = "info"
    prepare: Callable[[OpenProject], Awaitable[None]]
    """What must be done before the first request: bundles, keys."""
    announce: Callable[[OpenProject, str], None]
    """Told the URL once requests are answered."""
    front: Callable[[FastAPI], None] = lambda _: None
    """Puts something in front of the routes."""
    concurrency: int = CONCURRENCY
    """How much of the store's work to do at once; 0 leaves it to workers."""


def serve(serving: Serving) -> None:
    """Serve until a signal.

    Raises:
        ConfigurationError: the address is taken or must not be, or the project is being served already.
        CattlegridError: the project cannot be opened; see `compose.open_project`.
    """
    configure(clock=SystemClock(), stream=sys.stderr, level=serving.log_level)
    state = StateFolder(serving.settings.state_folder)
    with state.serving(), _bound(serving) as listener:
        uvloop = uvicorn.Config("", loop="auto").get_loop_factory()
        with asyncio.Runner(loop_factory=uvloop) as runner:
            runner.run(_serve(serving, state, listener))


async def _serve(serving: Serving, state: StateFolder, listener: socket.socket) -> None:
    async with open_project(serving.settings, concurrency=serving.concurrency) as project:
        await record_configuration(serving.settings, project.services.engine.audit)
        await serving.prepare(project)
        await check_bind(serving.host, project.services.keys, tokens=project.services.tokens is not None)
        app = project.app
        if not isinstance(app, FastAPI):
            raise TypeError("the project's app is the server's")
        serving.front(app)
        url = _url_of(listener)
        server = _Server(app, project, on_ready=lambda: _ready(serving, project, state, url))
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, server.stop)
        try:
            await server.serve(sockets=[listener])
        finally:
            # What is left is quick and safe to cut off: a further signal ends the process at once.
            for number in _SIGNALS:
                loop.remove_signal_handler(number)


class _Server(uvicorn.Server):
    """uvicorn with a stop that lets runs end first, while probes are still answered.

    Signals are left to us: uvicorn would end the process before the project is closed.
    """

    def __init__(self, app: FastAPI, project: OpenProject, *, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                ws="none",
                lifespan="off",
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_LAST_ANSWERS_S,
            )
        )
        self._project = project
        self._on_ready = on_ready
        self._told_twice = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    def stop(self) -> None:
        """Stop when the runs have ended; told twice, at once."""
        self.force_exit = self.should_exit
        if self.force_exit:
            self._told_twice.set()
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _spare_the_collector()
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._project.settings.database_url:
            await self._make_room(sockets or [])
        upkeep = self._project.services.upkeep
        draining = asyncio.create_task(upkeep.drain(DRAIN_S))
        told_twice = asyncio.create_task(self._told_twice.wait())
        await asyncio.wait({draining, told_twice}, return_when=asyncio.FIRST_COMPLETED)
        told_twice.cancel()
        if draining.done():
            await draining
        else:
            draining.cancel()
            await upkeep.drain(0)
        await super().shutdown(sockets)

    async def _make_room(self, sockets: list[socket.socket]) -> None:
        """Let other processes take the place of this one before it turns anybody away.

        Whoever looks at `/ready` sends nothing more; who does not is told to connect anew, and then finds nobody.
        """
        self._project.services.engine.leaving.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._project.settings.leave_s):
                await self._told_twice.wait()
        for server in self.servers:
            server.close()
        for listener in sockets:
            listener.close()
        await asyncio.sleep(_LAST_REQUESTS_S)


def _spare_the_collector() -> None:
    """Leave what was loaded at the start out of every search for garbage, and search less often.

    A search through all of it stops every run for a tenth of a second, and finds nothing: it stays until the end.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def _ready(serving: Serving, project: OpenProject, state: StateFolder, url: str) -> None:
    state.announce(RunningServer(url=url, pid=os.getpid()))
    serving.announce(project, url)


def _bound(serving: Serving) -> socket.socket:
    family = socket.AF_INET6 if ":" in serving.host else socket.AF_INET
    try:
        return socket.create_server((serving.host, serving.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        where = f"{serving.host}:{serving.port}"
        raise ConfigurationError(
            f"Cannot listen at {where}: {error.strerror or error}. Choose another with --port (0 takes a free one)."
        ) from None


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
