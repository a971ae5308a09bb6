"""The sessions that this process has at hand: takes their leases, gives them back, and finds the runner of each.

Whatever needs the writer of a session that runs elsewhere goes to its inbox; that writer folds it in.
"""

import contextlib
from collections.abc import Callable

import msgspec

from cattlegrid.core.bundle import Bundle, BundleVersion
from cattlegrid.core.errors import LeaseHeld, NotFound, StoreError
from cattlegrid.core.principal import Principal
from cattlegrid.journal import events as ev
from cattlegrid.journal.bodies import OwnerBox
from cattlegrid.journal.codec import micros
from cattlegrid.journal.store import InboxItem
from cattlegrid.journal.vault import Vault
from cattlegrid.journal.writer import SessionWriter, new_stream, open_stream
from cattlegrid.runtime import inbox
from cattlegrid.runtime.fold import fold_all
from cattlegrid.runtime.locks import Locks
from cattlegrid.runtime.ports import Bundles
from cattlegrid.runtime.runner import SessionRunner, Tools
from cattlegrid.runtime.state import Phase, Session, waits_for_people
from cattlegrid.runtime.streams import Streams
from cattlegrid.runtime.texts import Texts


def never_dead(_holder: str) -> bool:
    """Nobody can tell: every lease is waited for."""
    return False


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How this process holds sessions."""

    holder: str
    """The name of this process in leases."""
    lease_s: float = 6.0
    linger_s: float = 1.0
    """How long a session without work is kept at hand."""
    surely_dead: Callable[[str], bool] = never_dead
    """Whether the process of that name is gone for certain, so that its leases need not be waited for."""


class Sessions:
    """See the module."""

    def __init__(self, tools: Tools, *, vault: Vault, bundles: Bundles, settings: EngineSettings) -> None:
        self.streams = Streams()
        self.runners: dict[str, SessionRunner] = {}
        """The sessions at hand, by id."""
        self.takes_no_more = False
        self._tools = msgspec.structs.replace(tools, stream_of=self.streams.fed)
        self._store = tools.store
        self._vault = vault
        self._bundles = bundles
        self._settings = settings
        self._locks = Locks()

    async def runner(self, session_id: str) -> SessionRunner:
        """The runner of a session; takes the lease when nobody has it. Raises LeaseHeld, NotFound, SessionEnded."""
        async with self._locks.of(session_id):
            runner = self.runners.get(session_id)
            if runner is not None and runner.failed:
                await self._end(session_id)
                runner = None
            if runner is None:
                runner = self.runners[session_id] = await self._take(session_id)
                runner.poke()
        return runner

    def new(
        self, version: BundleVersion, bundle: Bundle, principal: Principal, box: OwnerBox
    ) -> tuple[SessionRunner, ev.SessionOpened]:
        """The runner of a session that does not exist before its first event is written, which is given too."""
        session_id = self._tools.ids.session()
        writer = new_stream(
            self._store,
            session_id,
            holder=self._settings.holder,
            lease_s=self._settings.lease_s,
            clock=self._tools.clock,
        )
        texts = Texts(box, self._store)
        opened = _opened(version, principal, box.owner, texts.put(principal.user))
        runner = SessionRunner(
            self._tools,
            writer=writer,
            session=Session(id=session_id),
            bundle=bundle,
            texts=texts,
            user=principal.user,
        )
        return runner, opened

    def keep(self, runner: SessionRunner) -> None:
        """Have a session at hand."""
        self.runners[runner.session.id] = runner

    async def attend(self, session_id: str) -> float:
        """See to what waits in a session; for how many seconds another process has it, 0 when none does.

        A process that stops takes none, so that what it has just handed over does not come back to it.
        """
        if self.takes_no_more and session_id not in self.runners:
            return self._settings.lease_s
        try:
            runner = await self.runner(session_id)
        except LeaseHeld as error:
            return error.retry_after_s or self._settings.lease_s
        runner.poke(inbox_changed=True)
        return 0.0

    async def post(self, session_id: str, item: inbox.Item) -> bool:
        """Put something into a session's inbox; False when its like was there before."""
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

    async def drop(self, session_id: str) -> None:
        """Stop working on a session at once, and give its lease back: its writer has failed, or is to be fenced."""
        async with self._locks.of(session_id):
            await self._end(session_id)

    async def let_go(self, session_id: str) -> None:
        """Give the lease of an idle session back."""
        async with self._locks.of(session_id):
            runner = self.runners.get(session_id)
            if runner is None or runner.busy:
                return
            run = runner.session.run
            if run is None or waits_for_people(run) or runner.failed:
                await self._end(session_id)
            else:
                runner.poke()

    async def _end(self, session_id: str) -> None:
        runner = self.runners.pop(session_id, None)
        if runner is None:
            return
        await runner.abandon()
        if runner.session.run is not None:
            self.streams.leave(runner.session.run.id)
        await runner.hand_over()

    async def writer_of(self, stream: str) -> tuple[SessionWriter, list[ev.Event]]:
        """Take the lease of a stream, at once if its holder is surely dead. Raises LeaseHeld."""
        try:
            return await self._open(stream)
        except LeaseHeld:
            head = await self._store.head(stream)
            if head is None or not self._settings.surely_dead(head.holder):
                raise
            # The epoch says that it is still the dead one's lease that ends here.
            await self._store.release(stream, epoch=head.epoch)
            return await self._open(stream)

    async def _open(self, stream: str) -> tuple[SessionWriter, list[ev.Event]]:
        return await open_stream(
            self._store,
            stream,
            holder=self._settings.holder,
            lease_s=self._settings.lease_s,
            clock=self._tools.clock,
        )

    async def _take(self, session_id: str) -> SessionRunner:
        writer, events = await self.writer_of(session_id)
        try:
            return await self._go_on(writer, fold_all(session_id, events), events)
        except BaseException:
            with contextlib.suppress(StoreError):
                await writer.release()
            raise

    async def _go_on(self, writer: SessionWriter, session: Session, events: list[ev.Event]) -> SessionRunner:
        """The runner that goes on from what is recorded."""
        if session.opened is None:
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
        run = session.run
        if run is not None:
            self.streams.fed(run.id)
            self.streams.recall(run.id, events)
            under_way = any(step.phase is Phase.INTENDED for step in run.steps.values())
            if under_way or not waits_for_people(run):
                resumed = ev.RunResumed(epoch=writer.epoch, attempt=run.attempts + 1)
                await runner.record([ev.NewEvent(resumed, run.id)])
        return runner


def _opened(version: BundleVersion, principal: Principal, owner: str, principal_ref: str) -> ev.SessionOpened:
    return ev.SessionOpened(
        tenant=principal.tenant,
        owner=owner,
        agent=version.agent,
        bundle=version.digest,
        bundle_number=version.number,
        principal_ref=principal_ref,
    )


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
