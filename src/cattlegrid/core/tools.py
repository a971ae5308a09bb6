"""Turns a plain typed function into a declared tool: what it does to the world, and how it may be repeated.

The decorator only attaches a `ToolDeclaration`; the schema of arguments and result is derived from the signature
when a bundle is built (`release`), and the function is called by the tool gateway (`adapters`), never directly by
the loop.
"""

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

import msgspec

from cattlegrid.core.errors import ToolError
from cattlegrid.core.principal import Principal

DECLARATION_ATTRIBUTE = "__cattlegrid_tool__"

F = TypeVar("F", bound=Callable[..., object])


class Effect(StrEnum):
    """What a tool does to the world; only `READ` may run without a durable intent before it."""

    READ = "read"
    WRITE = "write"
    EGRESS = "egress"
    DESTRUCTIVE = "destructive"


class Retry(StrEnum):
    """What may happen after a call whose outcome is unknown.

    `FREE`: calling again is harmless. `KEYED`: calling again with the same idempotency key is harmless.
    `ONCE`: the call is in doubt until its `reconcile` tool or a person has answered.
    """

    FREE = "free"
    KEYED = "keyed"
    ONCE = "once"


class NotExecuted(ToolError):
    """Raised by a tool that knows that its side effect did not happen; the only exception that never leaves doubt."""

    code = "tool_not_executed"


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool learns from the runtime, never from the model: a parameter annotated `Context` receives it."""

    principal: Principal
    session_id: str
    run_id: str
    idempotency_key: str
    """The same for every attempt of one step; hand it to the system that performs the effect."""
    deadline_s: float
    """Seconds this call may still take when it starts; the call is abandoned after that."""
    log: logging.Logger


class ToolDeclaration(msgspec.Struct, frozen=True, kw_only=True):
    """What `@tool` was told; names of other tools are checked when the bundle is built."""

    effect: Effect
    retry: Retry
    timeout_s: float
    undo: str | None = None
    reconcile: str | None = None


def tool(
    *,
    effect: str = "read",
    retry: str | None = None,
    timeout_s: float = 10.0,
    undo: str | None = None,
    reconcile: str | None = None,
) -> Callable[[F], F]:
    """Declare a function as a tool of the agent.

    Args:
        effect: `read`, `write`, `egress` or `destructive`.
        retry: `free`, `keyed` or `once`; by default `free` for a read and `once` for everything else.
        timeout_s: seconds after which the call is abandoned.
        undo: the name of the tool that takes this effect back. It is called with those of the original arguments,
            and of `result`, that its signature names; it is not offered to the model.
        reconcile: the name of a read tool that tells whether a call in doubt happened. It is called with those of
            the original arguments that its signature names: a value is the result of the call, `None` says that it
            did not happen, an exception that nobody knows. It is not offered to the model.

    Raises:
        ValueError: a word that is none of the above, or a time-out that is not positive.
    """
    declared_effect = Effect(effect)
    default_retry = Retry.FREE if declared_effect is Effect.READ else Retry.ONCE
    if timeout_s <= 0:
        raise ValueError(f"timeout_s must be positive, not {timeout_s}")
    declaration = ToolDeclaration(
        effect=declared_effect,
        retry=Retry(retry) if retry is not None else default_retry,
        timeout_s=timeout_s,
        undo=undo,
        reconcile=reconcile,
    )

    def declare(function: F) -> F:
        setattr(function, DECLARATION_ATTRIBUTE, declaration)
        return function

    return declare


def declaration_of(function: object) -> ToolDeclaration | None:
    """The declaration that `@tool` attached, or None for a function that is no tool."""
    found = getattr(function, DECLARATION_ATTRIBUTE, None)
    return found if isinstance(found, ToolDeclaration) else None
