"""What a store tells those who listen: which streams have something new. Hints, never the truth.

A hint may come late, twice, or not at all: who needs to be sure looks from time to time, as before, and the hint only
makes the look come sooner.
"""

from collections.abc import Callable

import msgspec


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Streams that have something new."""

    events: tuple[str, ...] = ()
    """Streams with new durable events."""
    inbox: tuple[str, ...] = ()
    """Streams in whose inbox something was put."""


class Notices:
    """Those who listen within this process."""

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[[Notice], None]] = {}

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def listen(self, hear: Callable[[Notice], None]) -> Callable[[], None]:
        """Have something called with every notice, until the returned function is called."""
        place = object()
        self._listeners[place] = hear

        def stop() -> None:
            self._listeners.pop(place, None)

        return stop

    def tell(self, notice: Notice) -> None:
        """Tell everybody who listens."""
        for hear in tuple(self._listeners.values()):
            hear(notice)
