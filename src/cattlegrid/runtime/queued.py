"""Finds the requests that wait in the inbox of a busy session: accepted and durable, but not in the directory yet."""

from typing import Final

from cattlegrid.journal.store import Entry, JournalStore
from cattlegrid.runtime import inbox

QUEUED: Final = "queued"
"""The status of a run that waits for the one before it."""


async def queued_entry(store: JournalStore, run_id: str) -> Entry | None:
    """The entry that the directory would have for a waiting run; its `ref` is that of the input. None if none waits."""
    for stream in await store.streams_with_inbox():
        for posted in await store.inbox(stream):
            item = inbox.decode(posted.data)
            if not isinstance(item, inbox.QueuedRun) or item.run_id != run_id:
                continue
            session = await store.entry("session", stream)
            if session is None:
                return None
            return Entry(
                kind="run",
                id=run_id,
                stream=stream,
                tenant=session.tenant,
                owner=session.owner,
                agent=session.agent,
                status=QUEUED,
                ref=item.input_ref,
                created_us=posted.at_us,
                updated_us=posted.at_us,
            )
    return None
