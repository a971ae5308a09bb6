"""A `ToolClient` in memory: plain functions by name, called in the event loop, and a list of what they were asked.

    tools = FunctionTools({"refund": lambda order: {"refunded": order}}, clock=clock)

A function gets those arguments that the request holds, a parameter annotated `Context` what the runtime knows, and
`result`, if it has such a parameter, the result that an undo takes back.
"""

import asyncio
import inspect
import logging
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from cattlegrid.core.bundle import Bundle
from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import ToolError, ToolFailed, ToolTimeout
from cattlegrid.core.ports import Clock
from cattlegrid.core.requests import ToolRequest
from cattlegrid.core.tools import Context, NotExecuted

_LOG: Final = logging.getLogger(__name__)


class FunctionTools:
    """A `ToolClient`. A `ToolError` that a function raises goes through; anything else becomes `ToolFailed`."""

    def __init__(
        self, functions: Mapping[str, Callable[..., object]], *, clock: Clock, snapshot: str = ""
    ) -> None:
        self._functions = functions
        self._clock = clock
        self._snapshot = snapshot
        self.requests: list[ToolRequest] = []
        """What was asked, each attempt."""

    async def call(self, request: ToolRequest, *, deadline: Deadline) -> str:
        """See `ToolClient.call`."""
        self.requests.append(request)
        function = self._functions.get(request.tool.name)
        if function is None:
            raise NotExecuted(f"There is no tool {request.tool.name}.")
        try:
            arguments = self._arguments(function, request, deadline)
            value = function(**arguments)
            if inspect.isawaitable(value):
                value = await self._in_time(asyncio.ensure_future(value), request, deadline)
        except ToolError:
            raise
        except Exception as error:
            raise ToolFailed("The tool failed.", detail="".join(traceback.format_exception(error))) from error
        return msgspec.json.encode(value).decode()

    async def over(self, idempotency_key: str, *, deadline: Deadline) -> bool:
        """Always: a function that is late is cancelled."""
        return True

    async def snapshot(self, bundle: Bundle) -> str:
        return self._snapshot

    async def close(self) -> None:
        """Nothing to close."""

    def _arguments(
        self, function: Callable[..., object], request: ToolRequest, deadline: Deadline
    ) -> dict[str, Any]:
        arguments = msgspec.json.decode(request.arguments, type=dict[str, Any])
        parameters = inspect.signature(function).parameters
        if request.undone_result and "result" in parameters:
            arguments["result"] = msgspec.json.decode(request.undone_result)
        for name, parameter in parameters.items():
            if parameter.annotation in {Context, "Context"}:
                arguments[name] = Context(
                    principal=request.principal,
                    session_id=request.session_id,
                    run_id=request.run_id,
                    idempotency_key=request.idempotency_key,
                    deadline_s=deadline.remaining_s(self._clock),
                    log=_LOG,
                )
        return arguments

    async def _in_time(
        self, running: "asyncio.Future[object]", request: ToolRequest, deadline: Deadline
    ) -> object:
        """The value of an asynchronous function, by the clock of the test."""
        limit = asyncio.ensure_future(self._clock.sleep(deadline.remaining_s(self._clock)))
        try:
            await asyncio.wait({running, limit}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                raise ToolTimeout("The tool did not answer in time.", detail=request.tool.name)
            return running.result()
        finally:
            running.cancel()
            limit.cancel()
