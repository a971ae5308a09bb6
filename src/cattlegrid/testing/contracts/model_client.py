"""The contract of `calls.ports.ModelClient`: whatever the model does, an answer or a leaf of `ModelError`, in time.

class TestMine(ModelClientContract): ...   # with a fixture `model` that is a `ModelUnderTest`
"""

import asyncio
from enum import StrEnum
from typing import Final, Protocol

from cattlegrid.calls.ports import ModelClient
from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import (
    ContextTooLong,
    ModelError,
    ModelProtocolError,
    ModelRateLimited,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
)
from cattlegrid.core.messages import (
    FinishReason,
    Message,
    ModelDelta,
    ModelRequest,
    Role,
    TextDelta,
    ToolCall,
    Usage,
)
from cattlegrid.core.ports import Clock
from cattlegrid.testing.contracts.support import raises

REQUEST: Final = ModelRequest(
    provider="contract", model="m", messages=(Message(role=Role.USER, text="Where is order 17?"),)
)
TEXT: Final = "It is on its way. 🐄"
CALLS: Final = (
    ToolCall(id="a", name="find_order", arguments='{"order":17}'),
    ToolCall(id="b", name="find_order", arguments='{"order":18}'),
)
USAGE: Final = Usage(input_tokens=100, output_tokens=20, cache_read_tokens=64, reasoning_tokens=5)
PLENTY_S: Final = 10.0
LITTLE_S: Final = 0.1


class Behaviour(StrEnum):
    """What the model behind the client does with every call."""

    ANSWERS = "answers TEXT with USAGE"
    CALLS = "asks for CALLS with USAGE"
    SILENT = "says nothing at all"
    STALLS = "says the first word, or half of a document, and nothing more"
    CUT = "says the first word, or half of a document, and hangs up"
    MALFORMED = "says the first word and then nonsense"
    HUGE = "answers more than the client lets in"
    RATE_LIMITED = "answers 429 and asks for 7 seconds"
    BROKEN = "answers 500"
    REJECTS = "answers 401"
    TOO_LONG = "answers 400, the context is too long"
    AWAY = "is not there"


class ModelUnderTest(Protocol):
    """A client and what is behind it."""

    clock: Clock

    async def behaving(self, behaviour: Behaviour) -> ModelClient:
        """A client whose model behaves so."""
        ...

    async def reached(self) -> None:
        """Return once a call has reached the model."""
        ...

    async def left(self) -> None:
        """Return once the model has noticed that the client has ended the call."""
        ...


class ModelClientContract:
    """All of it, each behaviour with a stream and without."""

    async def test_an_answer_comes_whole(self, model: ModelUnderTest) -> None:
        client = await model.behaving(Behaviour.ANSWERS)
        response = await client.chat(REQUEST, deadline=_soon(model), on_delta=None)
        assert response.message == Message(role=Role.ASSISTANT, text=TEXT)
        assert (response.finish_reason, response.usage) == (FinishReason.STOP, USAGE)

    async def test_a_streamed_answer_is_the_same_and_its_deltas_are_its_text(
        self, model: ModelUnderTest
    ) -> None:
        client = await model.behaving(Behaviour.ANSWERS)
        deltas: list[ModelDelta] = []
        response = await client.chat(REQUEST, deadline=_soon(model), on_delta=deltas.append)
        assert response.message == Message(role=Role.ASSISTANT, text=TEXT)
        assert (response.finish_reason, response.usage) == (FinishReason.STOP, USAGE)
        assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == TEXT
        assert len(deltas) > 1

    async def test_tool_calls_come_in_order(self, model: ModelUnderTest) -> None:
        client = await model.behaving(Behaviour.CALLS)
        for on_delta in (None, _ignore):
            response = await client.chat(REQUEST, deadline=_soon(model), on_delta=on_delta)
            assert response.message.tool_calls == CALLS
            assert response.finish_reason is FinishReason.TOOL_CALLS

    async def test_calls_at_the_same_time_do_not_disturb_each_other(self, model: ModelUnderTest) -> None:
        client = await model.behaving(Behaviour.ANSWERS)
        together = (client.chat(REQUEST, deadline=_soon(model), on_delta=_ignore) for _ in range(20))
        answers = await asyncio.gather(*together)
        assert {answer.message.text for answer in answers} == {TEXT}

    async def test_silence_ends_at_the_deadline(self, model: ModelUnderTest) -> None:
        await _fails(model, Behaviour.SILENT, ModelTimeout, within_s=LITTLE_S)

    async def test_a_stall_ends_at_the_deadline(self, model: ModelUnderTest) -> None:
        await _fails(model, Behaviour.STALLS, ModelTimeout, within_s=LITTLE_S)

    async def test_a_deadline_that_has_passed_ends_the_call_at_once(self, model: ModelUnderTest) -> None:
        await _fails(model, Behaviour.SILENT, ModelTimeout, within_s=0.0)

    async def test_a_cut_answer_is_no_answer(self, model: ModelUnderTest) -> None:
        await _fails(model, Behaviour.CUT, ModelProtocolError)

    async def test_nonsense_is_no_answer(self, model: ModelUnderTest) -> None:
        await _fails(model, Behaviour.MALFORMED, ModelProtocolError)

    async def test_a_huge_answer_is_not_let_in(self, model: ModelUnderTest) -> None:
        await _fails(model, Behaviour.HUGE, ModelProtocolError)

    async def test_a_limit_says_how_long_to_wait(self, model: ModelUnderTest) -> None:
        for error in await _fails(model, Behaviour.RATE_LIMITED, ModelRateLimited):
            assert error.retry_after_s == 7.0

    async def test_a_broken_model_is_unavailable(self, model: ModelUnderTest) -> None:
        await _fails(model, Behaviour.BROKEN, ModelUnavailable)

    async def test_a_model_that_is_away_is_unavailable(self, model: ModelUnderTest) -> None:
        await _fails(model, Behaviour.AWAY, ModelUnavailable)

    async def test_a_refused_request_is_told_from_a_broken_model(self, model: ModelUnderTest) -> None:
        await _fails(model, Behaviour.REJECTS, ModelRejected)

    async def test_a_context_that_is_too_long_is_told_from_other_refusals(
        self, model: ModelUnderTest
    ) -> None:
        await _fails(model, Behaviour.TOO_LONG, ContextTooLong)

    async def test_a_cancelled_call_ends_at_the_model_too(self, model: ModelUnderTest) -> None:
        for on_delta in (None, _ignore):
            client = await model.behaving(Behaviour.SILENT)
            calling = asyncio.ensure_future(client.chat(REQUEST, deadline=_soon(model), on_delta=on_delta))
            await asyncio.wait_for(model.reached(), PLENTY_S)
            calling.cancel()
            await asyncio.wait({calling}, timeout=PLENTY_S)
            assert calling.cancelled()
            await asyncio.wait_for(model.left(), PLENTY_S)

    async def test_the_endpoint_has_a_name(self, model: ModelUnderTest) -> None:
        assert (await model.behaving(Behaviour.ANSWERS)).endpoint


async def _fails(
    model: ModelUnderTest, behaviour: Behaviour, kind: type[ModelError], *, within_s: float = PLENTY_S
) -> list[ModelError]:
    """The errors of a call that is streamed and of one that is not; both must be exactly of this kind."""
    errors: list[ModelError] = []
    for on_delta in (None, _ignore):
        client = await model.behaving(behaviour)
        deadline = Deadline.after(model.clock, within_s)
        with raises(ModelError) as raised:
            await asyncio.wait_for(client.chat(REQUEST, deadline=deadline, on_delta=on_delta), PLENTY_S)
        assert isinstance(raised.error, kind), repr(raised.error)
        errors.append(raised.error)
    return errors


def _soon(model: ModelUnderTest) -> Deadline:
    return Deadline.after(model.clock, PLENTY_S)


def _ignore(delta: ModelDelta) -> None:
    """Take a delta and do nothing with it."""
