"""Turns a failed attempt into what happens next: a pause and another attempt, or the end with the number of attempts.

Pauses grow exponentially with full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)
and are never shorter than the provider asks for. No pause reaches past the deadline.
"""

from random import Random
from typing import Final

import msgspec

from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import (
    CattlegridError,
    ModelError,
    ModelProtocolError,
    ModelRateLimited,
    ModelTimeout,
    ModelUnavailable,
    ToolError,
    ToolFailed,
    ToolTimeout,
)
from cattlegrid.core.ports import Clock
from cattlegrid.core.tools import NotExecuted, Retry

TOOL_ATTEMPTS: Final = 2
_PASSING: Final = (ModelUnavailable, ModelRateLimited, ModelTimeout, ModelProtocolError)
_ATTEMPTS_ATTRIBUTE: Final = "__cattlegrid_attempts__"


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often a model is asked, and how long the pauses are; a tool is called twice at most."""

    attempts: int = 3
    base_s: float = 0.25
    """The longest first pause; each further one may be twice as long."""
    cap_s: float = 8.0
    """The longest pause, unless the provider asks for more."""


class Retries:
    """Decides for the calls of one process; holds no state beyond its source of randomness."""

    def __init__(self, policy: RetryPolicy, *, clock: Clock, random: Random) -> None:
        self.policy = policy
        self._clock = clock
        self._random = random

    def pause_s(self, error: CattlegridError, *, attempt: int, deadline: Deadline) -> float | None:
        """Seconds until the attempt after `attempt`; None when the deadline leaves no time for it."""
        longest_s = min(self.policy.cap_s, self.policy.base_s * 2 ** (attempt - 1))
        pause_s = max(self._random.uniform(0.0, longest_s), error.retry_after_s or 0.0)
        return pause_s if pause_s < deadline.remaining_s(self._clock) else None


def model_may_repeat(error: ModelError) -> bool:
    """Whether another attempt may help: the model was away, slow, busy, or spoke nonsense."""
    return isinstance(error, _PASSING)


def tool_may_repeat(error: ToolError, retry: Retry) -> bool:
    """Whether calling again is harmless: nothing happened, or the tool says that repeating never matters."""
    if isinstance(error, NotExecuted):
        return True
    return retry is Retry.FREE and isinstance(error, ToolTimeout | ToolFailed)


def note_attempts(error: CattlegridError, attempts: int) -> None:
    """Tell an error that is about to be raised how many attempts were made; see `attempts_of`."""
    setattr(error, _ATTEMPTS_ATTRIBUTE, attempts)
    if attempts > 1:
        error.detail = f"{attempts} attempts, the last one: {error.detail or error.message}"


def attempts_of(error: CattlegridError) -> int:
    """How many attempts led to an error of `calls.perform`; 0 when nothing was sent."""
    found: object = getattr(error, _ATTEMPTS_ATTRIBUTE, 0)
    return found if isinstance(found, int) else 0
