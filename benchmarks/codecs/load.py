"""How every side is measured: CPU of the whole process for calls one after the other. Imports the standard library only.

A call of few and a call of many chunks give the cost of a chunk (the slope) and of a call (what is left at none).
"""

import gc
import time
from collections.abc import Awaitable, Callable

FEW, TYPICAL, MANY = 3, 43, 243
Ask = Callable[[str, bool], Awaitable[str]]
"""Asks a model, streamed or whole; the text of the answer."""


async def figures(ask: Ask, *, calls: int) -> dict[str, float]:
    """Microseconds of CPU, user and system, all threads: for a chunk, for a call, for the typical stream."""
    few = await cpu_us(ask, FEW, streamed=True, calls=calls)
    many = await cpu_us(ask, MANY, streamed=True, calls=max(2, calls // 4))
    us_per_chunk = (many - few) / (MANY - FEW)
    return {
        "us_per_chunk": us_per_chunk,
        "us_per_call": few - us_per_chunk * FEW,
        "us_per_stream": await cpu_us(ask, TYPICAL, streamed=True, calls=calls),
        "us_per_whole_call": await cpu_us(ask, TYPICAL, streamed=False, calls=calls),
    }


async def cpu_us(ask: Ask, chunks: int, *, streamed: bool, calls: int) -> float:
    """Of one call; some go before that do not count."""
    model = f"chunks-{chunks}"
    expected = await ask(model, streamed)
    if not expected:
        raise ValueError(f"{model}: nothing was read")
    for _ in range(calls // 10):
        await ask(model, streamed)
    gc.collect()
    started_s = time.process_time()
    for _ in range(calls):
        if await ask(model, streamed) != expected:
            raise ValueError(f"{model}: another text")
    return (time.process_time() - started_s) / calls * 1e6
