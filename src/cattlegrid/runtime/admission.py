"""Turns a user's request into the run that answers it: a new one, the open one, an earlier one, or one that waits.

The same Idempotency-Key gives the same run, and never a second one. Runs of one session come one after the other.
"""

import msgspec

from cattlegrid.core.errors import (
    AppendConflict,
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
from cattlegrid.journal.vault import Vault
from cattlegrid.runtime import inbox
from cattlegrid.runtime.reading import Reader
from cattlegrid.runtime.requests import Accepted, OnBusy, RunRequest
from cattlegrid.runtime.runner import SessionRunner, Tools
from cattlegrid.runtime.sessions import Sessions


class _Asked(msgspec.Struct, frozen=True):
    """A request with who asks, and the keyed digests that tell whether it was made before."""

    request: RunRequest
    principal: Principal
    box: OwnerBox
    idempotency: str
    """Unique per tenant, user and route; empty without a key."""
    request_digest: str

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(sorted(self.principal.roles))


class Admission:
    """Admits requests to the sessions of one process."""

    def __init__(self, tools: Tools, *, sessions: Sessions, vault: Vault, reader: Reader) -> None:
        self._tools = tools
        self._store = tools.store
        self._sessions = sessions
        self._vault = vault
        self._reader = reader

    async def start(self, agent: str, principal: Principal, request: RunRequest) -> Accepted:
        """A new session with its first run, in one durable write."""
        box = await self._vault.create_owner(self._vault.owner_of(principal.tenant, principal.user))
        asked = _asked(request, principal, box, scope=agent)
        known = await self._known(asked)
        if known is not None:
            return known
        runner, opened = await self._sessions.new(agent, principal)
        _refuse_too_large(runner, request)
        run_id = self._tools.ids.run()
        started = await self._run_started(runner, asked)
        try:
            await runner.begin(run_id, started, before=[ev.NewEvent(opened)])
        except AppendConflict:
            # Another request with this key was a moment faster; ours has left nothing behind.
            known = await self._known(asked)
            if known is None:
                raise
            return known
        self._sessions.keep(runner)
        runner.poke()
        return Accepted(session_id=runner.session.id, run_id=run_id)

    async def submit(self, session_id: str, principal: Principal, request: RunRequest) -> Accepted:
        """A run in an existing session of the principal's own."""
        owner = await self._own_session(session_id, principal)
        asked = _asked(request, principal, await self._vault.open_owner(owner), scope=session_id)
        known = await self._known(asked)
        if known is not None:
            return known
        try:
            runner = await self._sessions.runner(session_id)
        except LeaseHeld:
            return await self._queue(session_id, asked)
        if runner.session.outcome:
            raise SessionEnded("This session has ended. Start a new one.")
        _refuse_too_large(runner, request)
        started = await self._run_started(runner, asked)
        joined = _same_request(runner, started)
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
        return await self._queue(session_id, asked)

    async def _own_session(self, session_id: str, principal: Principal) -> str:
        """The owner of a session, if that is the principal: nobody speaks in another's session. Raises NotFound."""
        entry = await self._reader.entry("session", session_id, principal)
        if entry.owner != self._vault.owner_of(principal.tenant, principal.user):
            raise NotFound("There is no session with this id.")
        return entry.owner

    async def _queue(self, session_id: str, asked: _Asked) -> Accepted:
        """Leave a request with the session's writer, wherever that is."""
        body = asked.box.seal(msgspec.json.encode(Message(Role.USER, asked.request.text)))
        item = inbox.QueuedRun(
            run_id=self._tools.ids.run(),
            input_ref=body.digest,
            roles=asked.roles,
            features=asked.request.features,
            idempotency=asked.idempotency,
            request_digest=asked.request_digest,
            interrupt=asked.request.on_busy is OnBusy.INTERRUPT,
        )
        await self._store.put_bodies([body])
        if not await self._sessions.post(session_id, item):
            return await self._queued_before(session_id, asked)
        return Accepted(session_id=session_id, run_id=item.run_id)

    async def _queued_before(self, session_id: str, asked: _Asked) -> Accepted:
        """The run of an earlier request with the same key, which waits or has begun by now."""
        for posted in await self._store.inbox(session_id):
            earlier = inbox.decode(posted.data)
            if isinstance(earlier, inbox.QueuedRun) and earlier.idempotency == asked.idempotency:
                _refuse_mismatch(earlier.request_digest, asked)
                return Accepted(session_id=session_id, run_id=earlier.run_id, joined=True)
        known = await self._known(asked)
        if known is None:
            raise StoreUnavailable("The request could not be placed.", retry_after_s=1.0)
        return known

    async def _run_started(self, runner: SessionRunner, asked: _Asked) -> ev.RunStarted:
        snapshot = await self._tools.calls.snapshot(runner.bundle)
        ref, _ = runner.texts.put_message(Message(Role.USER, asked.request.text))
        return ev.RunStarted(
            input_ref=ref,
            seed=self._tools.ids.seed(),
            features=tuple(name for name in asked.request.features if name in runner.bundle.features),
            snapshot=snapshot,
            roles=asked.roles,
            idempotency=asked.idempotency,
            request_digest=asked.request_digest,
        )

    async def _known(self, asked: _Asked) -> Accepted | None:
        """The run that an earlier request with the same key has started, if any."""
        if not asked.idempotency:
            return None
        entry = await self._store.entry("idempotency", asked.idempotency)
        if entry is None:
            return None
        _refuse_mismatch(entry.digest, asked)
        return Accepted(session_id=entry.stream, run_id=entry.ref, joined=True)


def _asked(request: RunRequest, principal: Principal, box: OwnerBox, *, scope: str) -> _Asked:
    if not request.idempotency_key:
        return _Asked(request, principal, box, "", "")
    parts = (principal.tenant, principal.user, request.route, scope, request.idempotency_key)
    digest = box.keyed("request", request.text, *request.features)
    return _Asked(request, principal, box, box.keyed("idempotency", *parts), digest)


def _same_request(runner: SessionRunner, started: ev.RunStarted) -> str | None:
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


def _refuse_mismatch(digest: str, asked: _Asked) -> None:
    if digest != asked.request_digest:
        raise IdempotencyMismatch("This Idempotency-Key was used with another request.")


def _refuse_too_large(runner: SessionRunner, request: RunRequest) -> None:
    limit = runner.bundle.limits.input_bytes
    if len(request.text.encode("utf-8", "surrogatepass")) > limit:
        raise TooLarge(f"A request may have {limit} bytes.")
