"""Turns a user's request into the run that answers it: a new one, the open one, an earlier one, or one that waits.

The same Idempotency-Key gives the same run, and never a second one. Runs of one session come one after the other. A
client's own name for a conversation stands for the open session that was opened under it.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from cattlegrid.core.bundle import Bundle, BundleVersion
from cattlegrid.core.errors import (
    AppendConflict,
    Conflict,
    IdempotencyMismatch,
    LeaseHeld,
    Limited,
    NotFound,
    SessionBusy,
    SessionEnded,
    StoreUnavailable,
    TooLarge,
)
from cattlegrid.core.principal import Principal
from cattlegrid.journal import events as ev
from cattlegrid.journal.bodies import OwnerBox
from cattlegrid.journal.store import Entry, EntryQuery
from cattlegrid.journal.vault import Vault
from cattlegrid.runtime import inbox
from cattlegrid.runtime.attachments import Told, told
from cattlegrid.runtime.locks import Locks
from cattlegrid.runtime.ports import Bundles
from cattlegrid.runtime.reading import Reader
from cattlegrid.runtime.requests import RUNS, Accepted, OnBusy, RunRequest
from cattlegrid.runtime.runner import SessionRunner, Tools
from cattlegrid.runtime.sessions import Sessions
from cattlegrid.runtime.texts import encoded

_TRIES: Final = 3
"""How often a request looks for its session's writer while that changes hands."""
_NEWEST: Final = 8
"""Ids sort by time, but not within a millisecond, nor between machines whose clocks differ."""


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request, who asks, of which version, and the keyed digests that tell whether it was made before."""

    request: RunRequest
    principal: Principal
    bundle: Bundle
    box: OwnerBox
    content: bytes
    """The user's `Message`, as its body holds it."""
    files: tuple[bytes, ...] = ()
    file_refs: tuple[str, ...] = ()
    """What the message refers to."""
    input_ref: str
    idempotency: str = ""
    """Unique per tenant, user and route; empty without a key."""
    request_digest: str = ""
    thread: str = ""
    """Keyed digest of the client's name for the conversation; empty without one."""

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(sorted(self.principal.roles))

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(name for name in self.request.features if name in self.bundle.features)


class Admission:
    """Admits requests to the sessions of one process."""

    def __init__(
        self, tools: Tools, *, sessions: Sessions, vault: Vault, bundles: Bundles, reader: Reader
    ) -> None:
        self._tools = tools
        self._store = tools.store
        self._sessions = sessions
        self._vault = vault
        self._bundles = bundles
        self._reader = reader
        self._placing = Locks()

    async def start(self, agent: str, principal: Principal, request: RunRequest) -> Accepted:
        """A new session with its first run, in one durable write; or, by its thread, a run in the session at hand."""
        version = await self._bundles.resolve(agent)
        bundle = await self._bundles.bundle(version.digest)
        box = await self._vault.create_owner(self._vault.owner_of(principal.tenant, principal.user))
        asked = await self._ask(request, principal, bundle, box, scope=agent)
        known = await self._known(asked)
        if known is not None:
            return known
        if not asked.thread:
            return await self._open(asked, version)
        async with self._placing.of(asked.thread):
            return await self._go_on(asked, version)

    async def submit(self, session_id: str, principal: Principal, request: RunRequest) -> Accepted:
        """A run in an existing session of the principal's own."""
        session = await self._own_session(session_id, principal)
        box = await self._vault.open_owner(session.owner)
        bundle = await self._bundles.bundle(session.ref)
        asked = await self._ask(request, principal, bundle, box, scope=session_id)
        return await self._submit(session, asked)

    async def _ask(
        self, request: RunRequest, principal: Principal, bundle: Bundle, box: OwnerBox, *, scope: str
    ) -> _Asked:
        """Raises InvalidRequest, TooLarge: what the request says or brings cannot be taken."""
        if len(request.text.encode("utf-8", "surrogatepass")) > bundle.limits.input_bytes:
            raise TooLarge(f"A request may have {bundle.limits.input_bytes} bytes.")
        limits, pdf = bundle.attachment_limits, self._tools.pdf
        said = await told(request.text, request.attachments, limits, ref_of=box.digest, pdf=pdf)
        return _asked(request, said, principal, bundle, box, scope=scope)

    async def _open(self, asked: _Asked, version: BundleVersion, *, follows: str = "") -> Accepted:
        """Raises StoreUnavailable when another request was a moment faster and it is not the same."""
        run_id, started = self._tools.ids.run(), await self._run_started(asked)
        runner, opened = self._sessions.new(version, asked.bundle, asked.principal, asked.box)
        opened = replace(opened, thread=asked.thread, follows=follows)
        _put(runner, asked)
        # At hand before it is durable: a client that leaves meanwhile must not leave a run that nobody drives.
        self._sessions.keep(runner)
        try:
            await runner.begin(run_id, started, before=[ev.NewEvent(opened)])
        except AppendConflict as error:
            await self._sessions.drop(runner.session.id)
            return await self._known_after_all(asked, error)
        self._tools.crash.reach("run_started")
        return Accepted(session_id=runner.session.id, run_id=run_id)

    async def _go_on(self, asked: _Asked, version: BundleVersion) -> Accepted:
        """A run in the session that bears the thread's name, or in a new one that does from now on."""
        for _ in range(_TRIES):
            follows = ""
            named = await self._store.entry("thread", asked.thread)
            session = await self._store.entry("session", named.ref) if named is not None else None
            if session is not None and session.status == "open":
                try:
                    bundle = await self._bundles.bundle(session.ref)
                    return await self._submit(session, replace(asked, bundle=bundle))
                except SessionEnded:
                    pass
            if named is not None:
                follows = named.ref
            try:
                return await self._open(asked, version, follows=follows)
            except StoreUnavailable:
                # Another process has opened a session under this name meanwhile.
                if follows or await self._store.entry("thread", asked.thread) is None:
                    raise
        raise StoreUnavailable("The request could not be placed.", retry_after_s=1.0)

    async def _submit(self, session: Entry, asked: _Asked) -> Accepted:
        session_id, principal = session.stream, asked.principal
        started = await self._run_started(asked)
        # One at a time, so that a request sees what became of the one before it.
        async with self._placing.of(session_id):
            for _ in range(_TRIES):
                known = await self._known(asked)
                if known is not None:
                    return known
                if session.status != "open":
                    raise SessionEnded("This session has ended. Start a new one.")
                try:
                    return await self._place(session_id, asked, started)
                except AppendConflict:
                    # The writer has changed hands, or a request with this key was a moment faster.
                    session = await self._own_session(session_id, principal)
        raise StoreUnavailable("The request could not be placed.", retry_after_s=1.0)

    async def _own_session(self, session_id: str, principal: Principal) -> Entry:
        """The session, if it is the principal's own: nobody speaks in another's. Raises NotFound."""
        entry = await self._reader.entry("session", session_id, principal)
        if entry.owner != self._vault.owner_of(principal.tenant, principal.user):
            raise NotFound("There is no session with this id.")
        return entry

    async def _place(self, session_id: str, asked: _Asked, started: ev.RunStarted) -> Accepted:
        try:
            runner = await self._sessions.runner(session_id)
        except LeaseHeld:
            runner = None
        if runner is not None and runner.session.outcome:
            raise SessionEnded("This session has ended. Start a new one.")
        busy = runner is None and await self._reader.has_open_run(session_id)
        posted = [inbox.decode(item.data) for item in await self._store.inbox(session_id)]
        waiting = [item for item in posted if isinstance(item, inbox.QueuedRun)]
        # Whoever cancels and asks again wants an answer, even if the cancel is not folded in yet.
        cancelled = {item.run_id for item in posted if isinstance(item, inbox.Cancelled)}
        joined = _open_run(runner, cancelled, asked) or _waiting_run(waiting, cancelled, asked)
        if joined is not None:
            return Accepted(session_id=session_id, run_id=joined, joined=True)
        await self._check_last(session_id, asked.request.after_run, waiting)
        if runner is not None and runner.session.run is None and not waiting and not runner.waiting:
            run_id = self._tools.ids.run()
            _put(runner, asked)
            await runner.begin(run_id, started)
            self._tools.crash.reach("run_started")
            return Accepted(session_id=session_id, run_id=run_id)
        busy = busy or runner is not None or bool(waiting)
        if asked.request.on_busy is OnBusy.REJECT and busy:
            raise SessionBusy("This session is still answering. Wait for its run to end.")
        if len(waiting) >= asked.bundle.limits.queue:
            raise Limited("Too many requests wait for this session.", retry_after_s=5.0)
        return await self._queue(session_id, asked)

    async def _queue(self, session_id: str, asked: _Asked) -> Accepted:
        """Leave a request with the session's writer, wherever that is."""
        item = inbox.QueuedRun(
            run_id=self._tools.ids.run(),
            input_ref=asked.input_ref,
            roles=asked.roles,
            features=asked.features,
            idempotency=asked.idempotency,
            request_digest=asked.request_digest,
            interrupt=asked.request.on_busy is OnBusy.INTERRUPT,
            files=asked.file_refs,
        )
        await self._store.put_bodies([asked.box.seal(content) for content in (*asked.files, asked.content)])
        if await self._sessions.post(session_id, item):
            return Accepted(session_id=session_id, run_id=item.run_id)
        known = await self._known(asked)
        if known is None:
            raise StoreUnavailable("The request could not be placed.", retry_after_s=1.0)
        return known

    async def _check_last(self, session_id: str, run_id: str, waiting: Sequence[inbox.QueuedRun]) -> None:
        """Raises Conflict when a run that the request means to follow is not the session's last one any more."""
        if not run_id:
            return
        last = waiting[-1].run_id if waiting else ""
        if not last:
            newest = await self._store.entries(EntryQuery(kind="run", stream=session_id, limit=_NEWEST))
            last = max(newest, key=lambda run: int(run.ref)).id if newest else ""
        if last != run_id:
            raise Conflict("The conversation has gone on since: follow its last answer, or name the session.")

    async def _run_started(self, asked: _Asked) -> ev.RunStarted:
        return ev.RunStarted(
            input_ref=asked.input_ref,
            seed=self._tools.ids.seed(),
            features=asked.features,
            snapshot=await self._tools.calls.snapshot(asked.bundle),
            roles=asked.roles,
            idempotency=asked.idempotency,
            request_digest=asked.request_digest,
            files=asked.file_refs,
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

    async def _known_after_all(self, asked: _Asked, error: AppendConflict) -> Accepted:
        """The run of another request with this key that was a moment faster; ours has left nothing behind."""
        known = await self._known(asked)
        if known is None:
            raise StoreUnavailable("The request could not be placed.", retry_after_s=1.0) from error
        return known


def _asked(
    request: RunRequest, said: Told, principal: Principal, bundle: Bundle, box: OwnerBox, *, scope: str
) -> _Asked:
    message, content = encoded(said.message)
    refs = tuple(file.ref for file in message.files)
    idempotency, request_digest = "", ""
    if request.idempotency_key:
        one_address = request.route != RUNS
        within = "" if one_address else scope
        parts = (principal.tenant, principal.user, request.route, within, request.idempotency_key)
        idempotency = box.keyed("idempotency", *parts)
        target = (scope, request.thread, request.after_run) if one_address else ()
        request_digest = box.keyed("request", *target, message.text, *request.features, *refs)
    thread = ""
    if request.thread:
        thread = box.keyed("thread", principal.tenant, principal.user, scope, request.thread)
    return _Asked(
        request=request,
        principal=principal,
        bundle=bundle,
        box=box,
        content=content,
        files=said.contents,
        file_refs=refs,
        input_ref=box.digest(content),
        idempotency=idempotency,
        request_digest=request_digest,
        thread=thread,
    )


def _put(runner: SessionRunner, asked: _Asked) -> None:
    """The bodies that travel with the request's first write."""
    for content in (*asked.files, asked.content):
        runner.texts.put(content)


def _open_run(runner: SessionRunner | None, cancelled: set[str], asked: _Asked) -> str | None:
    """The open run, if it answers this very request already."""
    run = runner.session.run if runner is not None else None
    if run is None:
        return None
    if asked.idempotency and run.idempotency == asked.idempotency:
        _refuse_mismatch(run.request_digest, asked)
        return run.id
    ends = bool(run.cancelled_by) or run.id in cancelled
    return run.id if run.request_ref == asked.input_ref and not ends else None


def _waiting_run(waiting: Sequence[inbox.QueuedRun], cancelled: set[str], asked: _Asked) -> str | None:
    """A waiting run that will answer this very request."""
    for item in waiting:
        if asked.idempotency and item.idempotency == asked.idempotency:
            _refuse_mismatch(item.request_digest, asked)
            return item.run_id
    same = (item.run_id for item in waiting if item.input_ref == asked.input_ref)
    return next((run_id for run_id in same if run_id not in cancelled), None)


def _refuse_mismatch(digest: str, asked: _Asked) -> None:
    if digest != asked.request_digest:
        raise IdempotencyMismatch("This Idempotency-Key was used with another request.")
