"""Sends an answer over ASGI: whole, or with what its fault leaves of it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import msgspec

from cattlegrid.testing.scripted import wire
from cattlegrid.testing.scripted.conversation import Conversation
from cattlegrid.testing.scripted.faults import Fault
from cattlegrid.testing.scripted.reply import Reply

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

DEFAULT_AT = 2
"""Chunks of a stream that arrive before its fault."""


class Answer(msgspec.Struct, frozen=True):
    """What is to be sent, and what goes wrong on the way."""

    conversation: Conversation
    reply: Reply
    envelope: wire.Envelope
    fault: Fault | None


class Delivery:
    """Sends one answer, with its fault."""

    def __init__(self, send: Send, receive: Receive, *, chunk_delay_s: float) -> None:
        self._send = send
        self._receive = receive
        self._chunk_delay_s = chunk_delay_s

    async def deliver(self, answer: Answer) -> None:
        """Send the whole answer, or what its fault leaves of it."""
        fault = answer.fault
        kind = fault.kind if fault is not None else None
        if fault is not None and kind in ("500", "429"):
            await self._refuse(fault)
            return
        if fault is not None and kind == "stall" and (fault.at is None or not answer.conversation.stream):
            await self._stall(fault.delay_s)
        if answer.conversation.stream:
            await self._stream(answer)
            return
        content = wire.document(answer.reply, answer.envelope)
        if fault is not None and kind == "slow":
            await asyncio.sleep(fault.delay_s)
        whole = kind not in ("cut", "malformed")
        await send_json(self._send, 200, content if whole else content[: len(content) // 2])

    async def _refuse(self, fault: Fault) -> None:
        if fault.kind == "500":
            content = wire.error("The server had an error while processing your request", kind="server_error")
            await send_json(self._send, 500, content)
            return
        content = wire.error("Rate limit reached", kind="requests", code="rate_limit_exceeded")
        await send_json(self._send, 429, content, headers=[(b"retry-after", f"{fault.delay_s:g}".encode())])

    async def _stream(self, answer: Answer) -> None:
        chunks = wire.chunks(answer.reply, answer.envelope, include_usage=answer.conversation.include_usage)
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        fault, delay_s = answer.fault, self._chunk_delay_s
        if fault is not None:
            # A cut that left the last chunk in place would not be one.
            at = min(fault.at if fault.at is not None else DEFAULT_AT, len(chunks) - 2)
            match fault.kind:
                case "slow":
                    delay_s = fault.delay_s
                case "cut":
                    await self._write(chunks[:at], delay_s, last=True)
                    return
                case "malformed":
                    chunks[at] = b'data: {"id":"chatcmpl-' + chunks[at][-20:].strip() + b"\n\n"
                case "stall" if fault.at is not None:
                    await self._write(chunks[:at], delay_s, last=False)
                    await self._stall(fault.delay_s)
                    chunks = chunks[at:]
                case _:
                    pass
        await self._write([*chunks, wire.DONE], delay_s, last=True)

    async def _write(self, chunks: Iterable[bytes], delay_s: float, *, last: bool) -> None:
        if delay_s:
            for chunk in chunks:
                await asyncio.sleep(delay_s)
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
            rest = b""
        else:
            rest = b"".join(chunks)
        await self._send({"type": "http.response.body", "body": rest, "more_body": not last})

    async def _stall(self, delay_s: float) -> None:
        """Wait, but not for a client that has gone."""
        try:
            async with asyncio.timeout(delay_s):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            pass


async def send_json(
    send: Send, status: int, content: bytes, *, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """Send a whole JSON answer."""
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *(headers or [])]})
    await send({"type": "http.response.body", "body": content})
