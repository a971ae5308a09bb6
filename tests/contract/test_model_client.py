"""The contract of model clients, held by the one in memory and by the one over HTTP in front of a loopback endpoint."""

from collections.abc import AsyncIterator

import anyio
import pytest

from cattlegrid.adapters.clock import SystemClock
from cattlegrid.adapters.models import Endpoint, HttpModelClient
from cattlegrid.core.errors import (
    ContextTooLong,
    ModelProtocolError,
    ModelRateLimited,
    ModelRejected,
    ModelUnavailable,
)
from cattlegrid.core.ports import Clock
from cattlegrid.testing.contracts.model_client import (
    CALLS,
    TEXT,
    USAGE,
    Behaviour,
    ModelClientContract,
    ModelUnderTest,
)
from cattlegrid.testing.models import Answer, Break, FakeModel, Stall, answer
from tests.contract.model_endpoint import (
    HANG_UP,
    HOLD,
    STREAM_END,
    STREAM_HEAD,
    ModelEndpoint,
    Step,
    completion,
    delta,
    last,
    model_endpoint,
    piece,
    response,
)

pytestmark = pytest.mark.anyio

IN_MEMORY: dict[Behaviour, Answer] = {
    Behaviour.ANSWERS: answer(TEXT, usage=USAGE),
    Behaviour.CALLS: answer(calls=CALLS, usage=USAGE),
    Behaviour.SILENT: Stall(),
    Behaviour.STALLS: Stall(("It ",)),
    Behaviour.CUT: Break(("It ",), ModelProtocolError("")),
    Behaviour.MALFORMED: Break(("It ",), ModelProtocolError("")),
    Behaviour.HUGE: Break((), ModelProtocolError("")),
    Behaviour.RATE_LIMITED: ModelRateLimited("", retry_after_s=7.0),
    Behaviour.BROKEN: ModelUnavailable(""),
    Behaviour.REJECTS: ModelRejected(""),
    Behaviour.TOO_LONG: ContextTooLong(""),
    Behaviour.AWAY: ModelUnavailable(""),
}


class InMemory:
    """See `ModelUnderTest`."""

    def __init__(self) -> None:
        self.clock: Clock = SystemClock()
        self._model: FakeModel | None = None

    async def behaving(self, behaviour: Behaviour) -> FakeModel:
        self._model = FakeModel(lambda _: IN_MEMORY[behaviour], clock=self.clock)
        return self._model

    async def reached(self) -> None:
        while not (self._model and self._model.open_calls):
            await anyio.lowlevel.checkpoint()

    async def left(self) -> None:
        while not self._model or self._model.open_calls:
            await anyio.lowlevel.checkpoint()


RESPONSE_BYTES = 100_000
HEAD = STREAM_HEAD + delta({"role": "assistant", "content": ""})
FIRST = HEAD + delta({"content": "It "})
WHOLE = response(200, completion({"role": "assistant", "content": TEXT}, finish="stop"))
TOOL_CALLS = [
    {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    for call in CALLS
]


def refused(status: int, error: str, *headers: str) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    said = (response(status, b'{"error":{"message":"' + error.encode() + b'"}}', *headers),)
    return said, said


OVER_HTTP: dict[Behaviour, tuple[tuple[Step, ...], tuple[Step, ...]]] = {
    Behaviour.ANSWERS: (
        (
            FIRST,
            delta({"content": "is on its way. "}),
            # A character that is split between two pieces.
            *(
                piece(half)
                for half in (b'data: {"choices":[{"delta":{"content":"\xf0\x9f', b'\x90\x84"}}]}\n\n')
            ),
            delta({}, finish="stop"),
            last(),
        ),
        (WHOLE,),
    ),
    Behaviour.CALLS: (
        (
            HEAD
            + delta({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "find_order"}}]})
            + delta({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "find_order"}}]}),
            delta({"tool_calls": [{"index": 1, "function": {"arguments": '{"order":18}'}}]}),
            delta({"tool_calls": [{"index": 0, "function": {"arguments": '{"order":17}'}}]}),
            delta({}, finish="tool_calls") + last(),
        ),
        (response(200, completion({"content": None, "tool_calls": TOOL_CALLS}, finish="tool_calls")),),
    ),
    Behaviour.SILENT: ((HOLD,), (HOLD,)),
    Behaviour.STALLS: ((FIRST, HOLD), (WHOLE[:-30], HOLD)),
    Behaviour.CUT: ((FIRST, STREAM_END), (WHOLE[:-30], HANG_UP)),
    Behaviour.MALFORMED: (
        (FIRST, piece(b"data: <html>\n\n"), last()),
        (response(200, b"<html>"),),
    ),
    Behaviour.HUGE: (
        (FIRST, *(delta({"content": "x" * 1_000}) for _ in range(120)), HOLD),
        (response(200, completion({"content": "x" * 120_000}, finish="stop")),),
    ),
    Behaviour.RATE_LIMITED: refused(429, "slow down", "Retry-After: 7"),
    Behaviour.BROKEN: refused(500, "oops"),
    Behaviour.REJECTS: refused(401, "bad key"),
    Behaviour.TOO_LONG: refused(400, "maximum context length is 8192 tokens"),
}


class OverHttp:
    """See `ModelUnderTest`."""

    def __init__(self, endpoint: ModelEndpoint) -> None:
        self.clock: Clock = SystemClock()
        self._endpoint = endpoint
        self.clients: list[HttpModelClient] = []

    async def behaving(self, behaviour: Behaviour) -> HttpModelClient:
        url = self._endpoint.url
        if behaviour is Behaviour.AWAY:
            async with model_endpoint() as gone:
                url = gone.url
        else:
            self._endpoint.play(*OVER_HTTP[behaviour])
        settings = Endpoint(name="loopback", base_url=url, response_bytes=RESPONSE_BYTES)
        self.clients.append(HttpModelClient(settings, api_key="", clock=self.clock))
        return self.clients[-1]

    async def reached(self) -> None:
        await self._endpoint.arrived.wait()

    async def left(self) -> None:
        await self._endpoint.abandoned.wait()


@pytest.mark.requirement("model:errors", "fault:model-down")
class TestInMemory(ModelClientContract):
    @pytest.fixture
    def model(self) -> ModelUnderTest:
        return InMemory()


@pytest.mark.requirement("model:errors", "model:parallel-calls", "fault:model-down")
class TestOverHttp(ModelClientContract):
    @pytest.fixture
    async def model(self) -> AsyncIterator[ModelUnderTest]:
        async with model_endpoint() as endpoint:
            under_test = OverHttp(endpoint)
            yield under_test
            for client in under_test.clients:
                await client.close()
