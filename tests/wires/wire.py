"""What each wire format brings to the conformance table."""

from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from typing import Protocol, TypeVar

import msgspec

from cattlegrid.calls.wire.formats import WireName
from cattlegrid.core.errors import ModelError
from tests.wires.answers import Answer

T = TypeVar("T")


class Failure(msgspec.Struct, frozen=True):
    """What a provider reports in the middle of a stream, and what it comes to."""

    event: bytes
    kind: type[ModelError]


class RecordedWire(Protocol):
    """One format: how its provider writes answers down."""

    name: WireName
    begun: bytes
    """The beginning of a stream whose first word is `It `, up to that word."""
    malformed: tuple[bytes, ...]
    """Streams that make no sense."""
    failures: tuple[Failure, ...]

    def expected(self, answer: Answer) -> Answer:
        """The answer as far as this format can say it."""
        ...

    def stream(self, answer: Answer) -> bytes: ...

    def body(self, answer: Answer) -> bytes: ...

    def sent_back(self, body: object) -> Sequence[object]:
        """The parts of the first answer that a request sends back: texts, calls and reasoning, in their order."""
        ...

    def images(self, body: object) -> Sequence[tuple[str, str]]:
        """The images of a request, each as its media type and its base64 text."""
        ...


def in_turns(parts: Iterable[Sequence[T]], *, interleaved: bool) -> list[T]:
    """The events of all parts, one part after the other or one event of each in turns."""
    if not interleaved:
        return list(chain.from_iterable(parts))
    rounds = zip_longest(*parts)
    return [event for events in rounds for event in events if event is not None]
