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
from cattlegrid.core.messages import FinishReason
from cattlegrid.core.ports import Clock
from cattlegrid.testing import models
from cattlegrid.testing.contracts.model_client import (
    CALLS,
    TEXT,
    USAGE,
    Behaviour,
    ModelClientContract,
    ModelUnderTest,
)
from cattlegrid.testing.models import Break, FakeModel, Stall, answer
from tests.contract.model_endpoint import (
    HANG_UP,
    HOLD,
    STREAM_END,
    STREAM_HEAD,
    ModelEndpoint,
    Step,
    model_endpoint,
    piece,
    response,
)
from tests.wires.answers import Answer, Called, Said
from tests.wires.every import WIRES
from tests.wires.wire import RecordedWire

pytestmark = pytest.mark.anyio

IN_MEMORY: dict[Behaviour, models.Answer] = {
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
ANSWER = Answer(parts=(Said(("It ", "is on its way. ", "🐄")),), usage=USAGE)
ASKING = Answer(
    parts=tuple(Called(call.id, call.name, (call.arguments[:6], call.arguments[6:])) for call in CALLS),
    reason=FinishReason.TOOL_CALLS,
    usage=USAGE,
    interleaved=True,
)
ENDLESS = Answer(parts=(Said(("x" * 1_000,) * 120),))
Steps = tuple[Step, ...]


def refused(status: int, error: str, *headers: str) -> tuple[Steps, Steps]:
    said = (response(status, b'{"error":{"message":"' + error.encode() + b'"}}', *headers),)
    return said, said


def events(data: bytes) -> Steps:
    """A stream event by event, and the last character of the text in two pieces."""
    cow = "🐄".encode()
    cut = (
        data.replace(b"\n\n", b"\n\n\0")
        .replace(b"\r\n\r\n", b"\r\n\r\n\0")
        .replace(cow, cow[:2] + b"\0" + cow[2:], 1)
    )
    return (STREAM_HEAD, *(piece(part) for part in cut.split(b"\0") if part), STREAM_END)


def over_http(wire: RecordedWire, behaviour: Behaviour) -> tuple[Steps, Steps]:
    """What the endpoint sends to a call that streams, and to one that does not."""
    whole = response(200, wire.body(ANSWER))
    first = STREAM_HEAD + piece(wire.begun)
    match behaviour:
        case Behaviour.ANSWERS:
            return events(wire.stream(ANSWER)), (whole,)
        case Behaviour.CALLS:
            return events(wire.stream(ASKING)), (response(200, wire.body(ASKING)),)
        case Behaviour.STALLS:
            return (first, HOLD), (whole[:-30], HOLD)
        case Behaviour.CUT:
            return (first, STREAM_END), (whole[:-30], HANG_UP)
        case Behaviour.MALFORMED:
            return (first, piece(b"data: <html>\n\n"), STREAM_END), (response(200, b"<html>"),)
        case Behaviour.HUGE:
            return events(wire.stream(ENDLESS)), (response(200, wire.body(ENDLESS)),)
        case _:
            return FAILING.get(behaviour, ((HOLD,), (HOLD,)))


FAILING = {
    Behaviour.RATE_LIMITED: refused(429, "slow down", "Retry-After: 7"),
    Behaviour.BROKEN: refused(500, "oops"),
    Behaviour.REJECTS: refused(401, "bad key"),
    Behaviour.TOO_LONG: refused(400, "maximum context length is 8192 tokens"),
}


class OverHttp:
    """See `ModelUnderTest`."""

    def __init__(self, endpoint: ModelEndpoint, wire: RecordedWire) -> None:
        self.clock: Clock = SystemClock()
        self._endpoint = endpoint
        self._wire = wire
        self.clients: list[HttpModelClient] = []

    async def behaving(self, behaviour: Behaviour) -> HttpModelClient:
        url = self._endpoint.url
        if behaviour is Behaviour.AWAY:
            async with model_endpoint() as gone:
                url = gone.url
        else:
            self._endpoint.play(*over_http(self._wire, behaviour))
        settings = Endpoint(
            name="loopback", base_url=url, wire=self._wire.name, response_bytes=RESPONSE_BYTES
        )
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


@pytest.mark.requirement("model:wires", "model:errors", "model:parallel-calls", "fault:model-down")
class TestOverHttp(ModelClientContract):
    @pytest.fixture(params=WIRES.values(), ids=list(WIRES))
    async def model(self, request: pytest.FixtureRequest) -> AsyncIterator[ModelUnderTest]:
        async with model_endpoint() as endpoint:
            under_test = OverHttp(endpoint, request.param)
            yield under_test
            for client in under_test.clients:
                await client.close()
