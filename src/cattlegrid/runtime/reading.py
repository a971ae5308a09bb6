"""Turns recorded events back into what people read: runs with their steps, approvals, sessions. Needs no lease.

Who may read what is decided here, once: a user their own, who has `READ_ALL` everything of their tenant. What
somebody may not see is `NotFound`, exactly like what does not exist.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from cattlegrid.core.errors import NotFound, SessionEnded
from cattlegrid.core.permissions import Permission
from cattlegrid.core.principal import Principal
from cattlegrid.journal import events as ev
from cattlegrid.journal.codec import decode
from cattlegrid.journal.store import Entry, EntryQuery, JournalStore
from cattlegrid.journal.vault import Vault
from cattlegrid.runtime.queued import QUEUED, queued_entry, queued_view
from cattlegrid.runtime.requests import ApprovalView, RunView, SessionView
from cattlegrid.runtime.showing import STEP_EVENTS, Texts, bundle_name, refs_of, run_view

_PAGE = 100


class Reader:
    """Reads the journal for people."""

    def __init__(self, store: JournalStore, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    async def entry(self, kind: str, id: str, principal: Principal) -> Entry:
        """The directory's entry, if the principal may know of it. Raises NotFound."""
        found = await self._store.entry(kind, id)
        if found is None and kind == "run":
            # It may begin between the two looks, and is then in the directory after all.
            found = await queued_entry(self._store, id) or await self._store.entry(kind, id)
        if found is None or found.tenant != principal.tenant or not self._may_read(found, principal):
            raise NotFound(f"There is no {kind} with this id.")
        return found

    def _may_read(self, entry: Entry, principal: Principal) -> bool:
        own = entry.owner == self._vault.owner_of(principal.tenant, principal.user)
        return own or principal.may(Permission.READ_ALL)

    async def has_open_run(self, session_id: str) -> bool:
        """Whether a run of the session has begun and not ended."""
        query = EntryQuery(kind="run", stream=session_id, statuses=("running", "held", "dead"), limit=1)
        return bool(await self._store.entries(query))

    async def events(self, session_id: str) -> list[ev.Event]:
        """Everything recorded of a session, in order."""
        return [decode(row) for row in await self._store.rows(session_id)]

    async def texts(self, owner: str, events: Sequence[ev.Event]) -> Texts:
        """The texts that these events refer to."""
        refs = {ref for event in events for ref in refs_of(event.data)}
        try:
            found = await self._vault.read(owner, refs)
        except SessionEnded:
            return Texts({})
        return Texts({ref: content.decode("utf-8", "surrogatepass") for ref, content in found.items()})

    async def run(self, run_id: str, principal: Principal) -> RunView:
        """A run; with its steps and what the guards said for staff. Raises NotFound."""
        entry = await self.entry("run", run_id, principal)
        first = [decode(row) for row in await self._store.rows(entry.stream, limit=1)]
        opened = opened_of(first)
        own = await self.events_of(entry)
        if not own:
            return await self._queued_run(entry, opened)
        staff = principal.may(Permission.READ_ALL)
        shown = [event for event in (*first, *own) if staff or not isinstance(event.data, STEP_EVENTS)]
        view = run_view(own, opened, await self.texts(entry.owner, shown), entry)
        return view if staff else replace(view, steps=(), guards=())

    async def events_of(self, run: Entry) -> list[ev.Event]:
        """Everything recorded of one run, in order; reads no more of a long session than that."""
        if run.status == QUEUED:
            return []
        found: list[ev.Event] = []
        seq = int(run.ref) - 1
        while True:
            page = [decode(row) for row in await self._store.rows(run.stream, after_seq=seq, limit=_PAGE)]
            found.extend(event for event in page if event.run_id == run.id)
            over = bool(found) and isinstance(found[-1].data, ev.RunFinished)
            if over or len(page) < _PAGE:
                return found
            seq = page[-1].seq

    async def _queued_run(self, entry: Entry, opened: ev.SessionOpened) -> RunView:
        try:
            found = await self._vault.read(entry.owner, {entry.ref})
        except SessionEnded:
            found = {}
        texts = Texts({ref: content.decode("utf-8", "surrogatepass") for ref, content in found.items()})
        return queued_view(entry, bundle_name(opened), texts.message(entry.ref).text)

    async def approval(self, approval_id: str, principal: Principal) -> ApprovalView:
        """A held call. Raises NotFound."""
        entry = await self.entry("approval", approval_id, principal)
        run = await self.run(entry.ref, principal)
        found = next((view for view in run.approvals if view.id == approval_id), None)
        if found is None:
            raise NotFound("There is no approval with this id.")
        return found

    async def approvals(
        self, principal: Principal, *, statuses: Sequence[str] = (), limit: int = 50, before_id: str = ""
    ) -> list[ApprovalView]:
        """Held calls, newest first."""
        entries = await self._entries(
            "approval", principal, statuses=statuses, limit=limit, before_id=before_id
        )
        return [await self.approval(entry.id, principal) for entry in entries]

    async def runs(
        self,
        principal: Principal,
        *,
        session_id: str = "",
        statuses: Sequence[str] = (),
        limit: int = 50,
        before_id: str = "",
    ) -> list[RunView]:
        """Runs, newest first."""
        entries = await self._entries(
            "run", principal, stream=session_id, statuses=statuses, limit=limit, before_id=before_id
        )
        return [await self.run(entry.id, principal) for entry in entries]

    async def session(self, session_id: str, principal: Principal) -> SessionView:
        """A session. Raises NotFound."""
        return await self._session_view(await self.entry("session", session_id, principal))

    async def sessions(
        self, principal: Principal, *, statuses: Sequence[str] = (), limit: int = 50, before_id: str = ""
    ) -> list[SessionView]:
        """Sessions, newest first."""
        entries = await self._entries(
            "session", principal, statuses=statuses, limit=limit, before_id=before_id
        )
        return [await self._session_view(entry) for entry in entries]

    async def _session_view(self, entry: Entry) -> SessionView:
        first = await self._store.rows(entry.stream, limit=1)
        opened = opened_of([decode(row) for row in first])
        return SessionView(
            id=entry.id,
            agent=entry.agent,
            bundle=bundle_name(opened),
            status=entry.status,
            created_at=_at(entry.created_us),
            updated_at=_at(entry.updated_us),
        )

    async def _entries(
        self,
        kind: str,
        principal: Principal,
        *,
        stream: str = "",
        statuses: Sequence[str],
        limit: int,
        before_id: str,
    ) -> Sequence[Entry]:
        staff = principal.may(Permission.READ_ALL)
        query = EntryQuery(
            kind=kind,
            tenant=principal.tenant,
            owner="" if staff else self._vault.owner_of(principal.tenant, principal.user),
            stream=stream,
            statuses=tuple(statuses),
            before_id=before_id,
            limit=limit,
        )
        return await self._store.entries(query)


def opened_of(events: Sequence[ev.Event]) -> ev.SessionOpened:
    """The first event of a session. Raises NotFound for an empty stream."""
    if not events or not isinstance(events[0].data, ev.SessionOpened):
        raise NotFound("There is no session with this id.")
    return events[0].data


def _at(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1_000_000, tz=UTC)
