"""A moment on the monotonic clock by which something must have happened."""

import msgspec

from cattlegrid.core.ports import Clock


class Deadline(msgspec.Struct, frozen=True):
    """Seconds of `Clock.monotonic_s`; deadlines only ever shrink on their way inward."""

    at_s: float

    @classmethod
    def after(cls, clock: Clock, delay_s: float) -> "Deadline":
        """The deadline `delay_s` seconds from now."""
        return cls(clock.monotonic_s() + delay_s)

    def remaining_s(self, clock: Clock) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at_s - clock.monotonic_s())

    def sooner(self, clock: Clock, delay_s: float) -> "Deadline":
        """This deadline or the one `delay_s` seconds from now, whichever comes first."""
        return Deadline(min(self.at_s, clock.monotonic_s() + delay_s))
