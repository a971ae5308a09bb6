"""Adds to the control stream: keys, erasures, retention. Several processes do, each for a moment.

The stream is only ever added to, so that whoever adds need not read it; `verify` checks its chain.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from cattlegrid.core.errors import LeaseHeld, StoreUnavailable
from cattlegrid.core.ports import Clock
from cattlegrid.journal.events import CONTROL_STREAM
from cattlegrid.journal.store import JournalStore
from cattlegrid.journal.writer import SessionWriter, open_stream

_LEASE_S: Final = 2.0
_PAUSE_S: Final = 0.05
_PATIENCE: Final = 100
"""Together longer than the lease that a process leaves behind when it dies."""


@asynccontextmanager
async def control_writer(store: JournalStore, *, holder: str, clock: Clock) -> AsyncGenerator[SessionWriter]:
    """The writer of the control stream, for as long as the block.

    Raises:
        StoreUnavailable: others hold it and do not let go, or the store does not answer.
    """
    writer = await _take(store, holder=holder, clock=clock)
    try:
        yield writer
    finally:
        await writer.release()


async def _take(store: JournalStore, *, holder: str, clock: Clock) -> SessionWriter:
    for _ in range(_PATIENCE):
        try:
            writer, _unread = await open_stream(
                store, CONTROL_STREAM, holder=holder, lease_s=_LEASE_S, clock=clock, read=False
            )
        except LeaseHeld:
            await clock.sleep(_PAUSE_S)
        else:
            return writer
    raise StoreUnavailable("The control stream is busy.", retry_after_s=1.0)
