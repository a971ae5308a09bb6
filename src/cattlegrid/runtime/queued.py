"""Finds the requests that wait in the inbox of a busy session: accepted and durable, but not in the directory yet."""

from typing import Final

from cattlegrid.core.messages import Usage
from cattlegrid.journal.codec import from_micros
from cattlegrid.journal.store import Entry, JournalStore
from cattlegrid.runtime import inbox
from cattlegrid.runtime.requests import RunView

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


def queued_view(entry: Entry, bundle: str, text: str) -> RunView:
    """A waiting run as people see it: nothing is recorded of it yet but what was asked, and when."""
    return RunView(
        id=entry.id,
        session_id=entry.stream,
        agent=entry.agent,
        bundle=bundle,
        status=QUEUED,
        reason="",
        input=text,
        output="",
        started_at=from_micros(entry.created_us),
        finished_at=None,
        active_s=0.0,
        model_calls=0,
        tool_calls=0,
        usage=Usage(),
        cost_nano_usd=0,
        approvals=(),
        steps=(),
    )
