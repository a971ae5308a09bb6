"""The one writer of an open session: carries out what the loop decides, records it, and asks again.

It holds the session's lease. Calls run as tasks of their own and hand their outcomes back; everything that others want
arrives through the inbox. A write that fails poisons the writer: the runner stops at once, does nothing more to the
world, and the run is recovered by whoever takes the lease next.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from cattlegrid.calls.perform import Calls
from cattlegrid.calls.schemas import ToolSchemas
from cattlegrid.core.bundle import Bundle
from cattlegrid.core.errors import AppendConflict, CattlegridError, StoreError, StoreUnavailable
from cattlegrid.core.ids import Ids
from cattlegrid.core.ports import Clock, CrashPoints
from cattlegrid.guards.chain import GuardChain
from cattlegrid.journal import events as ev
from cattlegrid.journal.store import JournalStore
from cattlegrid.journal.writer import SessionWriter, Ticket
from cattlegrid.runtime import inbox, intake, loop, wording
from cattlegrid.runtime.attachments import NoPdf, PdfTexts
from cattlegrid.runtime.calling import Caller
from cattlegrid.runtime.fold import fold
from cattlegrid.runtime.plan import Desk, Launch
from cattlegrid.runtime.planner import Planner
from cattlegrid.runtime.state import Phase, Session
from cattlegrid.runtime.streams import RunStream, item_of
from cattlegrid.runtime.texts import Texts

_LOG: Final = logging.getLogger(__name__)


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What every runner of a process shares."""

    store: JournalStore
    calls: Calls
    guards: GuardChain
    schemas: ToolSchemas
    clock: Clock
    ids: Ids
    crash: CrashPoints
    stream_of: Callable[[str], RunStream]
    """The stream of a run, by its id."""
    pdf: PdfTexts = NoPdf()


class SessionRunner:
    """See the module. Made by `engine.Engine` once the lease is held and the events are folded."""

    def __init__(
        self,
        tools: Tools,
        *,
        writer: SessionWriter,
        session: Session,
        bundle: Bundle,
        texts: Texts,
        user: str,
    ) -> None:
        self._tools = tools
        self._writer = writer
        self.session = session
        self.bundle = bundle
        self._texts = texts
        self._desk = Desk(bundle=bundle, texts=texts, guards=tools.guards, schemas=tools.schemas, user=user)
        self._planner = Planner(self._desk)
        self._caller = Caller(tools.calls, clock=tools.clock, crash=tools.crash, desk=self._desk)
        self._queue: dict[str, inbox.QueuedRun] = {}
        self._calls: dict[str, asyncio.Task[None]] = {}
        self._drive: asyncio.Task[None] | None = None
        self._inbox_known = False
        self._left_for_later = False
        self._news = asyncio.Event()
        self._failure: BaseException | None = None
        self.takes_more = True
        """Whether runs that wait are begun; what waits is durable, and begun by whoever has the session next."""
        self.idle_since_s = tools.clock.monotonic_s()
        writer.on_poisoned = self._on_poisoned

    # what the engine asks

    @property
    def busy(self) -> bool:
        """Whether something is under way that this process must finish or hand over."""
        return self._drive is not None and not self._drive.done()

    @property
    def failed(self) -> bool:
        return self._failure is not None or self._writer.poisoned

    @property
    def epoch(self) -> int:
        return self._writer.epoch

    @property
    def texts(self) -> Texts:
        return self._texts

    @property
    def waiting(self) -> tuple[inbox.QueuedRun, ...]:
        """Requests that wait for the open run to end."""
        return tuple(self._queue.values())

    def begin(self, run_id: str, started: ev.RunStarted, *, before: Sequence[ev.NewEvent] = ()) -> Ticket:
        """Record a run that was admitted, and set it going; the result tells when it is durable.

        The model may be asked meanwhile: what has an effect waits for a barrier of its own, and nobody hears of the run
        before it is durable. If it never is, this writer is poisoned, which ends the call.
        """
        ticket = self._append([*before, ev.NewEvent(started, run_id)])
        self.poke()
        return ticket

    def record(self, new: Sequence[ev.NewEvent]) -> Ticket:
        """Record what the engine itself has to say of the session."""
        return self._append(new)

    @property
    def renewal_due(self) -> bool:
        return self._writer.renewal_due

    async def renew(self) -> None:
        """Lengthen the lease; a session that is lost to another writer stops."""
        try:
            await self._writer.renew()
        except AppendConflict as error:
            self._fail(error)
        except StoreUnavailable as error:
            # The lease still lasts as long as it did; no effect leaves once it has run out.
            _LOG.warning("the lease of %s was not renewed: %s", self.session.id, error)

    def poke(self, *, inbox_changed: bool = False) -> None:
        """Something may be to do."""
        if inbox_changed:
            self._inbox_known = False
        self._news.set()
        if not self.busy and not self.failed:
            self._drive = asyncio.create_task(self._run(), name=f"session {self.session.id}")

    async def settle(self) -> None:
        """Return once nothing is under way (all runs have ended or wait for a person, or the writer has failed)."""
        while self._drive is not None and not self._drive.done():
            await asyncio.wait({self._drive})

    async def abandon(self) -> None:
        """Stop at once, as a crash would, but for the calls that can be cancelled."""
        tasks = [
            task for task in (self._drive, *self._calls.values()) if task is not None and not task.done()
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._calls.clear()

    async def hand_over(self) -> None:
        """Make what was recorded durable, if that still can be, and give the lease back."""
        try:
            if not self.failed:
                await self._writer.barrier()
            await self._writer.release()
        except StoreError as error:
            _LOG.warning("the lease of %s was not given back: %s", self.session.id, error)

    # the drive

    async def _run(self) -> None:
        try:
            await self._go_on()
        except StoreError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - the top of a worker: the session is recovered elsewhere
            self._fail(error)
        finally:
            self.idle_since_s = self._tools.clock.monotonic_s()

    async def _go_on(self) -> None:
        told = (message.ref for message in (*self.session.context, *self.session.pending))
        await self._texts.load_images(told)
        while True:
            await self._fold_inbox()
            action = loop.next_action(self.session, self.bundle)
            if isinstance(action, loop.Rest):
                if not await self._next_run():
                    return
            elif not isinstance(action, loop.Wait):
                await self._act(action)
            elif self._calls:
                await self._wait_for_news()
            else:
                await self._writer.barrier()
                if self._inbox_known:
                    return

    async def _next_run(self) -> bool:
        """Begin a run that waited; False when nothing is left to do."""
        if self._queue and self.takes_more:
            await self._begin_queued()
            return True
        if self._left_for_later and not self._queue:
            # No run is open any more: what waited for that has its turn.
            self._left_for_later = self._inbox_known = False
        if not self._inbox_known:
            return True
        self._forget_old_texts()
        return False

    async def _wait_for_news(self) -> None:
        self._news.clear()
        news = asyncio.create_task(self._news.wait())
        try:
            await asyncio.wait({news, *self._calls.values()}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        if self._writer.failure is not None:
            raise self._writer.failure
        for step_id, task in list(self._calls.items()):
            if task.done():
                del self._calls[step_id]
                task.result()

    async def _act(self, action: loop.Action) -> None:
        plan = self._planner.plan(self.session, action)
        finishes = isinstance(action, loop.Finish)
        needs_barrier = finishes or any(launch.has_effect for launch in plan.launches)
        needs_barrier = needs_barrier or any(isinstance(new.data, ev.StepHeld) for new in plan.events)
        if needs_barrier:
            self._tools.crash.reach("before_finish" if finishes else "before_intent")
            await self._append(plan.events)
            self._tools.crash.reach("after_finish" if finishes else "after_intent")
        else:
            self._append(plan.events)
        if any(launch.has_effect for launch in plan.launches) and not self._writer.lease_valid():
            # The store tells whether somebody has taken the session over; if so, this raises.
            await self._writer.renew()
        run = self.session.run
        if run is None:
            return
        for launch in plan.launches:
            work = self._perform(launch, self.session, self._tools.stream_of(run.id))
            self._calls[launch.step_id] = asyncio.create_task(work, name=launch.step_id)

    async def _perform(self, launch: Launch, session: Session, stream: RunStream) -> None:
        outcome = await self._caller.make(
            launch, session, on_delta=lambda delta: stream.provisional(delta, launch.step_id)
        )
        run = self.session.run
        step = run.steps.get(launch.step_id) if run is not None else None
        if run is None or step is None or step.phase is not Phase.INTENDED or self.failed:
            return  # it was stopped, and has come back all the same
        self._append([ev.NewEvent(data, run.id) for data in outcome])
        self._tools.crash.reach("after_outcome")

    # the inbox

    async def _fold_inbox(self) -> None:
        while not self._inbox_known:
            self._inbox_known = True
            for posted in await self._tools.store.inbox(self.session.id):
                item = inbox.decode(posted.data)
                if isinstance(item, inbox.QueuedRun):
                    self._enqueue(posted.id, item)
                else:
                    await self._fold_in(posted.id, item)

    async def _fold_in(self, id: str, item: intake.Folded) -> None:
        if isinstance(item, inbox.Decided):
            await self._texts.load([item.note_ref, item.arguments_ref])
        waiting = {queued.run_id for queued in self._queue.values()}
        event = intake.event_of(item, self.session, self.bundle, waiting=waiting)
        if event is None:
            self._left_for_later = True
            return
        stopped = self._stop_calls() if isinstance(event.data, ev.CancelRequested) else []
        await self._append([event, *stopped], consumed=(id,))
        self._tools.crash.reach("after_inbox")

    def _enqueue(self, id: str, item: inbox.QueuedRun) -> None:
        new = id not in self._queue
        self._queue[id] = item
        run = self.session.run
        if new and item.interrupt and run is not None and not run.cancelled_by:
            cancelled = ev.CancelRequested(by="user", reason="interrupted")
            self._append([ev.NewEvent(cancelled, run.id), *self._stop_calls()])

    async def _begin_queued(self) -> None:
        id, item = next(iter(self._queue.items()))
        await self._texts.load([item.input_ref])
        await self._texts.load_images([item.input_ref])
        snapshot = await self._tools.calls.snapshot(self.bundle)
        started = ev.RunStarted(
            input_ref=item.input_ref,
            seed=self._tools.ids.seed(),
            features=item.features,
            snapshot=snapshot,
            roles=item.roles,
            idempotency=item.idempotency,
            request_digest=item.request_digest,
            files=item.files,
        )
        begins: list[ev.Data] = [started]
        if item.idempotency and await self._tools.store.entry("idempotency", item.idempotency):
            # Another process has admitted its like in the meantime: this one is told that it ends, and does nothing.
            repeated = ev.CancelRequested(by="clock", reason="repeated")
            begins = [msgspec.structs.replace(started, idempotency="", request_digest=""), repeated]
        del self._queue[id]
        # A cancel that came while the request waited is still in the inbox.
        self._inbox_known = False
        await self._append([ev.NewEvent(data, item.run_id) for data in begins], consumed=(id,))

    def _stop_calls(self) -> list[ev.NewEvent]:
        """Stop the calls that may be stopped; those with an effect run to their end, and those that settle a doubt."""
        run = self.session.run
        stopped: list[ev.NewEvent] = []
        for step in run.steps.values() if run is not None else ():
            task = self._calls.get(step.id)
            if run is None or task is None or step.has_effect or step.kind is ev.StepKind.RECONCILE:
                continue
            if step.phase is not Phase.INTENDED:
                continue  # its outcome is recorded already
            task.cancel()
            del self._calls[step.id]
            event = ev.StepFailed(step_id=step.id, code="cancelled")
            if step.tool is not None:
                message = self._desk.answer_to(run, step, wording.CANCELLED)
                ref, size_bytes = self._texts.put_message(message)
                event = msgspec.structs.replace(event, content_ref=ref, content_bytes=size_bytes)
            stopped.append(ev.NewEvent(event, run.id))
        return stopped

    # writing

    def _append(self, new: Sequence[ev.NewEvent], *, consumed: Sequence[str] = ()) -> Ticket:
        ticket = self._writer.append(new, bodies=self._texts.take_unwritten(), consumed=consumed)
        for event in ticket.events:
            self.session = fold(self.session, event)
        ticket.when_durable(partial(self._announce, ticket.events))
        return ticket

    def _announce(self, events: Sequence[ev.Event]) -> None:
        """Tell the watchers of the run what has become durable: what they were told is never taken back."""
        for event in events:
            item = item_of(event)
            if item is None or not event.run_id:
                continue
            stream = self._tools.stream_of(event.run_id)
            stream.record(item)
            if isinstance(event.data, ev.RunFinished):
                stream.close()

    def _forget_old_texts(self) -> None:
        live = (message.ref for message in (*self.session.context, *self.session.pending))
        self._texts.keep_only(live)

    def _on_poisoned(self, error: CattlegridError) -> None:
        self._fail(error)
        self._news.set()

    def _fail(self, error: BaseException) -> None:
        """Do nothing more to the world; whoever takes the lease next recovers the run."""
        self._failure = self._failure or error
        for task in self._calls.values():
            task.cancel()
