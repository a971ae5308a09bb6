"""A model's endpoint on the loopback interface that sends exactly the bytes it was told to send, when it is told to."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Final

import msgspec

CONTRACT_USAGE: Final = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 5},
}


class Hold(msgspec.Struct, frozen=True):
    """Send nothing more, and keep the connection until the client ends it."""


class HangUp(msgspec.Struct, frozen=True):
    """End the connection here."""


HOLD: Final = Hold()
HANG_UP: Final = HangUp()
Step = bytes | Hold | HangUp


class Asked(msgspec.Struct, frozen=True):
    """One request as it arrived."""

    head: str
    body: bytes
    connection: int


class ModelEndpoint:
    """Plays the same steps for every request, one set for streams and one for answers that come whole."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.connections = 0
        self.arrived = asyncio.Event()
        self.abandoned = asyncio.Event()
        self._open: list[asyncio.StreamWriter] = []
        self._streamed: tuple[Step, ...] = ()
        self._whole: tuple[Step, ...] = ()
        self.first: list[tuple[tuple[Step, ...], tuple[Step, ...]]] = []
        """What is played to the first requests, one set each, before that of `play`."""

    def play(self, streamed: tuple[Step, ...], whole: tuple[Step, ...]) -> None:
        """From now on, answer so."""
        self._streamed, self._whole = streamed, whole
        self.arrived.clear()
        self.abandoned.clear()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, any number of requests."""
        self._open.append(writer)
        self.connections += 1
        number = self.connections
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:")
                )
                body = await reader.readexactly(length)
                self.asked.append(Asked(head, body, number))
                self.arrived.set()
                # Gemini asks for a stream in the address, all others in the body.
                streamed = b'"stream":true' in body or "alt=sse" in head
                streams, wholes = self.first.pop(0) if self.first else (self._streamed, self._whole)
                steps = streams if streamed else wholes
                if not await self._play(steps, reader, writer):
                    break
        writer.close()

    async def close(self) -> None:
        """End all connections."""
        for writer in self._open:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._open), return_exceptions=True)

    async def _play(
        self, steps: tuple[Step, ...], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        for step in steps:
            match step:
                case Hold():
                    await reader.read()
                    self.abandoned.set()
                    return False
                case HangUp():
                    return False
                case bytes():
                    writer.write(step)
                    await writer.drain()
                    # The client shall see the pieces one by one.
                    await asyncio.sleep(0)
        return True


@contextlib.asynccontextmanager
async def model_endpoint() -> AsyncGenerator[ModelEndpoint]:
    """An endpoint that listens; it ends with the block."""
    endpoint = ModelEndpoint()
    server = await asyncio.start_server(endpoint.handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield endpoint
    finally:
        server.close()
        await endpoint.close()


def response(status: int, body: bytes, *headers: str, content_type: str = "application/json") -> bytes:
    """A whole HTTP response."""
    lines = [
        f"HTTP/1.1 {status} X",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
)
STREAM_END: Final = b"0\r\n\r\n"


def piece(data: bytes) -> bytes:
    """One piece of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def delta(fields: dict[str, object], *, finish: str | None = None) -> bytes:
    """One chunk of a streamed completion, as a piece of the body."""
    return piece(event({"id": "r", "model": "m", "choices": [choice("delta", fields, finish)]}))


def last() -> bytes:
    """Usage and the end of a stream."""
    return piece(event({"choices": [], "usage": CONTRACT_USAGE})) + piece(b"data: [DONE]\n\n") + STREAM_END


def event(value: object) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def completion(message: dict[str, object], *, finish: str) -> bytes:
    """A completion that comes whole."""
    value = {
        "id": "r",
        "model": "m",
        "choices": [choice("message", message, finish)],
        "usage": CONTRACT_USAGE,
    }
    return json.dumps(value).encode()


def choice(kind: str, fields: dict[str, object], finish: str | None) -> dict[str, object]:
    """The one choice of a chunk or a completion."""
    return {"index": 0, kind: fields, "finish_reason": finish}
