"""What keeps sessions going when nobody asks: leases, recovery, inboxes, expiry, closing, retention, erasure, the end.

Each method is one round, made again and again; all of them are idempotent and may run in several processes.
"""

import asyncio
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Final

from cattlegrid.core.errors import CattlegridError, LeaseHeld, SessionEnded, StoreUnavailable
from cattlegrid.core.ports import Clock, Rounds
from cattlegrid.journal import events as ev
from cattlegrid.journal.codec import from_micros, micros
from cattlegrid.journal.control import control_writer
from cattlegrid.journal.store import Entry, EntryQuery, JournalStore
from cattlegrid.journal.vault import Vault
from cattlegrid.journal.writer import SessionWriter
from cattlegrid.runtime import inbox
from cattlegrid.runtime.engine import Engine, EngineSettings
from cattlegrid.runtime.failures import Failures
from cattlegrid.runtime.fold import fold_all
from cattlegrid.runtime.ports import Bundles
from cattlegrid.runtime.runner import SessionRunner
from cattlegrid.runtime.state import Session

_LOG: Final = logging.getLogger(__name__)
_ROUND: Final = 200
"""Entries looked at in one round; the next round takes the rest."""
_HELD_EVERY_S: Final = 10.0
_LAST_WORD_S: Final = 3.0
"""How long those who wait for a run that was handed over still wait before they are told that it goes on."""
_LOOK_AGAIN_S: Final = 1.0
_CLOCK: Final = "clock"


class Upkeep:
    """The rounds of one process."""

    def __init__(
        self,
        engine: Engine,
        *,
        store: JournalStore,
        vault: Vault,
        bundles: Bundles,
        clock: Clock,
        settings: EngineSettings,
    ) -> None:
        self._engine = engine
        self._store = store
        self._vault = vault
        self._bundles = bundles
        self._clock = clock
        self._settings = settings
        self._failures = Failures()
        self._held_due_s = 0.0
        self._elsewhere: dict[str, float] = {}
        """When to look again at sessions that other processes had."""

    def register(self, rounds: Rounds, jobs: Rounds) -> None:
        """Have every round made at its own pace: `rounds` by this process for itself, `jobs` by one for the store."""
        rounds.every(self._settings.lease_s / 3, "leases", self.renew_leases)
        rounds.every(0.5, "inboxes", self.attend_inboxes)
        rounds.every(0.5, "watchers", self._engine.catch_up)
        rounds.every(0.5, "recovery", self.recover)
        jobs.every(5.0, "approvals", self.expire_approvals)
        jobs.every(15.0, "sessions", self.close_idle_sessions)

    def listen(self) -> Callable[[], None]:
        """Look at once at what other processes write, until the result is called."""
        return self._store.listen(self._engine.hearing.hear)

    async def renew_leases(self) -> None:
        """Lengthen the leases of sessions at work; give those of idle ones back."""
        await asyncio.gather(
            *(self._see_to(session_id, runner) for session_id, runner in self._engine.runners.items())
        )

    async def _see_to(self, session_id: str, runner: SessionRunner) -> None:
        idle_s = self._clock.monotonic_s() - runner.idle_since_s
        if runner.failed:
            await self._engine.drop(session_id)
            self._failures.note(session_id, self._clock.monotonic_s())
            await self._attend(session_id)
        elif not runner.busy and idle_s > self._settings.linger_s:
            await self._engine.let_go(session_id)
        elif runner.renewal_due:
            await runner.renew()

    async def attend_inboxes(self) -> None:
        """See to what others have posted."""
        for session_id in await self._store.streams_with_inbox():
            await self._attend(session_id)

    async def recover(self) -> None:
        """Go on with runs whose writer is gone."""
        running = await self._live("run", "running")
        for entry in running:
            if entry.stream not in self._engine.runners:
                await self._attend(entry.stream)
        now_s = self._clock.monotonic_s()
        self._elsewhere = {id: due_s for id, due_s in self._elsewhere.items() if due_s > now_s}
        await self._recover_held()

    async def _recover_held(self) -> None:
        """Go on with runs that wait for a person, but whose writer died before it had done everything else.

        A session that only waits was let go, and nobody holds it.
        """
        now_s = self._clock.monotonic_s()
        if now_s < self._held_due_s:
            return
        self._held_due_s = now_s + _HELD_EVERY_S
        for entry in await self._live("run", "held"):
            if entry.stream not in self._engine.runners:
                head = await self._store.head(entry.stream)
                if head is not None and head.holder:
                    await self._attend(entry.stream)

    async def _attend(self, session_id: str) -> None:
        if not self._failures.may_try(session_id, self._clock.monotonic_s()):
            return
        now_s = self._clock.monotonic_s()
        if now_s < self._elsewhere.get(session_id, 0.0):
            return
        self._elsewhere.pop(session_id, None)
        with self._alone(session_id):
            try:
                held_s = await self._engine.attend(session_id)
            except SessionEnded:
                await self._close_erased(session_id)
            else:
                if held_s:
                    # A lease may also be given back before it ends.
                    self._elsewhere[session_id] = now_s + min(held_s, _LOOK_AGAIN_S)

    async def _post(self, session_id: str, item: inbox.Item) -> None:
        with self._alone(session_id):
            try:
                await self._engine.post(session_id, item)
            except SessionEnded:
                await self._close_erased(session_id)

    @contextmanager
    def _alone(self, session_id: str) -> Generator[None]:
        """One session that cannot be read must not keep the others from their turn."""
        try:
            yield
        except StoreUnavailable:
            raise
        except CattlegridError as error:
            _LOG.error("session %s cannot be attended to: %s", session_id, error)

    async def expire_approvals(self) -> None:
        """Reject what nobody has decided in time."""
        now_us = micros(self._clock.now())
        query = EntryQuery(kind="approval", statuses=("pending",), due_before_us=now_us, limit=_ROUND)
        for entry in await self._store.entries(query):
            expired = inbox.Decided(approval_id=entry.id, decision=ev.ApprovalDecision.EXPIRED, by=_CLOCK)
            await self._post(entry.stream, expired)

    async def close_idle_sessions(self) -> None:
        """Close sessions that have been idle for as long as their bundle says, unless a run waits for a person."""
        now = self._clock.now()
        for entry in await self._live("session", "open"):
            with self._alone(entry.stream):
                bundle = await self._bundles.bundle(entry.ref)
                idle_s = (now - from_micros(entry.updated_us)) / timedelta(seconds=1)
                if idle_s > bundle.outcome.idle_s and not await self._engine.reader.has_open_run(
                    entry.stream
                ):
                    close = inbox.Close(by=_CLOCK, reason="idle", since=str(entry.updated_us))
                    await self._post(entry.stream, close)

    async def _live(self, kind: str, status: str) -> list[Entry]:
        found: list[Entry] = []
        before = ""
        while True:
            query = EntryQuery(kind=kind, statuses=(status,), before_id=before, limit=_ROUND)
            page = await self._store.entries(query)
            found.extend(page)
            if len(page) < _ROUND:
                return found
            before = page[-1].id

    # --- erasure and retention ----------------------------------------------------------------------------------------

    async def erase(self, tenant: str, user: str, *, by: str) -> int:
        """Erase a user: their key, their texts, their open runs; how many sessions they had.

        Fences every writer of theirs first. The chains of their sessions still verify.
        """
        owner = self._vault.owner_of(tenant, user)
        query = EntryQuery(kind="session", tenant=tenant, owner=owner, statuses=("open",), limit=_ROUND)
        for entry in await self._store.entries(query):
            await self._engine.drop(entry.stream)
        streams = await self._store.erase_owner(owner, at_us=micros(self._clock.now()))
        self._vault.forget(owner)
        for stream in streams:
            await self._engine.drop(stream)
            await self._close_erased(stream)
        await self._record(ev.UserErased(owner=owner, by=by))
        return len(streams)

    async def _close_erased(self, session_id: str) -> None:
        """End the open run and the session of an erased user."""
        try:
            writer, events = await self._engine.writer_of(session_id)
        except LeaseHeld:
            return
        session = fold_all(session_id, events)
        posted = await self._store.inbox(session_id)
        items = [inbox.decode(item.data) for item in posted]
        queued = [item for item in items if isinstance(item, inbox.QueuedRun)]
        ended = [session.run.id] if session.run is not None else []
        ended += [item.run_id for item in queued]
        ending = _ends(session, queued)
        if posted and not ending:
            ending.append(ev.NewEvent(ev.OperatorActed(action="inbox_dropped", by="erasure")))
        if ending:
            await writer.append(ending, consumed=[item.id for item in posted])
        for run_id in ended:
            self._engine.announce_end(run_id, writer.seq)
        await writer.release()

    async def retire(self, *, before: datetime) -> int:
        """Delete the sessions that ended before a time; how many. Each deletion is recorded."""
        count = 0
        for outcome in ("completed", "escalated", "abandoned", "failed", "erased"):
            while True:
                query = EntryQuery(
                    kind="session", statuses=(outcome,), updated_before_us=micros(before), limit=_ROUND
                )
                page = await self._store.entries(query)
                for entry in page:
                    count += await self._retire(entry.stream)
                if len(page) < _ROUND:
                    break
        return count

    async def _retire(self, session_id: str) -> bool:
        head = await self._store.head(session_id)
        if head is None:
            return False
        gone = ev.SessionRetired(session=session_id, last_seq=head.seq, last_hash=head.hash.hex())
        async with self._control() as writer:
            await writer.retire(session_id, [ev.NewEvent(gone)])
        return True

    async def _record(self, data: ev.Data) -> None:
        """Write one event into the control stream."""
        async with self._control() as writer:
            await writer.append([ev.NewEvent(data)])

    def _control(self) -> AbstractAsyncContextManager[SessionWriter]:
        return control_writer(self._store, holder=self._settings.holder, clock=self._clock)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def drain(self, timeout_s: float) -> int:
        """Take nothing new, let what is under way end, hand over the rest; how many sessions were cut short."""
        self._engine.begin_draining()
        for runner in self._engine.runners.values():
            runner.takes_more = False
        busy = [
            asyncio.create_task(runner.settle()) for runner in self._engine.runners.values() if runner.busy
        ]
        if busy:
            _, left = await asyncio.wait(busy, timeout=timeout_s)
            for task in left:
                task.cancel()
        at_hand = list(self._engine.runners.items())
        cut = sum(runner.busy for _, runner in at_hand)
        await asyncio.gather(*(self._engine.drop(session_id) for session_id, _ in at_hand))
        self._engine.end_waits(within_s=_LAST_WORD_S)
        return cut


def _ends(session: Session, queued: Sequence[inbox.QueuedRun]) -> list[ev.NewEvent]:
    """What ends every run that an erased user was promised, and the session."""
    erased = ev.RunFinished(status=ev.RunStatus.ERASED, reason="erased")
    ending: list[ev.NewEvent] = []
    if session.run is not None:
        ending.append(ev.NewEvent(erased, session.run.id))
    for item in queued:
        began = ev.RunStarted(input_ref=item.input_ref, seed=0, roles=item.roles)
        ending += [ev.NewEvent(began, item.run_id), ev.NewEvent(erased, item.run_id)]
    if not session.outcome:
        ending.append(ev.NewEvent(ev.SessionClosed(outcome="erased")))
    return ending
