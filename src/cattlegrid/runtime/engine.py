"""The engine's public API: sessions and runs, decisions, cancels, feedback, and what keeps them going.

`sessions.py` has the sessions of this process at hand, `admission.py` lets requests in, `runner.py` does the work.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from cattlegrid.core.errors import (
    AlreadyDecided,
    Conflict,
    Forbidden,
    InvalidRequest,
    StoreUnavailable,
    ToolArgumentsInvalid,
)
from cattlegrid.core.permissions import Permission
from cattlegrid.core.principal import Principal
from cattlegrid.journal import events as ev
from cattlegrid.journal.audit import AuditLog
from cattlegrid.journal.directory import DEAD, IN_DOUBT
from cattlegrid.journal.store import Entry
from cattlegrid.journal.vault import Vault
from cattlegrid.journal.writer import SessionWriter
from cattlegrid.runtime import inbox
from cattlegrid.runtime.admission import Admission
from cattlegrid.runtime.hearing import Hearing
from cattlegrid.runtime.ports import Bundles
from cattlegrid.runtime.reading import Reader
from cattlegrid.runtime.requests import Accepted, RunRequest, RunView
from cattlegrid.runtime.runner import SessionRunner, Tools
from cattlegrid.runtime.sessions import EngineSettings, Sessions
from cattlegrid.runtime.state import Session, waits_for_people
from cattlegrid.runtime.streams import START, Place, RunStream, StreamItem
from cattlegrid.runtime.texts import speakable


class Engine:
    """Runs the agents of one process."""

    def __init__(self, tools: Tools, *, vault: Vault, bundles: Bundles, settings: EngineSettings) -> None:
        self._tools = tools
        self._store = tools.store
        self._vault = vault
        self._bundles = bundles
        self._sessions = Sessions(tools, vault=vault, bundles=bundles, settings=settings)
        self.leaving = asyncio.Event()
        """Set once others should take this process's place; it still serves whoever comes."""
        self.draining = asyncio.Event()
        """Set once this process takes no new requests."""
        self.reader = Reader(tools.store, vault)
        self._waits: set[asyncio.Timeout] = set()
        self.hearing = Hearing(self._sessions.runners, poke=self._poke, look=self._recall)
        self.audit = AuditLog(tools.store, vault, clock=tools.clock, holder=settings.holder)
        self._admission = Admission(
            tools, sessions=self._sessions, vault=vault, bundles=bundles, reader=self.reader
        )

    # --- requests -----------------------------------------------------------------------------------------------------

    async def open_session(self, agent: str, principal: Principal) -> str:
        """A new session without a run yet; its id. Raises NotFound for an unknown agent."""
        self._refuse_when_draining()
        version = await self._bundles.resolve(agent)
        bundle = await self._bundles.bundle(version.digest)
        box = await self._vault.create_owner(self._vault.owner_of(principal.tenant, principal.user))
        runner, opened = self._sessions.new(version, bundle, principal, box)
        self._sessions.keep(runner)
        await runner.record([ev.NewEvent(opened)])
        return runner.session.id

    async def start(self, agent: str, principal: Principal, request: RunRequest) -> Accepted:
        """A new session with its first run, in one durable write. The same idempotency key gives the same run.

        Raises:
            NotFound: no such agent.
            IdempotencyMismatch, TooLarge: as they say.
        """
        self._refuse_when_draining()
        return await self._admission.start(agent, principal, request)

    async def submit(self, session_id: str, principal: Principal, request: RunRequest) -> Accepted:
        """A run in an existing session of the principal's own.

        Raises:
            NotFound: no such session, or another user's.
            SessionEnded, SessionBusy, Limited, IdempotencyMismatch, TooLarge: as they say.
        """
        self._refuse_when_draining()
        return await self._admission.submit(session_id, principal, request)

    # --- watching -----------------------------------------------------------------------------------------------------

    async def follow(
        self, run_id: str, principal: Principal, after: Place = START
    ) -> AsyncGenerator[StreamItem]:
        """What happens in a run, from a place on, until it has ended. Raises NotFound."""
        entry = await self.reader.entry("run", run_id, principal)
        stream = self._sessions.streams.of(run_id)
        with stream.watched(), self.hearing.watching(entry.stream, run_id):
            if not stream.fed:
                self._sessions.streams.recall(run_id, await self.reader.events_of(entry))
            async for item in stream.follow(after):
                yield item

    async def wait(self, accepted: Accepted, principal: Principal, *, timeout_s: float) -> RunView:
        """The run once it has ended or waits for a person, or as it is when the time is over."""
        stream = self._sessions.streams.of(accepted.run_id)
        with stream.watched(), self.hearing.watching(accepted.session_id, accepted.run_id):
            if not await self._rests(accepted):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s) as limit:
                        self._waits.add(limit)
                        try:
                            await self._until_rest(accepted, stream)
                        finally:
                            self._waits.discard(limit)
        return await self.reader.run(accepted.run_id, principal)

    def end_waits(self, *, within_s: float) -> None:
        """Tell whoever waits for a run how it stands, after a last while for its end to come from elsewhere."""
        ends_s = asyncio.get_running_loop().time() + within_s
        for limit in self._waits:
            limit.reschedule(min(ends_s, limit.when() or ends_s))

    @property
    def open_streams(self) -> int:
        """How many runs this process tells watchers of, or would."""
        return len(self._sessions.streams)

    async def _rests(self, accepted: Accepted) -> bool:
        """Whether nothing will happen in the run by itself: it has ended, or waits for a person with no runner."""
        runner = self._sessions.runners.get(accepted.session_id)
        if runner is not None and runner.busy and _is_open(runner.session, accepted.run_id):
            return False
        entry = await self._store.entry("run", accepted.run_id)
        if entry is None or entry.status == "running":
            return False
        return entry.status not in {"held", DEAD} or accepted.session_id not in self._sessions.runners

    async def _until_rest(self, accepted: Accepted, stream: RunStream) -> None:
        async for item in stream.follow():
            runner = self._sessions.runners.get(accepted.session_id)
            if item.type == "run.finished":
                return
            if item.type in {"run.held", "run.parked"}:
                if runner is not None:
                    await runner.settle()
                if await self._rests(accepted) or (
                    runner and _waits_for_people(runner.session, accepted.run_id)
                ):
                    return

    # --- what people decide -------------------------------------------------------------------------------------------

    async def decide(
        self,
        approval_id: str,
        principal: Principal,
        decision: ev.ApprovalDecision,
        *,
        note: str = "",
        arguments: str = "",
    ) -> str:
        """Record a decision on a held step; the id of its run.

        Raises:
            Forbidden: the principal has not the role, or asked for this call themselves.
            AlreadyDecided: somebody else was faster, or the run has ended.
            InvalidRequest: no decision that fits, or changed arguments that the tool would refuse.
        """
        entry = await self.reader.entry("approval", approval_id, principal)
        if not principal.may(Permission.DECIDE):
            raise Forbidden("Deciding on approvals needs the role `approver`.")
        by = self._vault.owner_of(principal.tenant, principal.user)
        if by == entry.owner:
            raise Forbidden("Nobody approves their own request.")
        if entry.status not in {"pending", "in_doubt"}:
            raise AlreadyDecided(f"This approval is decided: {entry.status}.")
        if decision is ev.ApprovalDecision.DONE and entry.status != "in_doubt":
            raise Forbidden("Only a call in doubt can be confirmed as done.")
        if decision is ev.ApprovalDecision.EXPIRED:
            raise InvalidRequest("An approval expires by itself.")
        if decision is ev.ApprovalDecision.MODIFY:
            arguments = await self._changed(entry, principal, arguments)
        box = await self._vault.open_owner(entry.owner)
        sealed = {text: box.seal(speakable(text)) for text in (note, arguments) if text}
        item = inbox.Decided(
            approval_id=approval_id,
            decision=decision,
            by=by,
            note_ref=sealed[note].digest if note else "",
            arguments_ref=sealed[arguments].digest if arguments else "",
        )
        async with self.audit.acting(principal, decision.value, approval_id):
            await self._store.put_bodies(list(sealed.values()))
            if not await self._sessions.post(entry.stream, item):
                raise AlreadyDecided("This approval is decided already.")
        return entry.ref

    async def _changed(self, entry: Entry, principal: Principal, arguments: str) -> str:
        """The arguments that a person puts in the place of the model's, once the tool's schema has accepted them."""
        if entry.status == IN_DOUBT:
            raise InvalidRequest("A call that may have happened cannot be changed.")
        if not arguments:
            raise InvalidRequest("Changing a call needs its new arguments.")
        session = await self._store.entry("session", entry.stream)
        bundle = await self._bundles.bundle(session.ref if session is not None else "")
        held = await self.reader.approval(entry.id, principal)
        try:
            return self._tools.schemas.arguments(bundle.digest, bundle.tools[held.tool], arguments)
        except ToolArgumentsInvalid as error:
            raise InvalidRequest(error.message) from error

    async def cancel(self, run_id: str, principal: Principal, *, reason: str = "") -> None:
        """Ask for the end of a run; without effect on one that has ended.

        Raises:
            NotFound: no such run, or one that the principal may not see.
            Forbidden: somebody else's, and the principal may not end those.
        """
        entry = await self.reader.entry("run", run_id, principal)
        async with self._ending(entry, principal, "cancel") as by:
            if entry.status in {"queued", "running", "held", DEAD}:
                item = inbox.Cancelled(run_id=run_id, by=by, reason=reason[:100])
                await self._sessions.post(entry.stream, item)

    async def retry(self, run_id: str, principal: Principal) -> None:
        """Let a run go on that was parked because it had cost one writer after the other its life.

        Raises:
            NotFound: no such run.
            Forbidden: this is for operators.
            Conflict: the run is not parked.
        """
        entry = await self.reader.entry("run", run_id, principal)
        if not principal.may(Permission.RETRY):
            raise Forbidden("Retrying a run needs the role `operator`.")
        by = self._vault.owner_of(principal.tenant, principal.user)
        again = inbox.Retry(run_id=run_id, by=by, parked_us=entry.updated_us)
        refused = Conflict("Only a run that was given up (`dead`) can be retried.")
        if entry.status != DEAD:
            raise refused
        async with self.audit.acting(principal, "retry", run_id):
            if not await self._sessions.post(entry.stream, again):
                raise refused

    async def feedback(
        self,
        run_id: str,
        principal: Principal,
        *,
        thumb: str = "",
        score: float | None = None,
        text: str = "",
    ) -> None:
        """Record what a user thought of a run. Raises NotFound."""
        entry = await self.reader.entry("run", run_id, principal)
        box = await self._vault.open_owner(entry.owner)
        body = box.seal(speakable(text)) if text else None
        if body is not None:
            await self._store.put_bodies([body])
        item = inbox.Feedback(
            id=self._tools.ids.inbox_item(),
            run_id=run_id,
            by=self._vault.owner_of(principal.tenant, principal.user),
            thumb=thumb,
            score=score,
            text_ref=body.digest if body is not None else "",
        )
        await self._sessions.post(entry.stream, item)

    async def close_session(self, session_id: str, principal: Principal) -> None:
        """End a session; an open run ends first.

        Raises:
            NotFound: no such session, or one that the principal may not see.
            Forbidden: somebody else's, and the principal may not end those.
        """
        entry = await self.reader.entry("session", session_id, principal)
        async with self._ending(entry, principal, "close") as by:
            if entry.status == "open":
                await self._sessions.post(entry.stream, inbox.Close(by=by, reason="asked"))

    @asynccontextmanager
    async def _ending(self, entry: Entry, principal: Principal, action: str) -> AsyncGenerator[str]:
        """The pseudonym of who ends something; what is others' takes a permission, and is on record first."""
        by = self._vault.owner_of(principal.tenant, principal.user)
        if by == entry.owner:
            yield by
            return
        if not principal.may(Permission.END_OTHERS):
            raise Forbidden("Ending what is others' needs the role `operator`.")
        async with self.audit.acting(principal, action, entry.id):
            yield by

    # --- what upkeep needs --------------------------------------------------------------------------------------------

    @property
    def runners(self) -> dict[str, SessionRunner]:
        """The sessions at hand, by id."""
        return self._sessions.runners

    async def attend(self, session_id: str) -> float:
        """See to what waits in a session; for how many seconds another process has it, 0 when none does."""
        return await self._sessions.attend(session_id)

    async def post(self, session_id: str, item: inbox.Item) -> bool:
        """Put something into a session's inbox; False when its like was there before."""
        return await self._sessions.post(session_id, item)

    async def drop(self, session_id: str) -> None:
        """Stop working on a session without another word: its writer is fenced, or is to be."""
        await self._sessions.drop(session_id)

    async def let_go(self, session_id: str) -> None:
        """Give the lease of an idle session back."""
        await self._sessions.let_go(session_id)

    async def catch_up(self) -> None:
        """Tell watchers what is recorded of runs that go on in another process."""
        at_hand = {runner.session.run.id for runner in self.runners.values() if runner.session.run}
        for run_id in set(self._sessions.streams.run_ids) - at_hand:
            await self._recall(run_id)

    async def _recall(self, run_id: str) -> None:
        entry = await self._store.entry("run", run_id)
        if entry is None or entry.stream in self._sessions.runners:
            return
        stream = self._sessions.streams.of(run_id)
        rests = entry.status in {"held", DEAD}
        if not rests or stream.rested_us != entry.updated_us:
            stream.rested_us = entry.updated_us if rests else 0
            self._sessions.streams.recall(run_id, await self.reader.events_of(entry))

    def _poke(self, session_id: str) -> None:
        self._sessions.runners[session_id].poke(inbox_changed=True)

    def begin_draining(self) -> None:
        """Take no new requests, and no sessions that others have left."""
        self.draining.set()
        self._sessions.takes_no_more = True

    async def writer_of(self, session_id: str) -> tuple[SessionWriter, list[ev.Event]]:
        """Take the lease of a stream for a write that no runner makes (erasure). Raises LeaseHeld."""
        return await self._sessions.writer_of(session_id)

    def announce_end(self, run_id: str, seq: int) -> None:
        """Tell the watchers of a run that its user was erased."""
        self._sessions.streams.end(run_id, seq, status=ev.RunStatus.ERASED.value)

    def _refuse_when_draining(self) -> None:
        if self.draining.is_set():
            raise StoreUnavailable("The service is stopping; try again in a moment.", retry_after_s=2.0)


def _is_open(session: Session, run_id: str) -> bool:
    return session.run is not None and session.run.id == run_id


def _waits_for_people(session: Session, run_id: str) -> bool:
    return session.run is not None and session.run.id == run_id and waits_for_people(session.run)
