"""A `ModelClient` in memory: it gives the answers it was told to give, and remembers what it was asked.

    model = FakeModel([answer(calls=[call("refund", order=17)]), answer("Done.")])
    ...
    assert model.requests[0].messages[-1].text == "Refund order 17, please."

An answer may also be an error of the tree, a silence (`Stall`) or an error after some pieces of text (`Break`).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from cattlegrid.calls.ports import OnDelta
from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import ModelError, ModelRejected, ModelTimeout
from cattlegrid.core.messages import (
    FinishReason,
    Message,
    ModelRequest,
    ModelResponse,
    Role,
    TextDelta,
    ToolCall,
    Usage,
)
from cattlegrid.core.ports import Clock

_PIECES: Final = re.compile(r"\S+\s*|\s+")
USAGE: Final = Usage(input_tokens=100, output_tokens=10)


class Stall(msgspec.Struct, frozen=True):
    """Streams these pieces, then nothing until the deadline."""

    pieces: tuple[str, ...] = ()


class Break(msgspec.Struct, frozen=True):
    """Streams these pieces, then fails."""

    pieces: tuple[str, ...]
    error: ModelError


Answer = ModelResponse | ModelError | Stall | Break


class FakeModel:
    """A `ModelClient` that answers from a script, one answer for each attempt, or by a function of the request.

    When the script is over, every further request is refused with `ModelRejected`.
    """

    def __init__(
        self,
        script: Iterable[Answer] | Callable[[ModelRequest], Answer],
        *,
        clock: Clock,
        endpoint: str = "memory",
    ) -> None:
        self._answer = script if callable(script) else _from(script)
        self._clock = clock
        self._endpoint = endpoint
        self.requests: list[ModelRequest] = []
        """What was asked, each attempt."""
        self.open_calls = 0
        """Calls that have begun and not ended, in whichever way."""

    @property
    def endpoint(self) -> str:
        return self._endpoint

    async def chat(
        self, request: ModelRequest, *, deadline: Deadline, on_delta: OnDelta | None
    ) -> ModelResponse:
        """See `ModelClient.chat`; texts are streamed word by word."""
        self.requests.append(request)
        self.open_calls += 1
        try:
            # A call leaves the loop a chance to cancel it, as one over a wire would.
            await self._clock.sleep(0)
            return await self._play(self._answer(request), deadline, on_delta)
        finally:
            self.open_calls -= 1

    async def close(self) -> None:
        """Nothing to close."""

    async def _play(self, answer: Answer, deadline: Deadline, on_delta: OnDelta | None) -> ModelResponse:
        match answer:
            case ModelResponse():
                _send(_PIECES.findall(answer.message.text), on_delta)
                return answer
            case Stall(pieces=pieces):
                _send(pieces, on_delta)
                await self._clock.sleep(deadline.remaining_s(self._clock))
                raise ModelTimeout("The model did not answer in time.")
            case Break(pieces=pieces, error=error):
                _send(pieces, on_delta)
                raise error
            case ModelError():
                raise answer


def answer(
    text: str = "",
    *,
    calls: Sequence[ToolCall] = (),
    refusal: str = "",
    usage: Usage = USAGE,
    model: str = "fake",
) -> ModelResponse:
    """An answer whose finish reason follows from what it holds."""
    reason = FinishReason.STOP
    if calls or refusal:
        reason = FinishReason.TOOL_CALLS if calls else FinishReason.REFUSAL
    message = Message(role=Role.ASSISTANT, text=text, tool_calls=tuple(calls), refusal=refusal)
    return ModelResponse(message=message, finish_reason=reason, usage=usage, model=model, response_id="r")


def call(name: str, /, *, call_id: str = "call_1", **arguments: object) -> ToolCall:
    """A tool call with these arguments."""
    return ToolCall(id=call_id, name=name, arguments=msgspec.json.encode(arguments).decode())


def _from(script: Iterable[Answer]) -> Callable[[ModelRequest], Answer]:
    answers = iter(script)

    def following(_: ModelRequest) -> Answer:
        over = ModelRejected("The model did not accept the request.", detail="the script is over")
        return next(answers, over)

    return following


def _send(pieces: Iterable[str], on_delta: OnDelta | None) -> None:
    if on_delta is not None:
        for piece in pieces:
            on_delta(TextDelta(piece))
