"""Places where a test kills the process: the last thing that happens there is SIGKILL, as a power cut would.

Only the composition root of a development environment makes `SignalAt`; everywhere else `NoCrash` does nothing.
"""

import os
import signal
import time
from typing import Final

POINTS: Final = (
    "run_started",
    "before_intent",
    "after_intent",
    "after_effect",
    "after_outcome",
    "inbox_posted",
    "after_inbox",
    "before_finish",
    "after_finish",
)
"""Every name that the runtime reaches, in the order in which a run with an approved effect meets them."""
_SETTLE_S: Final = 0.3
"""How long other threads have to end what they are at."""


class NoCrash:
    """Goes on."""

    def reach(self, name: str) -> None:
        """Do nothing."""


class SignalAt:
    """Signals this process the `occurrence`th time that one place is reached: SIGKILL, or SIGSTOP to make a zombie."""

    def __init__(self, name: str, occurrence: int = 1, sign: signal.Signals = signal.SIGKILL) -> None:
        if name not in POINTS:
            raise ValueError(f"there is no crash point {name!r}; there are {', '.join(POINTS)}")
        self._name = name
        self._left = occurrence
        self._sign = sign

    @classmethod
    def parse(cls, text: str) -> "SignalAt":
        """From `name`, `name:occurrence` or `name:occurrence:SIGSTOP`. Raises ValueError."""
        name, _, rest = text.partition(":")
        occurrence, _, sign = rest.partition(":")
        return cls(name, int(occurrence or 1), signal.Signals[sign or "SIGKILL"])

    def reach(self, name: str) -> None:
        """End or stop here when this is the place and the time."""
        if name != self._name:
            return
        self._left -= 1
        if self._left == 0:
            if self._sign is signal.SIGSTOP:
                # A thread that is stopped in a transaction would keep the file locked for everybody.
                time.sleep(_SETTLE_S)
            os.kill(os.getpid(), self._sign)
