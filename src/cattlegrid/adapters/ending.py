"""Sees to it that a cancellation counts: psycopg waits by `asyncio.wait_for`, which may lose one (mended in Python 3.12).

It does when what is waited for comes in the same turn of the loop (https://github.com/python/cpython/issues/86296).
A loop that is cancelled once, and then waited for, would go on for ever.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
_AGAIN_S: Final = 0.5


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """The result of work that ends by itself in time; whoever is cancelled meanwhile is told when it has ended."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody is left to hear of it
        raise


async def until_cancelled(work: Coroutine[Any, Any, object]) -> None:
    """Do work that does not end by itself; whoever is cancelled meanwhile ends it, however often it has to be told."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task])
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_AGAIN_S)
    if not task.cancelled():
        task.result()
