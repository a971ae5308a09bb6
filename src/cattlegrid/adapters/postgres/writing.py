"""The group committer: appends that wait are written together, in one statement that is durable when it returns.

While one group is under way the next one gathers. A group in which something does not hold is refused as a whole and
halved until each append that is to blame stands alone. A group whose connection breaks is settled: an event's hash is
found in its place only if the whole group was written, and if it was not, it is sent again; the heads see to it that it
counts once.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from psycopg import Error

from cattlegrid.adapters.postgres import owners
from cattlegrid.adapters.postgres.appending import (
    APPEND,
    Arguments,
    Move,
    Refused,
    arguments_of,
    moves_of,
    refused,
)
from cattlegrid.adapters.postgres.arrays import Texts
from cattlegrid.adapters.postgres.connections import (
    Connections,
    fetch,
    is_lost,
    is_unwritable,
    may_try_again,
)
from cattlegrid.core.errors import AppendConflict, CattlegridError, StoreUnavailable
from cattlegrid.journal.store import Append

_MOST_TOGETHER: Final = 500
_MOST_BYTES: Final = 16_000_000
_MAX_KNOWN_STREAMS: Final = 100_000
_PAUSE_S: Final = 0.05
_REASONS: Final = {
    "CG001": ("This writer is no longer the writer.", "head"),
    "CG002": ("This was folded in already.", "inbox"),
    "CG003": ("This user's data has been erased.", "owner"),
}
_WRITTEN: Final = "SELECT 1 FROM cattlegrid.events WHERE stream_id = $1 AND seq = $2 AND hash = $3"
_STREAMS: Final = "SELECT stream, id FROM cattlegrid.heads WHERE stream = ANY ($1)"
_NEW_IDS: Final = "SELECT nextval('cattlegrid.heads_id_seq') FROM generate_series(1, $1)"
_AHEAD: Final = 50
"""Numbers of streams that are drawn at once; those that are not used are lost."""
_EXISTS: Final = "SELECT 1 FROM cattlegrid.entries WHERE kind = $1 AND id = $2"


class Deletion(msgspec.Struct, frozen=True):
    """A stream to be deleted, and the append that says so."""

    stream: str
    audit: Append


class Job:
    """One write that was handed in; `stream` is the one that is appended to."""

    __slots__ = ("future", "stream", "work")

    def __init__(self, work: Append | Deletion, stream: str, future: asyncio.Future[None]) -> None:
        self.work = work
        self.stream = stream
        self.future = future


class Writer:
    """See the module. For one event loop."""

    def __init__(
        self,
        connections: Connections,
        *,
        now_us: Callable[[], int | None],
        written: Callable[[Sequence[str]], None],
    ) -> None:
        self.commits = 0
        """How many groups were made durable."""
        self._connections = connections
        self._now_us = now_us
        self._written = written
        self._queue: list[Job] = []
        self._last: dict[str, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._stream_ids: dict[str, int] = {}
        self._unused_ids: list[int] = []
        self._closed = False

    def submit(self, work: Append | Deletion, stream: str) -> asyncio.Future[None]:
        """Queue a write; writes of one stream are done in the order of the calls."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        if self._closed:
            future.set_exception(StoreUnavailable("The journal is closed."))
            return future
        self._queue.append(Job(work, stream, future))
        self._last[stream] = future
        if self._task is None:
            self._task = loop.create_task(self._drain())
        return future

    async def settled(self, stream: str) -> None:
        """Return once nothing waits that was queued for this stream before."""
        last = self._last.get(stream)
        if last is not None and not last.done():
            await asyncio.wait([last])

    def know(self, stream: str, stream_id: int) -> None:
        """Remember the number of a stream."""
        if len(self._stream_ids) >= _MAX_KNOWN_STREAMS:
            self._stream_ids.clear()
        self._stream_ids[stream] = stream_id

    def forget(self, stream: str) -> None:
        """Look the number of a stream up again."""
        self._stream_ids.pop(stream, None)

    async def close(self) -> None:
        """Write what is queued, and take nothing more."""
        self._closed = True
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        try:
            while self._queue:
                group = self._next_group()
                await self._handle(group)
                for job in group:
                    if self._last.get(job.stream) is job.future:
                        del self._last[job.stream]
        finally:
            self._task = None

    def _next_group(self) -> list[Job]:
        queue = self._queue
        count = size_bytes = 0
        for job in queue[:_MOST_TOGETHER]:
            if not isinstance(job.work, Append):
                break
            size_bytes += sum(len(body.sealed) for body in job.work.bodies)
            if count and size_bytes > _MOST_BYTES:
                break
            count += 1
        group, self._queue = queue[: count or 1], queue[count or 1 :]
        return group

    async def _handle(self, group: Sequence[Job]) -> None:
        first = group[0]
        try:
            if isinstance(first.work, Append):
                await self._append_group(group)
            else:
                await self._delete(first.work)
                _settle(group)
        except Refused as reason:
            _settle(group, reason.conflict or AppendConflict("This cannot be written.", detail=repr(reason)))
        except CattlegridError as error:
            _settle(group, error)
        except Error as error:
            _settle(group, self._connections.unavailable(error))
        except Exception as error:  # noqa: BLE001 - the top of a worker: whoever waits must hear of it
            _settle(group, StoreUnavailable("The journal could not do this.", detail=repr(error)))

    async def _append_group(self, group: Sequence[Job]) -> None:
        """Write a group; halve it when something in it does not hold."""
        batches = [job.work for job in group if isinstance(job.work, Append)]
        try:
            await self._append(batches)
        except Refused as reason:
            if len(group) == 1:
                self.forget(group[0].stream)
                _settle(group, await self._conflict(batches[0], reason))
                return
            half = len(group) // 2
            await self._append_group(group[:half])
            await self._append_group(group[half:])
            return
        self.commits += 1
        _settle(group)
        self._written(list({batch.stream for batch in batches if batch.rows}))

    async def _delete(self, deletion: Deletion) -> None:
        """Delete a stream. Raises Refused, psycopg.Error: then nothing was deleted, or nobody knows."""
        audit = deletion.audit
        ids = await self._ids_of([audit])
        arguments = arguments_of([audit], ids, moves_of([audit], ids), self._now_us())
        try:
            async with self._connections.use(patience_s=owners.LONG_S) as connection:
                await owners.delete_stream(connection, deletion.stream, arguments)
        except Error as error:
            if is_unwritable(error) or (error.sqlstate or "") in _REASONS:
                raise Refused(_reason(error, [audit])) from error
            raise
        self.forget(deletion.stream)
        self._written([audit.stream])

    async def _append(self, batches: Sequence[Append]) -> None:
        """Write appends, all or none. Raises Refused, StoreUnavailable, psycopg.Error."""
        ids = await self._ids_of(batches)
        moves = moves_of(batches, ids)
        arguments = arguments_of(batches, ids, moves, self._now_us())
        await self._send(arguments, list(moves.values()), batches)
        for stream, move in moves.items():
            if move.claim is not None:
                self.know(stream, move.stream_id)

    async def _send(self, arguments: Arguments, moves: Sequence[Move], batches: Sequence[Append]) -> None:
        """Call `append`, and find out whether it was done when the connection breaks. Raises as `_append` does."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._connections.patience_s
        in_doubt = False
        while True:
            try:
                async with self._connections.use() as connection:
                    if in_doubt and await fetch(connection, *_trace(moves)):
                        return
                    await fetch(connection, APPEND, arguments)
                    return
            except Error as error:
                if is_unwritable(error) or (error.sqlstate or "") in _REASONS:
                    if in_doubt and await self._connections.read(*_trace(moves)):
                        return
                    raise Refused(_reason(error, batches)) from error
                in_doubt = in_doubt or is_lost(error)
                again = may_try_again(error) or (is_lost(error) and _leaves_traces(moves))
                if not again or loop.time() > deadline_s:
                    raise
                await asyncio.sleep(_PAUSE_S)

    async def _ids_of(self, batches: Sequence[Append]) -> dict[str, int]:
        """The numbers of the streams of some appends, new ones for those that begin. Raises Refused: there is none."""
        claimed: set[str] = set()
        known: dict[str, int] = {}
        for batch in batches:
            if batch.claim is not None and batch.stream not in known:
                claimed.add(batch.stream)
            known[batch.stream] = self._stream_ids.get(batch.stream, 0)
        unknown = sorted(stream for stream, id in known.items() if not id and stream not in claimed)
        if unknown:
            for stream, stream_id in await self._connections.read(_STREAMS, (Texts.of(unknown),)):
                self.know(stream, stream_id)
                known[stream] = stream_id
        if len(self._unused_ids) < len(claimed):
            self._unused_ids += [
                row[0] for row in await self._connections.read(_NEW_IDS, (_AHEAD + len(claimed),))
            ]
        for stream in claimed:
            known[stream] = self._unused_ids.pop()
        for stream in unknown:
            if not known[stream]:
                raise refused("This writer is no longer the writer.", f"head {stream}")
        return known

    async def _conflict(self, batch: Append, reason: Refused) -> AppendConflict:
        if reason.conflict is not None:
            return reason.conflict
        cause = reason.__cause__
        if isinstance(cause, Error) and cause.diag.constraint_name == "heads_stream":
            return AppendConflict("This writer is no longer the writer.", detail=f"head {batch.stream}")
        for change in batch.changes:
            if change.create and await self._connections.read(_EXISTS, (change.entry.kind, change.entry.id)):
                return AppendConflict("This exists already.", detail=f"entry {change.entry.kind}")
        return AppendConflict("This cannot be written.", detail=repr(cause))


def _reason(error: Error, batches: Sequence[Append]) -> AppendConflict | None:
    found = _REASONS.get(error.sqlstate or "")
    if found is None or len(batches) > 1:
        return None
    message, detail = found
    return AppendConflict(message, detail=f"head {batches[0].stream}" if detail == "head" else detail)


def _leaves_traces(moves: Sequence[Move]) -> bool:
    """Whether it can be found out afterwards that a group was written."""
    return any(move.to_seq > move.seq for move in moves)


def _trace(moves: Sequence[Move]) -> tuple[str, tuple[int, int, bytes]]:
    """What is found only if the group was written: a hash covers all of its event, and everything before it."""
    move = next(move for move in moves if move.to_seq > move.seq)
    return _WRITTEN, (move.stream_id, move.to_seq, move.to_hash)


def _settle(group: Sequence[Job], error: CattlegridError | None = None) -> None:
    for job in group:
        if job.future.done():
            continue
        if error is None:
            job.future.set_result(None)
        else:
            job.future.set_exception(type(error)(error.message, detail=error.detail))
