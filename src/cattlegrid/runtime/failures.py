"""Remembers which sessions have failed in this process, so that one that fails again and again is tried less and less."""

from typing import Final

_LONGEST_S: Final = 300.0
_FORGET_AFTER_S: Final = 600.0


class Failures:
    """How often each session has failed lately. The first failure costs no waiting: most are the store's."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, float]] = {}

    def note(self, session_id: str, now_s: float) -> None:
        """A session has failed."""
        self._known = {id: known for id, known in self._known.items() if now_s - known[1] < _FORGET_AFTER_S}
        count, _ = self._known.get(session_id, (0, 0.0))
        self._known[session_id] = (count + 1, now_s)

    def may_try(self, session_id: str, now_s: float) -> bool:
        """Whether it is time to try a session again: after 0, 2, 4, 8 seconds and so on, five minutes at most."""
        count, failed_s = self._known.get(session_id, (0, 0.0))
        pause_s = min(_LONGEST_S, 2.0 ** (count - 1)) if count > 1 else 0.0
        return now_s - failed_s >= pause_s
