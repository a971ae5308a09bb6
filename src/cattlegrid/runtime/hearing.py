"""Turns what the store tells of other processes' writes into a look at the sessions that it names, at once.

A notice is only a hint. What it misses is found by the rounds of upkeep, a moment later.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Generator
from contextlib import contextmanager
from typing import Final

from cattlegrid.core.errors import CattlegridError
from cattlegrid.journal.notices import Notice

_LOG: Final = logging.getLogger(__name__)


class Hearing:
    """The watchers of one process whose runs may go on in another one, by session.

    Args:
        at_hand: the sessions that run here: who works on one knows what it writes.
        poke: called for a session at hand in whose inbox something was put.
        look: called for a watched run of a session that moves elsewhere.
    """

    def __init__(
        self,
        at_hand: Container[str],
        *,
        poke: Callable[[str], object],
        look: Callable[[str], Awaitable[object]],
    ) -> None:
        self._at_hand = at_hand
        self._poke = poke
        self._look = look
        self._watched: dict[str, Counter[str]] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()

    @contextmanager
    def watching(self, session_id: str, run_id: str) -> Generator[None]:
        """While somebody watches a run, its session is listened for."""
        runs = self._watched.setdefault(session_id, Counter())
        runs[run_id] += 1
        try:
            yield
        finally:
            runs[run_id] -= 1
            if not runs[run_id]:
                del runs[run_id]
            if not runs:
                self._watched.pop(session_id, None)

    def hear(self, notice: Notice) -> None:
        """Look at what a notice names, as far as it matters here."""
        for session_id in notice.inbox:
            if session_id in self._at_hand:
                self._poke(session_id)
        if not self._watched:
            return
        for session_id in notice.events:
            if session_id not in self._at_hand:
                for run_id in self._watched.get(session_id, ()):
                    self._look_at(run_id)

    def _look_at(self, run_id: str) -> None:
        if run_id in self._looking:
            self._again.add(run_id)
            return
        self._looking[run_id] = asyncio.create_task(self._until_seen(run_id), name=f"look at {run_id}")

    async def _until_seen(self, run_id: str) -> None:
        """Look once more when something came while we looked."""
        try:
            while True:
                self._again.discard(run_id)
                await self._look(run_id)
                if run_id not in self._again:
                    return
        except CattlegridError as error:
            _LOG.info("%s was not looked at for now: %s", run_id, error)
        finally:
            self._again.discard(run_id)
            del self._looking[run_id]
