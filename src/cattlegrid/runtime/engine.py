"""The engine's public API: sessions and runs, decisions, cancels, feedback, and what keeps them going.

It finds or takes the lease of a session and hands the work to that session's runner. Whatever needs the writer of a
session that runs elsewhere goes to its inbox; that writer folds it in.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

import msgspec

from cattlegrid.core.bundle import BundleVersion
from cattlegrid.core.errors import (
    AlreadyDecided,
    AppendConflict,
    Forbidden,
    IdempotencyMismatch,
    LeaseHeld,
    Limited,
    NotFound,
    SessionBusy,
    SessionEnded,
    StoreUnavailable,
    TooLarge,
)
from cattlegrid.core.messages import Message, Role
from cattlegrid.core.principal import Principal
from cattlegrid.journal import events as ev
from cattlegrid.journal.bodies import OwnerBox
from cattlegrid.journal.codec import micros
from cattlegrid.journal.store import Entry, InboxItem
from cattlegrid.journal.vault import Vault
from cattlegrid.journal.writer import SessionWriter, open_stream
from cattlegrid.runtime import inbox
from cattlegrid.runtime.fold import fold_all
from cattlegrid.runtime.ports import Bundles
from cattlegrid.runtime.reading import Reader
from cattlegrid.runtime.requests import Accepted, OnBusy, RunRequest, RunView
from cattlegrid.runtime.runner import SessionRunner, Tools
from cattlegrid.runtime.state import Session
from cattlegrid.runtime.streams import START, Place, RunStream, StreamItem, item_of
from cattlegrid.runtime.texts import Texts


def never_dead(_holder: str) -> bool:
    """Nobody can tell: every lease is waited for."""
    return False


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How this process holds sessions."""

    holder: str
    """The name of this process in leases."""
    lease_s: float = 6.0
    linger_s: float = 5.0
    """How long a session without work is kept at hand."""
    surely_dead: Callable[[str], bool] = never_dead
    """Whether the process of that name is gone for certain, so that its leases need not be waited for."""


class Engine:
    """Runs the agents of one process."""

    def __init__(self, tools: Tools, *, vault: Vault, bundles: Bundles, settings: EngineSettings) -> None:
        self._tools = msgspec.structs.replace(tools, stream_of=self._stream_of)
        self._store = tools.store
        self._vault = vault
        self._bundles = bundles
        self._settings = settings
        self._runners: dict[str, SessionRunner] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._streams: dict[str, RunStream] = {}
        self.draining = asyncio.Event()
        """Set once this process takes no new requests."""
        self.reader = Reader(tools.store, vault)

    # --- requests -----------------------------------------------------------------------------------------------------

    async def open_session(self, agent: str, principal: Principal) -> str:
        """A new session without a run yet; its id. Raises NotFound for an unknown agent."""
        self._refuse_when_draining()
        runner, opened = await self._new_session(agent, principal)
        await runner.record([ev.NewEvent(opened)])
        self._runners[runner.session.id] = runner
        return runner.session.id

    async def start(self, agent: str, principal: Principal, request: RunRequest) -> Accepted:
        """A new session with its first run, in one durable write. The same idempotency key gives the same run."""
        self._refuse_when_draining()
        box = await self._vault.create_owner(self._vault.owner_of(principal.tenant, principal.user))
        known = await self._known(box, principal, request, scope=agent)
        if known is not None:
            return known
        runner, opened = await self._new_session(agent, principal)
        _refuse_too_large(runner, request)
        run_id = self._tools.ids.run()
        started = await self._run_started(runner, principal, request, box, scope=agent)
        try:
            await runner.begin(run_id, started, before=[ev.NewEvent(opened)])
        except AppendConflict:
            # Another request with this key was a moment faster; ours has left nothing behind.
            known = await self._known(box, principal, request, scope=agent)
            if known is None:
                raise
            return known
        self._runners[runner.session.id] = runner
        runner.poke()
        return Accepted(session_id=runner.session.id, run_id=run_id)

    async def submit(self, session_id: str, principal: Principal, request: RunRequest) -> Accepted:
        """A run in an existing session of the principal's own.

        Raises:
            NotFound: no such session, or another user's.
            SessionEnded, SessionBusy, Limited, IdempotencyMismatch, TooLarge: as they say.
        """
        self._refuse_when_draining()
        owner = await self._own_session(session_id, principal)
        box = await self._vault.open_owner(owner)
        known = await self._known(box, principal, request, scope=session_id)
        if known is not None:
            return known
        try:
            runner = await self._runner(session_id)
        except LeaseHeld:
            return await self._queue(session_id, principal, request, box)
        if runner.session.outcome:
            raise SessionEnded("This session has ended. Start a new one.")
        _refuse_too_large(runner, request)
        started = await self._run_started(runner, principal, request, box, scope=session_id)
        joined = _same_request(runner, started, request)
        if joined is not None:
            return Accepted(session_id=session_id, run_id=joined, joined=True)
        if runner.session.run is None and not runner.waiting:
            run_id = self._tools.ids.run()
            await runner.begin(run_id, started)
            self._tools.crash.reach("run_started")
            runner.poke()
            return Accepted(session_id=session_id, run_id=run_id)
        if request.on_busy is OnBusy.REJECT:
            raise SessionBusy("This session is still answering. Wait for its run to end.")
        if len(runner.waiting) >= runner.bundle.limits.queue:
            raise Limited("Too many requests wait for this session.", retry_after_s=5.0)
        return await self._queue(session_id, principal, request, box)

    async def _queue(
        self, session_id: str, principal: Principal, request: RunRequest, box: OwnerBox
    ) -> Accepted:
        """Leave a request with the session's writer, wherever that is."""
        content = msgspec.json.encode(Message(Role.USER, request.text))
        body = box.seal(content)
        item = inbox.QueuedRun(
            run_id=self._tools.ids.run(),
            input_ref=body.digest,
            roles=tuple(sorted(principal.roles)),
            features=request.features,
            idempotency=_idempotency(box, principal, request, session_id),
            request_digest=_request_digest(box, request),
            interrupt=request.on_busy is OnBusy.INTERRUPT,
        )
        await self._store.put_bodies([body])
        if not await self._post(session_id, item):
            return await self._queued_before(session_id, item, box, principal, request)
        return Accepted(session_id=session_id, run_id=item.run_id)

    async def _queued_before(
        self, session_id: str, item: inbox.QueuedRun, box: OwnerBox, principal: Principal, request: RunRequest
    ) -> Accepted:
        """The run of an earlier request with the same key, which waits or has begun by now."""
        for posted in await self._store.inbox(session_id):
            earlier = inbox.decode(posted.data)
            if isinstance(earlier, inbox.QueuedRun) and earlier.idempotency == item.idempotency:
                if earlier.request_digest != item.request_digest:
                    raise IdempotencyMismatch("This Idempotency-Key was used with another request.")
                return Accepted(session_id=session_id, run_id=earlier.run_id, joined=True)
        known = await self._known(box, principal, request, scope=session_id)
        if known is None:
            raise StoreUnavailable("The request could not be placed.", retry_after_s=1.0)
        return known

    async def _run_started(
        self, runner: SessionRunner, principal: Principal, request: RunRequest, box: OwnerBox, *, scope: str
    ) -> ev.RunStarted:
        snapshot = await self._tools.calls.snapshot(runner.bundle)
        ref, _ = runner.texts.put_message(Message(Role.USER, request.text))
        unknown = set(request.features) - set(runner.bundle.features)
        return ev.RunStarted(
            input_ref=ref,
            seed=self._tools.ids.seed(),
            features=tuple(feature for feature in request.features if feature not in unknown),
            snapshot=snapshot,
            roles=tuple(sorted(principal.roles)),
            idempotency=_idempotency(box, principal, request, scope),
            request_digest=_request_digest(box, request),
        )

    async def _known(
        self, box: OwnerBox, principal: Principal, request: RunRequest, *, scope: str
    ) -> Accepted | None:
        """The run that an earlier request with the same key has started, if any."""
        if not request.idempotency_key:
            return None
        entry = await self._store.entry("idempotency", _idempotency(box, principal, request, scope))
        if entry is None:
            return None
        if entry.digest != _request_digest(box, request):
            raise IdempotencyMismatch("This Idempotency-Key was used with another request.")
        return Accepted(session_id=entry.stream, run_id=entry.ref, joined=True)

    # --- watching -----------------------------------------------------------------------------------------------------

    async def follow(
        self, run_id: str, principal: Principal, after: Place = START
    ) -> AsyncIterator[StreamItem]:
        """What happens in a run, from a place on, until it has ended. Raises NotFound."""
        entry = await self.reader.entry("run", run_id, principal)
        stream = self._stream_of(run_id)
        with stream.watched():
            if not stream.told:
                await self._recall(entry, stream)
            async for item in stream.follow(after):
                yield item

    async def _recall(self, entry: Entry, stream: RunStream) -> None:
        """Tell a stream that no runner of this process has fed what is recorded of its run."""
        recorded = [event for event in await self.reader.events(entry.stream) if event.run_id == entry.id]
        if stream.told:
            return  # a runner has taken the session in the meantime, and has told it all
        for item in map(item_of, recorded):
            if item is not None:
                stream.record(item)
        if any(isinstance(event.data, ev.RunFinished) for event in recorded):
            stream.close()

    async def wait(self, accepted: Accepted, principal: Principal, *, timeout_s: float) -> RunView:
        """The run once it has ended or waits for a person, or as it is when the time is over."""
        stream = self._stream_of(accepted.run_id)
        with stream.watched():
            if not await self._rests(accepted):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s):
                        await self._until_rest(accepted, stream)
        return await self.reader.run(accepted.run_id, principal)

    @property
    def open_streams(self) -> int:
        """How many runs this process tells watchers of, or would."""
        return len(self._streams)

    async def _rests(self, accepted: Accepted) -> bool:
        """Whether nothing will happen in the run by itself: it has ended, or waits for a person with no runner."""
        entry = await self._store.entry("run", accepted.run_id)
        if entry is None or entry.status == "running":
            return False
        return entry.status != "held" or accepted.session_id not in self._runners

    async def _until_rest(self, accepted: Accepted, stream: RunStream) -> None:
        async for item in stream.follow():
            runner = self._runners.get(accepted.session_id)
            if item.type == "run.finished":
                return
            if item.type == "run.held" and runner is not None:
                await runner.settle()
                if _waits_for_people(runner.session, accepted.run_id):
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
        """
        entry = await self.reader.entry("approval", approval_id, principal)
        if not principal.has("approver"):
            raise Forbidden("Deciding on approvals needs the role `approver`.")
        by = self._vault.owner_of(principal.tenant, principal.user)
        if by == entry.owner:
            raise Forbidden("Nobody approves their own request.")
        if entry.status not in {"pending", "in_doubt"}:
            raise AlreadyDecided(f"This approval is decided: {entry.status}.")
        if decision is ev.ApprovalDecision.DONE and entry.status != "in_doubt":
            raise Forbidden("Only a call in doubt can be confirmed as done.")
        box = await self._vault.open_owner(entry.owner)
        bodies = [box.seal(text.encode()) for text in (note, arguments) if text]
        refs = iter([body.digest for body in bodies])
        item = inbox.Decided(
            approval_id=approval_id,
            decision=decision,
            by=by,
            note_ref=next(refs) if note else "",
            arguments_ref=next(refs) if arguments else "",
        )
        await self._store.put_bodies(bodies)
        if not await self._post(entry.stream, item):
            raise AlreadyDecided("This approval is decided already.")
        return entry.ref

    async def cancel(self, run_id: str, principal: Principal, *, reason: str = "") -> None:
        """Ask for the end of a run; without effect on one that has ended. Raises NotFound."""
        entry = await self.reader.entry("run", run_id, principal)
        by = self._vault.owner_of(principal.tenant, principal.user)
        if entry.status in {"queued", "running", "held"}:
            await self._post(entry.stream, inbox.Cancelled(run_id=run_id, by=by, reason=reason[:100]))

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
        body = box.seal(text.encode()) if text else None
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
        await self._post(entry.stream, item)

    async def close_session(self, session_id: str, principal: Principal) -> None:
        """End a session; an open run ends first. Raises NotFound."""
        entry = await self.reader.entry("session", session_id, principal)
        by = self._vault.owner_of(principal.tenant, principal.user)
        if entry.status == "open":
            await self._post(entry.stream, inbox.Close(by=by, reason="asked"))

    # --- what upkeep needs --------------------------------------------------------------------------------------------

    @property
    def runners(self) -> dict[str, SessionRunner]:
        """The sessions at hand, by id."""
        return self._runners

    async def attend(self, session_id: str) -> bool:
        """See to what waits in a session; False when another process does."""
        try:
            runner = await self._runner(session_id)
        except LeaseHeld:
            return False
        runner.poke(inbox_changed=True)
        return True

    async def post(self, session_id: str, item: inbox.Item) -> bool:
        """Put something into a session's inbox; False when its like was there before."""
        return await self._post(session_id, item)

    async def drop(self, session_id: str) -> None:
        """Stop working on a session without another word: its writer is fenced, or is to be."""
        runner = self._runners.pop(session_id, None)
        if runner is not None:
            await runner.abandon()

    async def let_go(self, session_id: str) -> None:
        """Give the lease of an idle session back."""
        runner = self._runners.get(session_id)
        if runner is None or runner.busy:
            return
        del self._runners[session_id]
        await runner.hand_over()

    def begin_draining(self) -> None:
        """Take no new requests."""
        self.draining.set()

    async def writer_of(self, session_id: str) -> tuple[SessionWriter, list[ev.Event]]:
        """Take the lease of a session, at once if its holder is surely dead. Raises LeaseHeld."""
        try:
            return await self._open(session_id)
        except LeaseHeld:
            head = await self._store.head(session_id)
            if head is None or not self._settings.surely_dead(head.holder):
                raise
            # The epoch says that it is still the dead one's lease that ends here.
            await self._store.release(session_id, epoch=head.epoch)
            return await self._open(session_id)

    async def _open(self, session_id: str) -> tuple[SessionWriter, list[ev.Event]]:
        return await open_stream(
            self._store,
            session_id,
            holder=self._settings.holder,
            lease_s=self._settings.lease_s,
            clock=self._tools.clock,
        )

    def announce_end(self, run_id: str, seq: int) -> None:
        """Tell the watchers of a run that it has ended without a runner."""
        stream = self._streams.pop(run_id, None)
        if stream is not None:
            stream.record(
                StreamItem(place=(seq, 0), type="run.finished", data={"run_id": run_id, "status": "erased"})
            )
            stream.close()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _refuse_when_draining(self) -> None:
        if self.draining.is_set():
            raise StoreUnavailable("The service is stopping; try again in a moment.", retry_after_s=2.0)

    async def _own_session(self, session_id: str, principal: Principal) -> str:
        """The owner of a session, if that is the principal: nobody speaks in another's session. Raises NotFound."""
        entry = await self.reader.entry("session", session_id, principal)
        if entry.owner != self._vault.owner_of(principal.tenant, principal.user):
            raise NotFound("There is no session with this id.")
        return entry.owner

    async def _post(self, session_id: str, item: inbox.Item) -> bool:
        posted = InboxItem(
            id=self._tools.ids.inbox_item(),
            stream=session_id,
            key=item.key,
            data=inbox.encode(item),
            at_us=micros(self._tools.clock.now()),
        )
        if not await self._store.post(posted):
            return False
        self._tools.crash.reach("inbox_posted")
        await self.attend(session_id)
        return True

    async def _new_session(self, agent: str, principal: Principal) -> tuple[SessionRunner, ev.SessionOpened]:
        version = await self._bundles.resolve(agent)
        owner = self._vault.owner_of(principal.tenant, principal.user)
        box = await self._vault.create_owner(owner)
        session_id = self._tools.ids.session()
        writer, _ = await self.writer_of(session_id)
        texts = Texts(box, self._store)
        opened = _opened(version, principal, owner, texts.put(principal.user))
        runner = SessionRunner(
            self._tools,
            writer=writer,
            session=Session(id=session_id),
            bundle=await self._bundles.bundle(version.digest),
            texts=texts,
            user=principal.user,
        )
        return runner, opened

    async def _runner(self, session_id: str) -> SessionRunner:
        """The runner of a session; takes the lease when nobody has it. Raises LeaseHeld."""
        lock = self._opening.setdefault(session_id, asyncio.Lock())
        async with lock:
            runner = self._runners.get(session_id)
            if runner is not None and runner.failed:
                del self._runners[session_id]
                await runner.abandon()
                runner = None
            if runner is None:
                runner = self._runners[session_id] = await self._take(session_id)
        if not lock.locked():
            self._opening.pop(session_id, None)
        return runner

    async def _take(self, session_id: str) -> SessionRunner:
        writer, events = await self.writer_of(session_id)
        session = fold_all(session_id, events)
        if session.opened is None:
            await writer.release()
            raise NotFound("There is no session with this id.")
        box = await self._vault.open_owner(session.opened.owner)
        texts = Texts(box, self._store)
        await texts.load([session.opened.principal_ref, *_live_refs(session)])
        runner = SessionRunner(
            self._tools,
            writer=writer,
            session=session,
            bundle=await self._bundles.bundle(session.opened.bundle),
            texts=texts,
            user=texts.text(session.opened.principal_ref),
        )
        if session.run is not None:
            self._refill(session.run.id, events)
            if any(step.phase == "intended" for step in session.run.steps.values()) or not _held(session):
                resumed = ev.RunResumed(epoch=writer.epoch, attempt=session.run.attempts + 1)
                await runner.record([ev.NewEvent(resumed, session.run.id)])
        return runner

    def _refill(self, run_id: str, events: list[ev.Event]) -> None:
        stream = self._stream_of(run_id)
        for event in events:
            item = item_of(event) if event.run_id == run_id else None
            if item is not None:
                stream.record(item)

    def _stream_of(self, run_id: str) -> RunStream:
        stream = self._streams.get(run_id)
        if stream is None:
            stream = self._streams[run_id] = RunStream(partial(self._streams.pop, run_id, None))
        return stream


def _opened(version: BundleVersion, principal: Principal, owner: str, principal_ref: str) -> ev.SessionOpened:
    return ev.SessionOpened(
        tenant=principal.tenant,
        owner=owner,
        agent=version.agent,
        bundle=version.digest,
        bundle_number=version.number,
        principal_ref=principal_ref,
    )


def _idempotency(box: OwnerBox, principal: Principal, request: RunRequest, scope: str) -> str:
    """Unique per tenant, user and route; empty without a key."""
    if not request.idempotency_key:
        return ""
    parts = (principal.tenant, principal.user, request.route, scope, request.idempotency_key)
    return box.keyed("idempotency", *parts)


def _request_digest(box: OwnerBox, request: RunRequest) -> str:
    return box.keyed("request", request.text, *request.features) if request.idempotency_key else ""


def _same_request(runner: SessionRunner, started: ev.RunStarted, _request: RunRequest) -> str | None:
    """The open or waiting run that answers this very request already."""
    run = runner.session.run
    if run is not None and started.idempotency and run.idempotency == started.idempotency:
        if run.request_digest != started.request_digest:
            raise IdempotencyMismatch("This Idempotency-Key was used with another request.")
        return run.id
    if run is not None and run.request_ref == started.input_ref and not run.cancelled_by:
        return run.id
    same = (queued.run_id for queued in runner.waiting if queued.input_ref == started.input_ref)
    return next(same, None)


def _refuse_too_large(runner: SessionRunner, request: RunRequest) -> None:
    limit = runner.bundle.limits.input_bytes
    if len(request.text.encode("utf-8", "surrogatepass")) > limit:
        raise TooLarge(f"A request may have {limit} bytes.")


def _live_refs(session: Session) -> set[str]:
    """Every text that the loop may still need."""
    refs = {message.ref for message in (*session.context, *session.pending)}
    run = session.run
    if run is not None:
        refs |= {run.input.ref, run.request_ref}
        for step in run.steps.values():
            refs |= {step.note_ref, step.arguments_ref, step.value_ref}
            refs |= {step.tool.arguments_ref} if step.tool is not None else set()
            refs |= {step.content.ref} if step.content is not None else set()
    return refs - {""}


def _held(session: Session) -> bool:
    run = session.run
    return run is not None and any(step.phase == "held" for step in run.steps.values())


def _waits_for_people(session: Session, run_id: str) -> bool:
    return session.run is not None and session.run.id == run_id and _held(session)
