"""Sends the trace of every run that has ended to wherever traces are collected: a projection of the feed.

Nothing waits for it. The journal is its queue: a place of the feed is kept, and moves on once everything before it was
taken. In memory there is one page of the feed and one batch of spans. While the collector is away the place stays, for
a day at most; what is older then, or gone by retention, is counted as lost. One process of a store sends, under a
lease; when it dies, another one goes on, and may send the last batch again: under the same ids.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import ClassVar, Final, Protocol

import msgspec

from cattlegrid.core.errors import AppendConflict, CattlegridError, IntegrityError, LeaseHeld, SessionEnded
from cattlegrid.core.ports import Clock
from cattlegrid.journal import events as ev
from cattlegrid.journal.codec import decode, from_micros, type_of
from cattlegrid.journal.store import Entry, FeedRow, JournalStore
from cattlegrid.journal.vault import Vault
from cattlegrid.telemetry.series import Counter
from cattlegrid.telemetry.spans import Attributes, Span, content_refs, trace_of

EVERY_S: Final = 2.0
"""How often upkeep calls `round`."""
_STREAM: Final = "projection:traces"
"""No events: the name of the lease."""
_PLACE: Final = "traces_position"
_LEASE_S: Final = 30.0
_PAGE: Final = 500
_RUN_PAGE: Final = 100
_BATCH: Final = 512
_LAST_S: Final = 5.0
"""How long a process that stops tries to send its last traces; another one, or the next, sends the rest."""
_KEPT: Final = timedelta(days=1)
_FINISHED: Final = type_of(ev.RunFinished(status=ev.RunStatus.COMPLETED))


class Collector(msgspec.Struct, frozen=True, kw_only=True):
    """Where spans go, and in whose name."""

    url: str
    """Of traces: up to and with `/v1/traces`."""
    headers: Mapping[str, str] = {}
    """Mostly a key; never shown."""
    timeout_s: float = 10.0
    compressed: bool = False
    resource: Attributes = {}
    """What describes this service."""
    content: bool = False
    """Whether spans carry what users, models and tools said."""

    def __repr__(self) -> str:
        return f"Collector({self.url})"


class CollectorUnavailable(CattlegridError):
    """The collector took nothing and may take it later; carries `retry_after_s` when it said when."""

    code: ClassVar[str] = "collector_unavailable"


class SpanSink(Protocol):
    """Where spans go; `adapters.otlp` implements it."""

    async def send(self, spans: Sequence[Span]) -> int:
        """Hand spans over; how many were taken, the rest being refused for good. Raises CollectorUnavailable."""
        ...


class TraceExport:
    """The export of one store's traces by one process. For one event loop.

    Args:
        store: where the feed is read and the place is kept.
        vault: opens texts, when `content` asks for them.
        sink: where spans go.
        clock: for leases and the age of runs.
        holder: the name of this process in leases.
        content: whether spans carry what users, models and tools said.
    """

    def __init__(
        self,
        store: JournalStore,
        vault: Vault,
        sink: SpanSink,
        *,
        clock: Clock,
        holder: str,
        content: bool = False,
    ) -> None:
        self._store = store
        self._vault = vault
        self._sink = sink
        self._clock = clock
        self._holder = holder
        self._content = content
        self._epoch = 0
        self._held_until_s = 0.0
        self._not_before_s = 0.0
        self.spans = Counter("cattlegrid_trace_spans_total", "Spans offered to the collector.", ("outcome",))
        self.runs = Counter("cattlegrid_trace_runs_total", "Runs whose trace was sent or lost.", ("outcome",))

    async def round(self) -> int:
        """Send what is new; how many spans were taken. For upkeep, again and again.

        Raises:
            CollectorUnavailable, StoreUnavailable: nothing is lost; the next round begins at the same place.
        """
        if self._clock.monotonic_s() < self._not_before_s or not await self._leading():
            return 0
        taken = 0
        try:
            place = await self._place()
            while page := await self._store.feed(place, limit=_PAGE):
                taken += await self._send_page(page)
                place = page[-1].position
                if not await self._leading():
                    break
        except CollectorUnavailable as error:
            self._not_before_s = self._clock.monotonic_s() + (error.retry_after_s or 0.0)
            raise
        return taken

    async def close(self) -> None:
        """Send what ended last, if this process is the one that sends, and let another one go on at once."""
        if not self._epoch:
            return
        with contextlib.suppress(CattlegridError, TimeoutError):
            async with asyncio.timeout(_LAST_S):
                await self.round()
        epoch, self._epoch = self._epoch, 0
        await self._store.release(_STREAM, epoch=epoch)

    async def _leading(self) -> bool:
        """Whether this process is the one that sends; takes or lengthens the lease when it is time."""
        now_s = self._clock.monotonic_s()
        if self._epoch and now_s < self._held_until_s - _LEASE_S / 2:
            return True
        try:
            if self._epoch:
                await self._store.renew(_STREAM, epoch=self._epoch, lease_s=_LEASE_S)
            else:
                head = await self._store.acquire(_STREAM, holder=self._holder, lease_s=_LEASE_S)
                self._epoch = head.epoch
        except (LeaseHeld, AppendConflict):
            self._epoch = 0
            return False
        self._held_until_s = now_s + _LEASE_S
        return True

    async def _place(self) -> int:
        """Where to go on; for a store whose traces nobody has sent yet, its end: the past is not sent."""
        kept = await self._store.setting(_PLACE)
        if kept is not None:
            return int(kept)
        end, _ = await self._store.heads_changed_since(0)
        await self._store.put_setting(_PLACE, str(end))
        return end

    async def _send_page(self, page: Sequence[FeedRow]) -> int:
        """Send what ended within a page, batch by batch; the place moves on with each that was taken."""
        taken = sent = lost = 0
        batch: list[Span] = []
        for item in page:
            if item.row.type == _FINISHED:
                trace = await self._trace(item)
                batch += trace
                sent, lost = sent + bool(trace), lost + (not trace)
            if len(batch) >= _BATCH or item is page[-1]:
                taken += await self._send(batch) if batch else 0
                await self._store.put_setting(_PLACE, str(item.position))
                _count(self.runs, sent=sent, lost=lost)
                batch, sent, lost = [], 0, 0
        return taken

    async def _send(self, batch: Sequence[Span]) -> int:
        taken = await self._sink.send(batch)
        _count(self.spans, taken=taken, refused=len(batch) - taken)
        return taken

    async def _trace(self, item: FeedRow) -> list[Span]:
        """The spans of a run; none when it is too old, gone, or not readable: one run must not hold up the others."""
        try:
            return await self._read_trace(item)
        except IntegrityError:
            return []

    async def _read_trace(self, item: FeedRow) -> list[Span]:
        entry = await self._store.entry("run", item.row.run_id)
        late = self._clock.now() - from_micros(item.row.at_us) > _KEPT
        events = await self._events(entry) if entry is not None and not late else []
        if entry is None or not events:
            return []
        first = [decode(row) for row in await self._store.rows(entry.stream, limit=1)]
        opened = first[0].data if first else None
        if not isinstance(opened, ev.SessionOpened):
            return []
        if not self._content:
            return trace_of(opened, events)
        return trace_of(opened, events, texts=await self._texts(entry.owner, events))

    async def _events(self, run: Entry) -> list[ev.Event]:
        """Everything recorded of a run that has ended; nothing when retention has taken it meanwhile."""
        found: list[ev.Event] = []
        seq = int(run.ref) - 1
        while rows := await self._store.rows(run.stream, after_seq=seq, limit=_RUN_PAGE):
            for event in (decode(row) for row in rows if row.run_id == run.id):
                found.append(event)
                if isinstance(event.data, ev.RunFinished):
                    return found
            seq = rows[-1].seq
        return []

    async def _texts(self, owner: str, events: Sequence[ev.Event]) -> Mapping[str, str]:
        """What was said in a run; nothing of an erased user."""
        try:
            found = await self._vault.read(owner, content_refs(events))
        except (SessionEnded, IntegrityError):
            return {}
        return {ref: content.decode("utf-8", "replace") for ref, content in found.items()}


def _count(counter: Counter, **outcomes: int) -> None:
    for outcome, amount in outcomes.items():
        if amount:
            counter.add(outcome, amount=amount)
