"""Runs the scripted model as an HTTP server: until it is told to stop, or for the length of a test."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Self

import uvicorn

from cattlegrid.testing.scripted.app import ScriptedModel, create_app

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8710


def _config(app: ScriptedModel) -> uvicorn.Config:
    # Without graceful waiting: what still stalls when the server stops is cut off.
    return uvicorn.Config(
        app,
        lifespan="off",
        log_level="critical",
        access_log=False,
        date_header=False,
        server_header=False,
        timeout_graceful_shutdown=0,
    )


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is spelled out; else a stream waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


async def serve(
    app: ScriptedModel,
    *,
    host: str = LOOPBACK,
    port: int = DEFAULT_PORT,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; port 0 takes a free one. `on_ready` is told the base URL, which ends in `/v1`.

    Raises:
        OSError: the address is taken or does not exist.
    """
    listener = _listener(host, port)
    if on_ready is not None:
        on_ready(_url_of(listener))
    await uvicorn.Server(_config(app)).serve(sockets=[listener])


def run(
    app: ScriptedModel,
    *,
    host: str = LOOPBACK,
    port: int = DEFAULT_PORT,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Like `serve`, from code that is not asynchronous and on the fastest event loop that is installed."""
    with asyncio.Runner(loop_factory=_config(app).get_loop_factory()) as runner:
        runner.run(serve(app, host=host, port=port, on_ready=on_ready))


class _QuietServer(uvicorn.Server):
    """A server inside somebody else's event loop: it leaves the signals alone and stops at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.stopping.wait()


class ScriptedModelServer:
    """A scripted model on a free port of the loopback interface, for as long as an `async with` block.

    The arguments are those of `create_app`. `base_url` ends in `/v1`; `app.completions` counts the requests.
    """

    def __init__(
        self,
        *,
        persona: str = "careful",
        seed: int = 0,
        latency_s: float = 0.0,
        chunk_delay_s: float = 0.0,
        fault: str = "",
        stall_s: float = 60.0,
    ) -> None:
        self.app = create_app(
            persona=persona,
            seed=seed,
            latency_s=latency_s,
            chunk_delay_s=chunk_delay_s,
            fault=fault,
            stall_s=stall_s,
        )
        self.base_url = ""

    async def __aenter__(self) -> Self:
        """Start, on a port that accepts connections from now on."""
        listener = _listener(LOOPBACK, 0)
        self.base_url = _url_of(listener)
        self._server = _QuietServer(_config(self.app))
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; what is still being answered is cut off."""
        self._server.stopping.set()
        await self._serving
