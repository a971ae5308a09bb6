"""A provider on the loopback interface: any number of chunks, in the wire format of the path that is asked.

    python -m benchmarks.codecs.endpoint      prints its address, and serves until its stdin ends

The model's name says how much: `chunks-43`. Each event is a write of its own, as a model writes.
"""

import asyncio
import contextlib
import re
import sys
from functools import cache
from typing import Final

from benchmarks.codecs import recorded

PATHS: Final = {
    "chat/completions": "openai",
    "responses": "openai-responses",
    "messages": "anthropic",
    "models/": "gemini",
}
SIZE: Final = re.compile(rb"chunks-(\d+)")
HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@cache
def streamed(wire: str, chunks: int) -> tuple[bytes, ...]:
    """The pieces of a chunked body."""
    pieces = [b"%x\r\n%b\r\n" % (len(event), event) for event in recorded.events(wire, chunks)]
    return (*pieces, b"0\r\n\r\n")


@cache
def whole(wire: str, chunks: int) -> bytes:
    """A whole response."""
    body = recorded.body(wire, chunks)
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, any number of requests."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.findall(rb"(?i)content-length: *(\d+)", head)[0])
            body = await reader.readexactly(length)
            path = head.split(b" ", 2)[1].decode()
            wire = next(name for part, name in PATHS.items() if part in path)
            chunks = int(SIZE.findall(body + path.encode())[0])
            if "alt=sse" in path or re.search(rb'"stream": ?true', body):
                writer.write(HEAD)
                for piece in streamed(wire, chunks):
                    writer.write(piece)
                    await asyncio.sleep(0)
            else:
                writer.write(whole(wire, chunks))
            await writer.drain()
    writer.close()


async def main() -> None:
    """Serve until stdin ends."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
