"""A site of the unit tests under uvicorn, on a loopback port."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import uvicorn

from tests.unit.server.site import Site, until


@asynccontextmanager
async def serving(site: Site) -> AsyncGenerator[tuple[httpx2.AsyncClient, uvicorn.Server]]:
    """A site on a free port, and a client that speaks to it."""
    config = uvicorn.Config(
        site.app, port=0, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    async with httpx2.AsyncClient(base_url=f"http://{host}:{port}", timeout=10) as http:
        yield http, server
    server.should_exit = True
    async with asyncio.timeout(10):
        await task
