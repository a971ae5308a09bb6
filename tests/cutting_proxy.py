"""A proxy in front of a server's socket, in the event loop of the test: cuts connections, or lets nothing pass."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Self

_PIECE_BYTES = 65_536


class CuttingProxy:
    """One socket, `folder`/.s.PGSQL.5432, that leads to the server's."""

    def __init__(self, folder: Path, server: Path) -> None:
        self.folder = folder
        self.mute = False
        """Whether answers of the server are kept back: the client hears nothing more, and nothing is closed."""
        self.deaf = False
        """Whether new connections are cut at once."""
        self.cut_after: int | None = None
        """After how many further pieces from the server every connection is cut, once, the last of them unheard."""
        self._server = server
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_unix_server(self._serve, self.folder / ".s.PGSQL.5432")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        if self._listener is not None:
            self._listener.close()

    def cut(self) -> None:
        """Close every connection now."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self.deaf:
            to_client.transport.abort()
            return
        server, to_server = await asyncio.open_unix_connection(self._server / ".s.PGSQL.5432")
        self._writers |= {to_client, to_server}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(client, to_server))
                group.create_task(self._answer(server, to_client))
        except* (OSError, EOFError):
            pass
        finally:
            for writer in (to_client, to_server):
                self._writers.discard(writer)
                writer.transport.abort()

    async def _answer(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        async for piece in _pieces(server):
            if self.cut_after is not None:
                self.cut_after -= 1
                if self.cut_after <= 0:
                    self.cut_after = None
                    self.cut()
                    return
            if not self.mute:
                to_client.write(piece)
                await to_client.drain()
        raise EOFError


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async for piece in _pieces(reader):
        writer.write(piece)
        await writer.drain()
    raise EOFError


async def _pieces(reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    with contextlib.suppress(ConnectionResetError):
        while piece := await reader.read(_PIECE_BYTES):
            yield piece
