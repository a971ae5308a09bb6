"""Turns the pieces of one streamed answer into deltas and, at the end, the response; the same for every format.

What an event means is the business of an `Answer`; framing, the end, and what counts as a cut stream are decided here. A
stream is complete when the model has said why it stopped, or when the server has said that the stream is over.
"""

from typing import Final, Protocol

from cattlegrid.calls.wire.errors import model_error
from cattlegrid.calls.wire.sse import SseFramer
from cattlegrid.core.errors import ModelProtocolError
from cattlegrid.core.messages import ModelDelta, ModelResponse, TextDelta

_DONE: Final = b"[DONE]"


class Answer(Protocol):
    """One answer in the making, from any number of events, or from one whole body."""

    @property
    def complete(self) -> bool:
        """Whether the model has said why it stopped."""
        ...

    @property
    def over(self) -> bool:
        """Whether nothing more can come, by an event that says so."""
        ...

    def add(self, data: bytes) -> str:
        """Take in one event or body; the answer text that it adds. Raises ModelError."""
        ...

    def finish(self) -> ModelResponse:
        """The whole answer. Raises ModelError for a contradiction."""
        ...


class StreamDecoder:
    """Decodes one streamed answer. Feed it the pieces as they come; after `done`, nothing more is read."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._framer = SseFramer()
        self._done = False

    @property
    def done(self) -> bool:
        """Whether the server has said that the stream is over."""
        return self._done

    def feed(self, piece: bytes) -> list[ModelDelta]:
        """What this piece adds, one delta at most.

        Raises:
            ModelProtocolError: the piece holds an event that makes no sense.
            ModelError: the provider reports a failure inside the stream.
        """
        if self._done:
            return []
        return self._read(self._framer.feed(piece))

    def finish(self) -> ModelResponse:
        """The whole answer, once the stream has ended.

        Its text is that of all deltas, and that of a last event which the server did not end with an empty line.

        Raises:
            ModelProtocolError: the stream was cut, or what it says makes no sense as a whole.
        """
        if not self._done:
            try:
                self._read(self._framer.rest())
            except ModelProtocolError:
                if not self._answer.complete:
                    raise
        if not self._done and not self._answer.complete:
            raise model_error(ModelProtocolError, "the stream ended before the answer did")
        return self._answer.finish()

    def _read(self, events: list[bytes]) -> list[ModelDelta]:
        texts: list[str] = []
        for data in events:
            if data == _DONE or data.strip() == _DONE:
                self._done = True
                break
            text = self._answer.add(data)
            if text:
                texts.append(text)
            if self._answer.over:
                self._done = True
                break
        return [TextDelta("".join(texts))] if texts else []


def whole(answer: Answer, body: bytes) -> ModelResponse:
    """The answer in the body of a call that did not stream.

    Raises:
        ModelProtocolError: it is no finished answer.
        ModelError: it reports a failure.
    """
    answer.add(body)
    if not answer.complete:
        raise model_error(ModelProtocolError, "the body holds no finished answer")
    return answer.finish()
