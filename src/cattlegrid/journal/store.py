"""The port of the journal: what a store of streams, bodies, leases, inboxes and keys must do.

Implementations: `adapters.sqlite`, `adapters.postgres`, `testing.memory`. All pass `testing.contracts.journal`. Pure logic (encoding,
chains, keys, deltas) stands beside this file and is the same for all stores: a store moves opaque rows.

Every method may raise `StoreUnavailable`. `append` never blocks: it queues the batch for the next shared transaction
and returns a ticket; whoever needs durability awaits the ticket (a barrier).

Bodies. An append carries every body that its events are the first ones of their stream to refer to, whether or not the
owner has it already: the store keeps one of each, and remembers that this stream needs it. A user's body can be stored
only while the owner has a key, so that nothing of an erased user comes back.
"""

from asyncio import Future
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from cattlegrid.journal.notices import Notice


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One encoded event. `hash` is SHA-256 over `prev_hash` and the canonical encoding of the rest."""

    stream: str
    seq: int
    run_id: str
    type: str
    at_us: int
    """Microseconds since 1970, UTC."""
    data: bytes
    prev_hash: bytes
    hash: bytes


class FeedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row with its place in commit order over all streams."""

    position: int
    row: Row


class BodyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One sealed body; `digest` is unique per owner."""

    owner: str
    digest: str
    sealed: bytes


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Where a stream ends and who may write to it."""

    stream: str
    epoch: int
    seq: int
    hash: bytes
    holder: str
    """Name of the process that holds the lease; empty when nobody does."""
    lease_until: datetime | None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the directory: what can be listed and looked up without reading streams.

    Written in the same transaction as the events that it is derived from (`journal/directory.py`), so that whoever
    wrote an event finds it at once.
    """

    kind: str
    """`session`, `run`, `approval`, `idempotency`, `thread` or `audit`."""
    id: str
    stream: str
    tenant: str = ""
    owner: str = ""
    agent: str = ""
    status: str = ""
    ref: str = ""
    """session: digest of the bundle; run: sequence number of its first event; approval and idempotency: the run id;
    thread: the session id; audit: sequence number of its event."""
    digest: str = ""
    """idempotency: the keyed digest of the request."""
    due_us: int = 0
    """approval: when it expires, 0 for never."""
    created_us: int = 0
    updated_us: int = 0


class EntryChange(msgspec.Struct, frozen=True, kw_only=True):
    """What one event does to the directory. With `create`, an existing entry of that kind and id is a conflict."""

    entry: Entry
    create: bool = False
    """When false, a missing entry is made; of one that exists, the non-empty ones of `status`, `ref`, `due_us` and
    `updated_us` are set and the rest stays as it is."""


class InboxItem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a stream's writer shall fold in. `(stream, key)` is unique: one decision, once."""

    id: str
    stream: str
    key: str
    """For example `approval:apr_...`, `cancel:run_...`, `message:<id>`, `feedback:<id>`."""
    data: bytes
    at_us: int


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The lease of a stream that does not exist yet, taken by its first append: one write where it would be two."""

    holder: str
    lease_s: float


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """One all-or-nothing write to one stream by the holder of its lease."""

    stream: str
    epoch: int
    expected_seq: int
    """Sequence number of the stream's last event, 0 for an empty stream."""
    expected_hash: bytes
    rows: tuple[Row, ...]
    bodies: tuple[BodyRow, ...] = ()
    changes: tuple[EntryChange, ...] = ()
    consumed: tuple[str, ...] = ()
    """Ids of this stream's inbox items that these events fold in; their data is deleted, their keys stay used."""
    claim: Claim | None = None
    """Makes the stream, with this lease and epoch 1; one that exists is a conflict."""


class OwnerKey(msgspec.Struct, frozen=True, kw_only=True):
    """The data key of an owner, wrapped with the key-encryption key."""

    owner: str
    wrapped: bytes
    created_us: int


class EntryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries to list, newest first. Empty fields match everything; `before_id` pages on."""

    kind: str
    tenant: str = ""
    owner: str = ""
    agent: str = ""
    stream: str = ""
    statuses: tuple[str, ...] = ()
    updated_before_us: int | None = None
    due_before_us: int | None = None
    before_id: str = ""
    limit: int = 50


class JournalStore(Protocol):
    """The store. Safe for use from one event loop; other processes may use the same database."""

    # leases and appends

    async def acquire(self, stream: str, *, holder: str, lease_s: float) -> Head:
        """Take the lease of a stream (made when new): the epoch grows by one.

        Raises:
            LeaseHeld: somebody's lease has not ended, the same process included.
        """
        ...

    async def renew(self, stream: str, *, epoch: int, lease_s: float) -> Head:
        """Lengthen a lease that is held. Raises AppendConflict when the epoch has moved on."""
        ...

    async def release(self, stream: str, *, epoch: int) -> None:
        """End a lease early; without effect when the epoch has moved on."""
        ...

    def append(self, batch: Append) -> Future[None]:
        """Queue a write for the next shared transaction; the result tells when it is durable.

        Await it through `asyncio.shield`: cancelling the future does not take the write back.

        The write happens only when stream, epoch, last sequence number and last hash are as expected; a conflict
        fails this write alone. Writes of one stream are applied in the order in which they were queued; when one
        fails, those queued after it fail too, since their expectations cannot hold.

        Raises (from the awaitable):
            AppendConflict: the head has moved; or an entry to be created exists (`detail` is `entry <kind>`); or an
                inbox item is not there to be folded in (`inbox`); or the owner of a body has no key (`owner`).
        """
        ...

    async def head(self, stream: str) -> Head | None: ...

    def listen(self, hear: Callable[[Notice], None]) -> Callable[[], None]:
        """Have something called when streams have new events or new inbox items, until the result is called.

        Hints that may be late, doubled or lost. A store that several processes share passes on what the others write
        if it can; what this one writes is always told.
        """
        ...

    # reading

    async def rows(self, stream: str, *, after_seq: int = 0, limit: int | None = None) -> Sequence[Row]: ...

    async def feed(self, after: int, *, limit: int = 1_000) -> Sequence[FeedRow]:
        """Events of all streams in commit order, none skipped."""
        ...

    async def bodies(self, owner: str, digests: Sequence[str]) -> Sequence[BodyRow]:
        """The sealed bodies that exist; missing ones are left out."""
        ...

    async def put_bodies(self, bodies: Sequence[BodyRow]) -> None:
        """Store bodies that no event refers to yet (a bundle's files, the text of an inbox item).

        Raises:
            SessionEnded: a user's body, and that user has no key; nothing was stored.
        """
        ...

    async def entry(self, kind: str, id: str) -> Entry | None: ...

    async def entries(self, query: EntryQuery) -> Sequence[Entry]: ...

    # inbox

    async def post(self, item: InboxItem) -> bool:
        """Add an item; False when an item with that key exists or existed in this stream."""
        ...

    async def inbox(self, stream: str) -> Sequence[InboxItem]:
        """Items not yet folded in, oldest first."""
        ...

    async def streams_with_inbox(self) -> Sequence[str]:
        """Streams that have items not yet folded in, whoever holds their lease."""
        ...

    # owners, erasure, retention

    async def owner_key(self, owner: str) -> OwnerKey | None: ...

    async def create_owner_key(self, key: OwnerKey) -> OwnerKey:
        """Store a key unless the owner has one; the one that counts is returned."""
        ...

    async def erase_owner(self, owner: str, *, at_us: int) -> Sequence[str]:
        """Delete the owner's key and bodies, raise the epoch of the owner's sessions (which fences their writers).

        Returns the streams of all their sessions. Idempotent.
        """
        ...

    def delete_stream(self, stream: str, *, audit: Append) -> Future[None]:
        """Delete a stream with its entries, inbox and those bodies of its owner that no other stream refers to.

        `audit` is appended to its own stream (control) in the same transaction and may conflict like any append.
        Queued like an append, in the order of the call.
        """
        ...

    # keys of the store itself, seals, small settings

    async def setting(self, name: str) -> str | None: ...

    async def put_setting(self, name: str, value: str) -> None: ...

    async def first_setting(self, name: str, value: str) -> str:
        """Keep a setting unless there is one of that name; the one that counts is returned."""
        ...

    async def heads_changed_since(self, position: int) -> tuple[int, Sequence[Head]]:
        """The last feed position, and the heads of the streams with events after `position`."""
        ...

    async def ping(self) -> None:
        """Prove that a durable write is possible. Raises StoreUnavailable."""
        ...

    async def close(self) -> None: ...
