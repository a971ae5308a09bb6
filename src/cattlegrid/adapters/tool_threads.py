"""Runs the functions of tools, each within its time: plain ones in threads, `async` ones in the event loop.

Python cannot stop a thread, so a call that is late is abandoned: its place goes to the next call, and the thread is
counted until it comes back by itself. A tool with too many of those is not called any more, so that one tool that
hangs takes neither the others' threads nor the machine's.
"""

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from cattlegrid.adapters.hands import Hands
from cattlegrid.core.tools import NotExecuted

RUNNING: Final = 32
STUCK_PER_TOOL: Final = 4
STUCK: Final = 64


class Returned(msgspec.Struct, frozen=True):
    """What came of a call that ended: a value, or what it raised."""

    value: Any = None
    error: BaseException | None = None


class ToolThreads:
    """Room for calls of tools, of one process. For one event loop."""

    def __init__(
        self, *, running: int = RUNNING, stuck_per_tool: int = STUCK_PER_TOOL, stuck: int = STUCK
    ) -> None:
        self._places = asyncio.Semaphore(running)
        self._stuck_per_tool = stuck_per_tool
        self._most_stuck = stuck
        self._stuck: Counter[str] = Counter()
        self._abandoned: dict[asyncio.Future[Returned], str] = {}
        """Calls that were late, and under which key they were made."""
        self._hands: Hands[Returned] = Hands()

    @property
    def stuck(self) -> int:
        """Calls that were abandoned and have not come back."""
        return self._stuck.total()

    async def run(
        self, name: str, work: Callable[[], Any], *, timeout_s: float, call_key: str = ""
    ) -> Returned | None:
        """Call `work` in a thread; None when it is late, and then it may still go on, as `over` tells of its key.

        Raises:
            NotExecuted: `work` was not called, because there is no room for it.
        """
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + timeout_s
        await self._enter(name, timeout_s)
        try:
            context = contextvars.copy_context()
            try:
                returned = self._hands.start(f"cattlegrid-tool-{name}", lambda: context.run(_called, work))
            except RuntimeError as error:
                raise NotExecuted(
                    "The machine has no thread left for this tool.", detail=str(error)
                ) from error
            return await self._in_time(name, returned, ends_s - loop.time(), call_key=call_key)
        finally:
            self._places.release()

    async def run_async(
        self, name: str, work: Callable[[], Coroutine[Any, Any, Any]], *, timeout_s: float, call_key: str = ""
    ) -> Returned | None:
        """Await `work` in a task of its own, which is cancelled when it is late; then None.

        Raises:
            NotExecuted: `work` was not called, because earlier calls do not end.
        """
        self._refuse_when_stuck(name)
        task = asyncio.ensure_future(_awaited(work))
        try:
            return await self._in_time(name, task, timeout_s, call_key=call_key)
        finally:
            task.cancel()

    def close(self) -> None:
        """End the threads that are idle."""
        self._hands.close()

    async def came_back(self) -> None:
        """Return once every call that was abandoned so far has come back; that may be never."""
        if self._abandoned:
            await asyncio.wait(self._abandoned)

    async def over(self, call_key: str, *, within_s: float) -> bool:
        """Whether every call under a key has come back, at the latest when the time is over."""
        late = [call for call, key in self._abandoned.items() if key == call_key]
        if late:
            await asyncio.wait(late, timeout=within_s)
        return all(call.done() for call in late)

    async def _enter(self, name: str, timeout_s: float) -> None:
        self._refuse_when_stuck(name)
        try:
            async with asyncio.timeout(timeout_s):
                await self._places.acquire()
        except TimeoutError as error:
            raise NotExecuted("Too many tools run at once, so this one was not called.") from error

    async def _in_time(
        self, name: str, call: "asyncio.Future[Returned]", timeout_s: float, *, call_key: str = ""
    ) -> Returned | None:
        try:
            await asyncio.wait({call}, timeout=max(0.0, timeout_s))
        finally:
            if not call.done():
                self._abandon(name, call, call_key)
        return call.result() if call.done() else None

    def _abandon(self, name: str, call: "asyncio.Future[Returned]", call_key: str) -> None:
        self._stuck[name] += 1
        self._abandoned[call] = call_key  # a task that nobody refers to may vanish

        def came_back(_: "asyncio.Future[Returned]") -> None:
            del self._abandoned[call]
            self._stuck[name] -= 1
            if not self._stuck[name]:
                del self._stuck[name]

        call.add_done_callback(came_back)

    def _refuse_when_stuck(self, name: str) -> None:
        count = self._stuck.get(name, 0)
        if count >= self._stuck_per_tool or self.stuck >= self._most_stuck:
            detail = f"{name}: {count} calls were abandoned and still run; {self.stuck} of all tools"
            raise NotExecuted("The tool does not answer, so it was not called again.", detail=detail)


def _called(work: Callable[[], Any]) -> Returned:
    try:
        return Returned(work())
    except BaseException as error:  # noqa: BLE001 - the top of a worker: what a tool raises is its result
        return Returned(error=error)


async def _awaited(work: Callable[[], Coroutine[Any, Any, Any]]) -> Returned:
    try:
        return Returned(await work())
    except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001 - see above
        return Returned(error=error)
