"""Places where a test kills the process: the last thing that happens there is SIGKILL, as a power cut would.

Only the composition root of a development environment makes `KillAt`; everywhere else `NoCrash` does nothing.
"""

import os
import signal
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


class NoCrash:
    """Goes on."""

    def reach(self, name: str) -> None:
        """Do nothing."""


class KillAt:
    """Ends the process the `occurrence`th time that one place is reached."""

    def __init__(self, name: str, occurrence: int = 1) -> None:
        if name not in POINTS:
            raise ValueError(f"there is no crash point {name!r}; there are {', '.join(POINTS)}")
        self._name = name
        self._left = occurrence

    def reach(self, name: str) -> None:
        """Die here when this is the place and the time."""
        if name != self._name:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
