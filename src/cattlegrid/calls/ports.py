"""The ports of the two gateways: one attempt of a model call, one attempt of a tool call, and what a model costs.

Implementations: `adapters.models` and `adapters.python_tools`; `testing.scripted` and `testing.tools` for tests.
`Ledger` and `BreakerStore` join them when budgets and breakers do.
"""

from collections.abc import Callable
from typing import Protocol

from cattlegrid.core.bundle import Bundle
from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.messages import ModelDelta, ModelRequest, ModelResponse
from cattlegrid.core.money import Price
from cattlegrid.core.requests import ToolRequest

OnDelta = Callable[[ModelDelta], None]


class ModelClient(Protocol):
    """Speaks one wire format to one endpoint."""

    @property
    def endpoint(self) -> str:
        """A short name for records and metrics: `openai`, `scripted`."""
        ...

    async def chat(
        self, request: ModelRequest, *, deadline: Deadline, on_delta: OnDelta | None
    ) -> ModelResponse:
        """Make one attempt. With `on_delta`, the answer is streamed to it as it comes.

        Raises:
            ModelError: one of its leaves; never an exception of the HTTP library.
        """
        ...

    async def close(self) -> None: ...


class ToolClient(Protocol):
    """Calls tools of a bundle."""

    async def call(self, request: ToolRequest, *, deadline: Deadline) -> str:
        """Make one attempt; the result as JSON text, not yet checked against the declared shape.

        Raises:
            NotExecuted: the effect surely did not happen.
            ToolTimeout: abandoned at the deadline; the effect may still happen.
            ToolFailed: the tool raised; `detail` has the traceback.
        """
        ...

    async def over(self, idempotency_key: str, *, deadline: Deadline) -> bool:
        """Whether no call with this key is under way here any more: true as soon as that is so, false at the deadline.

        A call that was abandoned may go on, and have its effect late.
        """
        ...

    async def snapshot(self, bundle: Bundle) -> str:
        """The value of the bundle's `snapshot` function, empty when it has none."""
        ...

    async def close(self) -> None: ...


class Prices(Protocol):
    """Looks up what a model costs."""

    def price(self, provider: str, model: str) -> Price:
        """Raises ConfigurationError, with the YAML to paste, for a model whose price is unknown."""
        ...
