"""The streams that are played: one text in so many pieces, in every wire format, from the recorded wires of the tests."""

from typing import Final

from cattlegrid.core.messages import Usage
from tests.wires.answers import Answer, Said
from tests.wires.every import WIRES

WORDS: Final = (" order", " seventeen", " is", " on", " its", " way", " to", " you", ".", " It")
USAGE: Final = Usage(input_tokens=1_200, output_tokens=300, cache_read_tokens=1_024)


def answer(chunks: int) -> Answer:
    """A text of so many pieces."""
    return Answer(parts=(Said(tuple(WORDS[i % len(WORDS)] for i in range(chunks))),), usage=USAGE)


def events(wire: str, chunks: int) -> list[bytes]:
    """The events of a stream, each with its end."""
    end = b"\r\n\r\n" if wire == "gemini" else b"\n\n"
    return [event + end for event in WIRES[wire].stream(answer(chunks)).split(end) if event]


def body(wire: str, chunks: int) -> bytes:
    """The same answer, whole."""
    return WIRES[wire].body(answer(chunks))
