"""Answers as data, apart from any wire format: each format writes them down as its provider would send them.

The rows of the conformance table stand here once; `chat`, `responses`, `anthropic` and `gemini` beside this module turn
each of them into the bytes of a stream and of a body, after the public documentation of each format.
"""

from typing import Final

import msgspec

from cattlegrid.core.messages import FinishReason, ToolCall, Usage


class Said(msgspec.Struct, frozen=True):
    """A text, in pieces."""

    pieces: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Called(msgspec.Struct, frozen=True):
    """A tool call whose arguments come in pieces."""

    id: str
    name: str
    pieces: tuple[str, ...]

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


class Thought(msgspec.Struct, frozen=True):
    """Reasoning in pieces, with what its provider wants back."""

    pieces: tuple[str, ...]
    signature: str

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a model."""

    parts: tuple[Said | Called | Thought, ...] = ()
    refusal: str = ""
    reason: FinishReason = FinishReason.STOP
    usage: Usage | None = Usage(input_tokens=100, output_tokens=20)
    """None when the provider reports none."""
    interleaved: bool = False
    """Whether the pieces of all parts come in turns, one of each, instead of part after part."""

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Said))

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        called = (part for part in self.parts if isinstance(part, Called))
        return tuple(ToolCall(id=part.id, name=part.name, arguments=part.arguments) for part in called)


RESPONSE_ID: Final = "answer-1"
MODEL: Final = "model-1"

WHERE: Final = Said(("It ", "is on ", "its wäy. 🐄"))
PARIS: Final = Called("a1", "weather", ('{"ci', 'ty":"Par', 'is"}'))
ROME: Final = Called("b2", "weather", ('{"city":', '"Rome"}'))
TIME: Final = Called("c3", "time", ("{}",))
HM: Final = Thought(("The cow ", "is brown."), "c2lnbmVkIQ==")
AGAIN: Final = Thought(("And slow.",), "c2lnbmVkMg==")

ROWS: Final[dict[str, Answer]] = {
    "plain text": Answer(parts=(WHERE,)),
    "one call": Answer(parts=(PARIS,), reason=FinishReason.TOOL_CALLS),
    "parallel calls": Answer(parts=(PARIS, ROME, TIME), reason=FinishReason.TOOL_CALLS),
    "text, then calls": Answer(parts=(WHERE, ROME, PARIS), reason=FinishReason.TOOL_CALLS),
    "interleaved deltas": Answer(
        parts=(WHERE, PARIS, ROME), reason=FinishReason.TOOL_CALLS, interleaved=True
    ),
    "refusal": Answer(refusal="I cannot help with that.", reason=FinishReason.REFUSAL),
    "filtered": Answer(parts=(Said(("It ",)),), reason=FinishReason.FILTERED),
    "cut by its limit": Answer(parts=(WHERE,), reason=FinishReason.LENGTH),
    "usage absent": Answer(parts=(WHERE,), usage=None),
    "cached and reasoning tokens": Answer(
        parts=(WHERE,),
        usage=Usage(input_tokens=100, output_tokens=20, cache_read_tokens=64, reasoning_tokens=5),
    ),
    "tokens written to a cache": Answer(
        parts=(WHERE,),
        usage=Usage(input_tokens=100, output_tokens=20, cache_read_tokens=20, cache_write_tokens=70),
    ),
    "reasoning, then text": Answer(parts=(HM, WHERE)),
    "reasoning, then calls": Answer(parts=(HM, PARIS, ROME), reason=FinishReason.TOOL_CALLS),
    "reasoning between texts and calls": Answer(
        parts=(HM, WHERE, AGAIN, PARIS), reason=FinishReason.TOOL_CALLS
    ),
    "reasoning between calls": Answer(parts=(HM, PARIS, AGAIN, ROME), reason=FinishReason.TOOL_CALLS),
}
