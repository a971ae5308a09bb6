"""Calls to the scripted model over HTTP: each of its faults once, and the answer is the same all the same."""

from random import Random

import pytest

from cattlegrid.adapters.clock import SystemClock
from cattlegrid.adapters.models import Endpoint, HttpModelClient
from cattlegrid.calls.perform import Calls, Clients
from cattlegrid.calls.retry import RetryPolicy, attempts_of
from cattlegrid.calls.schemas import ToolSchemas
from cattlegrid.core.cleared import Cleared
from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import ModelError, ModelProtocolError, ModelTimeout, ModelUnavailable
from cattlegrid.core.messages import Message, ModelDelta, ModelRequest, Role, StreamRestarted, TextDelta
from cattlegrid.core.money import Price
from cattlegrid.core.requests import ModelOutcome
from cattlegrid.testing.scripted import ScriptedModelServer
from cattlegrid.testing.tools import FunctionTools

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("model:retries", "fault:model-down")]

CLOCK = SystemClock()
REQUEST = ModelRequest(
    provider="scripted",
    model="gpt-4.1-mini",
    messages=(Message(role=Role.USER, text="What can you do for me, and what can you not do?"),),
)


class OnePrice:
    """The same price for every model."""

    def price(self, provider: str, model: str) -> Price:
        dollar = 10**9
        return Price(
            input_nano_usd=dollar,
            output_nano_usd=dollar,
            cache_read_nano_usd=dollar,
            cache_write_nano_usd=dollar,
        )


async def asked(fault: str, *, streamed: bool, attempts: int = 3) -> tuple[ModelOutcome, list[ModelDelta]]:
    """What comes of one call to a scripted model with this fault, and the deltas on the way."""
    deltas: list[ModelDelta] = []
    async with ScriptedModelServer(fault=fault) as server:
        settings = Endpoint(name="scripted", base_url=server.base_url, first_byte_s=0.2, between_chunks_s=0.2)
        client = HttpModelClient(settings, api_key="", clock=CLOCK)
        calls = Calls(
            Clients({"scripted": client}, FunctionTools({}, clock=CLOCK)),
            OnePrice(),
            schemas=ToolSchemas(),
            clock=CLOCK,
            random=Random(1),
            policy=RetryPolicy(attempts=attempts, base_s=0.0),
        )
        try:
            outcome = await calls.perform(
                Cleared(REQUEST),
                deadline=Deadline.after(CLOCK, 10.0),
                on_delta=deltas.append if streamed else None,
            )
        finally:
            await client.close()
    return outcome, deltas


def shown(deltas: list[ModelDelta]) -> str:
    """The text that a reader has before them in the end."""
    text = ""
    for delta in deltas:
        text = text + delta.text if isinstance(delta, TextDelta) else ""
    return text


@pytest.mark.parametrize(
    "fault", ["500", "429;delay=0", "cut", "cut;at=2", "malformed", "stall;at=2;delay=5", "stall;delay=5"]
)
async def test_a_fault_costs_an_attempt_and_never_the_answer(fault: str) -> None:
    whole, _ = await asked("", streamed=False)
    outcome, deltas = await asked(fault, streamed=True)
    assert outcome.attempts == 2
    assert outcome.response.message == whole.response.message
    assert outcome.response.finish_reason is whole.response.finish_reason
    assert shown(deltas) == whole.response.message.text
    assert deltas.count(StreamRestarted()) <= 1


async def test_without_a_fault_streamed_and_whole_answers_cost_the_same() -> None:
    whole, _ = await asked("", streamed=False)
    streamed, deltas = await asked("", streamed=True)
    assert (whole.attempts, streamed.attempts) == (1, 1)
    assert whole.response.usage == streamed.response.usage
    assert whole.cost_nano_usd == streamed.cost_nano_usd > 0
    assert not whole.response.usage.estimated
    assert shown(deltas) == whole.response.message.text


@pytest.mark.parametrize(
    ("fault", "kind", "streamed"),
    [
        ("500;count=9", ModelUnavailable, True),
        ("500;count=9", ModelUnavailable, False),
        ("cut;count=9", ModelProtocolError, True),
        ("cut;count=9", ModelProtocolError, False),
        ("malformed;count=9", ModelProtocolError, True),
        ("malformed;count=9", ModelProtocolError, False),
        ("stall;count=9;delay=5", ModelTimeout, True),
    ],
)
async def test_a_fault_that_stays_is_the_error_of_the_last_attempt(
    fault: str, kind: type[ModelError], *, streamed: bool
) -> None:
    with pytest.raises(kind) as raised:
        await asked(fault, streamed=streamed, attempts=2)
    assert attempts_of(raised.value) == 2
