"""Turns standard input into lines without holding up the event loop, so that leases are kept while somebody types."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import Final

_PIECE_BYTES: Final = 65_536


async def lines_of(file: int) -> AsyncIterator[str]:
    """The lines of an open file or terminal, without their ends, as they come."""
    rest = b""
    while piece := await _piece(file):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield _text(line)
    if rest:
        yield _text(rest)


def standard_input() -> AsyncIterator[str]:
    """The lines of standard input."""
    return lines_of(sys.stdin.fileno())


async def _piece(file: int) -> bytes:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    # A regular file cannot be waited for, and need not be: it is always readable.
    with contextlib.suppress(PermissionError):
        loop.add_reader(file, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(file)
    return os.read(file, _PIECE_BYTES)


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode("utf-8", "replace")
