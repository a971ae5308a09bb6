"""Turns a cleared request into an outcome: the only way out to a model or a tool.

A model is asked up to `RetryPolicy.attempts` times, as far as another attempt may help and the deadline allows. A tool
is called again here only where that is surely harmless; everything else about effects is for the runtime to decide.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from random import Random
from typing import Final, TypeVar, overload

import msgspec

from cattlegrid.calls.ports import ModelClient, OnDelta, Prices, ToolClient
from cattlegrid.calls.retry import (
    TOOL_ATTEMPTS,
    Retries,
    RetryPolicy,
    model_may_repeat,
    note_attempts,
    tool_may_repeat,
)
from cattlegrid.calls.schemas import ToolSchemas
from cattlegrid.calls.wire.errors import model_error
from cattlegrid.core.bundle import Bundle
from cattlegrid.core.cleared import Cleared
from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import ConfigurationError, ModelError, ModelTimeout, ToolError, ToolTimeout
from cattlegrid.core.messages import ModelDelta, ModelRequest, StreamRestarted
from cattlegrid.core.ports import Clock
from cattlegrid.core.requests import ModelOutcome, ToolOutcome, ToolRequest
from cattlegrid.core.tools import NotExecuted

T = TypeVar("T")

RESULT_BYTES: Final = 65_536
_GRACE_S: Final = 0.25
"""How much later than a client that keeps its contract the deadline ends an attempt by force."""
_LATE: Final = "ended by force after its deadline"


class Clients(msgspec.Struct, frozen=True):
    """The ends of the wires: model clients by the provider that requests name, and the tools."""

    models: Mapping[str, ModelClient]
    tools: ToolClient


class Calls:
    """Makes calls; one instance serves the process."""

    def __init__(
        self,
        clients: Clients,
        prices: Prices,
        *,
        schemas: ToolSchemas,
        clock: Clock,
        random: Random,
        policy: RetryPolicy = RetryPolicy(),
    ) -> None:
        self._models = clients.models
        self._tools = clients.tools
        self._prices = prices
        self._schemas = schemas
        self._clock = clock
        self._retries = Retries(policy, clock=clock, random=random)

    @overload
    async def perform(
        self,
        cleared: Cleared[ModelRequest],
        *,
        deadline: Deadline,
        on_delta: OnDelta | None = None,
        result_bytes: int = RESULT_BYTES,
    ) -> ModelOutcome: ...

    @overload
    async def perform(
        self,
        cleared: Cleared[ToolRequest],
        *,
        deadline: Deadline,
        on_delta: OnDelta | None = None,
        result_bytes: int = RESULT_BYTES,
    ) -> ToolOutcome: ...

    async def perform(
        self,
        cleared: Cleared[ModelRequest] | Cleared[ToolRequest],
        *,
        deadline: Deadline,
        on_delta: OnDelta | None = None,
        result_bytes: int = RESULT_BYTES,
    ) -> ModelOutcome | ToolOutcome:
        """Make the call, and make it again where that is allowed and may help.

        Args:
            cleared: the request, let through by the guards.
            deadline: when the call must be over, pauses and further attempts included.
            on_delta: for a model: where the answer goes as it comes; `StreamRestarted` voids what came before.
                A tool has nothing to stream.
            result_bytes: for a tool: the longest result that is let in. A model's answer is bounded by its client.

        Raises:
            ModelError, ToolError: one of their leaves, of the last attempt; `attempts_of` tells how many were made.
            NotExecuted: the tool's effect surely did not happen; also when there was no time left to call it.
            ConfigurationError: no such provider, or no price for the model; nothing was sent.
        """
        request = cleared.request
        if isinstance(request, ModelRequest):
            return await self._ask_model(request, deadline, on_delta)
        return await self._call_tool(request, deadline, result_bytes)

    async def over(self, idempotency_key: str, *, deadline: Deadline) -> bool:
        """Whether no call with this key is under way here any more; see `ToolClient.over`."""
        return await self._tools.over(idempotency_key, deadline=deadline)

    async def snapshot(self, bundle: Bundle) -> str:
        """The value of the bundle's `snapshot` function, empty when it has none."""
        return await self._tools.snapshot(bundle)

    async def _ask_model(
        self, request: ModelRequest, deadline: Deadline, on_delta: OnDelta | None
    ) -> ModelOutcome:
        client = self._models.get(request.provider)
        if client is None:
            raise _unknown_provider(request.provider, self._models)
        price = self._prices.price(request.provider, request.model)
        if not deadline.remaining_s(self._clock):
            raise model_error(ModelTimeout, "no time left to ask")
        started_s = self._clock.monotonic_s()
        relay = _Relay(on_delta, self._clock)
        attempt = 0
        while True:
            attempt += 1
            try:
                chat = client.chat(request, deadline=deadline, on_delta=relay.send if on_delta else None)
                response = await self._bounded(chat, deadline, late=model_error(ModelTimeout, _LATE))
                break
            except ModelError as error:
                pause_s = self._retries.pause_s(error, attempt=attempt, deadline=deadline)
                if pause_s is None or attempt >= self._retries.policy.attempts or not model_may_repeat(error):
                    note_attempts(error, attempt)
                    raise
            await self._clock.sleep(pause_s)
            relay.restart()
        return ModelOutcome(
            response=response,
            provider=client.endpoint,
            cost_nano_usd=price.cost_nano_usd(response.usage),
            attempts=attempt,
            duration_s=self._clock.monotonic_s() - started_s,
            first_delta_s=None if relay.first_at_s is None else relay.first_at_s - started_s,
        )

    async def _call_tool(self, request: ToolRequest, deadline: Deadline, result_bytes: int) -> ToolOutcome:
        if not deadline.remaining_s(self._clock):
            raise NotExecuted("There was no time left to call the tool.")
        started_s = self._clock.monotonic_s()
        tool = request.tool
        attempt = 0
        while True:
            attempt += 1
            ends = deadline.sooner(self._clock, tool.timeout_s)
            try:
                late = ToolTimeout("The tool did not answer in time.", detail=f"{tool.name}: {_LATE}")
                value = await self._bounded(self._tools.call(request, deadline=ends), ends, late=late)
                value = self._schemas.result(request.bundle, tool, value, max_bytes=result_bytes)
                break
            except ToolError as error:
                pause_s = self._retries.pause_s(error, attempt=attempt, deadline=deadline)
                if pause_s is None or attempt >= TOOL_ATTEMPTS or not tool_may_repeat(error, tool.retry):
                    note_attempts(error, attempt)
                    raise
            await self._clock.sleep(pause_s)
        return ToolOutcome(value=value, attempts=attempt, duration_s=self._clock.monotonic_s() - started_s)

    async def _bounded(
        self, call: Awaitable[T], deadline: Deadline, *, late: ModelTimeout | ToolTimeout
    ) -> T:
        """The result of the call, which is cancelled a moment after a deadline that it does not keep by itself."""
        try:
            async with asyncio.timeout(deadline.remaining_s(self._clock) + _GRACE_S):
                return await call
        except TimeoutError as error:
            raise late from error


class _Relay:
    """Hands deltas on, and knows whether there is something to take back."""

    def __init__(self, on_delta: OnDelta | None, clock: Clock) -> None:
        self._on_delta = on_delta
        self._clock = clock
        self.first_at_s: float | None = None

    def send(self, delta: ModelDelta) -> None:
        if self.first_at_s is None:
            self.first_at_s = self._clock.monotonic_s()
        if self._on_delta is not None:
            self._on_delta(delta)

    def restart(self) -> None:
        if self.first_at_s is not None:
            self.send(StreamRestarted())
            self.first_at_s = None


def _unknown_provider(provider: str, models: Mapping[str, ModelClient]) -> ConfigurationError:
    known = ", ".join(sorted(models)) or "none"
    return ConfigurationError(
        "The agent's model is not set up.", detail=f"no client for provider {provider!r}; known: {known}"
    )
