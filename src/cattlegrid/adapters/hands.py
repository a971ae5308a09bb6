"""Threads that are used again: whoever has something to do in a thread gets an idle one, or else a new one.

Starting a thread makes the event loop wait until it runs, which takes longer than most tools do. All methods belong to
one event loop; only the work itself runs elsewhere. The threads are daemons: work that hangs keeps no process alive.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

KEPT: Final = 8
"""How many idle threads are kept."""


class Hands(Generic[T]):
    """The threads of one process for work that gives a `T` and never raises."""

    def __init__(self, *, kept: int = KEPT) -> None:
        self._kept = kept
        self._idle: list[_Hand[T]] = []

    def start(self, name: str, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Have something done; the future has what came of it.

        Raises:
            RuntimeError: the machine has no thread left.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        hand = self._idle.pop() if self._idle else _Hand(asyncio.get_running_loop(), self._rest)
        hand.do(name, work, done)
        return done

    def close(self) -> None:
        """End the idle threads; the others end with the process."""
        for hand in self._idle:
            hand.end()
        self._idle.clear()
        self._kept = 0

    def _rest(self, hand: "_Hand[T]") -> None:
        if len(self._idle) < self._kept:
            self._idle.append(hand)
        else:
            hand.end()


class _Hand(Generic[T]):
    """One thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rest: "Callable[[_Hand[T]], None]") -> None:
        self._loop = loop
        self._rest = rest
        self._orders: queue.SimpleQueue[tuple[str, Callable[[], T], asyncio.Future[T]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def do(self, name: str, work: Callable[[], T], done: "asyncio.Future[T]") -> None:
        self._orders.put((name, work, done))

    def end(self) -> None:
        self._orders.put(None)

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            self._thread.name, work, done = order
            found = work()
            del order, work  # an idle thread must not keep what it was given
            try:
                self._loop.call_soon_threadsafe(self._settle, done, found)
            except RuntimeError:
                return  # the loop is closed: nobody waits for the result
            del done, found

    def _settle(self, done: "asyncio.Future[T]", found: T) -> None:
        if not done.done():
            done.set_result(found)
        self._rest(self)
