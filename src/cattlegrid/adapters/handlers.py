"""Who does the tasks of which name: turns payloads into JSON and back, and calls the handler."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import structlog

from cattlegrid.core.errors import CattlegridError
from cattlegrid.core.ports import PAYLOAD_BYTES, Payload, Task

ATTEMPTS: Final = 5
"""How often a task is tried before it is given up."""
_LATER: Final = 4
KEPT_S: Final = 7 * 86_400.0
"""How long it is known that a task has ended."""

_log = structlog.get_logger("cattlegrid.jobs")


class _Handler(msgspec.Struct, frozen=True):
    payload: type[msgspec.Struct]
    decode: Callable[[bytes], Any]
    call: Callable[[Any], Awaitable[object]]


class Handlers:
    """The handlers of one process."""

    def __init__(self) -> None:
        self._handlers: dict[str, _Handler] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._handlers)

    def add(self, name: str, payload: type[Payload], call: Callable[[Payload], Awaitable[object]]) -> None:
        """Register. Raises ValueError: the name has a handler."""
        if name in self._handlers:
            raise ValueError(f"`{name}` has a handler")
        self._handlers[name] = _Handler(payload, msgspec.json.Decoder(payload).decode, call)

    def encode(self, task: Task) -> bytes:
        """The payload as JSON. Raises ValueError: see `Jobs.put`."""
        handler = self._handlers.get(task.name)
        if handler is None:
            raise ValueError(f"nobody handles `{task.name}`")
        if type(task.payload) is not handler.payload:
            raise ValueError(f"`{task.name}` takes a {handler.payload.__name__}")
        encoded = msgspec.json.encode(task.payload)
        if len(encoded) > PAYLOAD_BYTES:
            raise ValueError(
                f"the payload of a `{task.name}` has {len(encoded)} bytes, {PAYLOAD_BYTES} may be"
            )
        return encoded

    async def call(self, name: str, payload: bytes, *, attempt: int) -> bool:
        """Have a task done; whether it was. Why it was not is logged."""
        handler = self._handlers[name]
        try:
            await handler.call(handler.decode(payload))
        except Exception as error:  # noqa: BLE001 - the top of a task: said, then tried again
            _log.warning("task_failed", job=name, error=code_of(error), attempt=attempt)
            return False
        return True


def code_of(error: Exception) -> str:
    """What logs may say of an error."""
    return error.code if isinstance(error, CattlegridError) else type(error).__name__


def pause_s(attempt: int, *, first_s: float) -> float:
    """How long to wait after attempt number `attempt` has failed, counted from 1."""
    return first_s * float(_LATER ** (attempt - 1))
