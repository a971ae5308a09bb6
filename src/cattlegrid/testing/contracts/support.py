"""What the journal's contract suites share: the implementation under test, a minimal writer, and `raises`."""

from asyncio import Future
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol, TypeVar

from cattlegrid.core.errors import CattlegridError
from cattlegrid.journal import directory
from cattlegrid.journal.bodies import OwnerBox
from cattlegrid.journal.codec import encode
from cattlegrid.journal.directory import StreamContext
from cattlegrid.journal.events import Data, Event, FeedbackGiven, RunStarted, SessionOpened
from cattlegrid.journal.kek import Kek
from cattlegrid.journal.store import Append, BodyRow, EntryChange, Head, JournalStore, Row
from cattlegrid.journal.vault import Vault
from cattlegrid.testing.clock import ManualClock

E = TypeVar("E", bound=CattlegridError)

LEASE_S: Final = 30.0
OWNER: Final = "usr_" + "0a" * 16
KEK: Final = Kek(bytes(range(32)))


class JournalUnderTest(Protocol):
    """A store and the means to restart it. `clock` is the one that the store reads."""

    store: JournalStore
    clock: ManualClock

    async def reopen(self) -> JournalStore:
        """Close the store and open it again on the same data; it replaces `store`."""
        ...

    async def another(self) -> JournalStore:
        """A second store on the same data, as another process would have; closed by the caller's fixture."""
        ...


class Raised:
    """The error that a `raises` block has met."""

    error: CattlegridError


@contextmanager
def raises(kind: type[CattlegridError]) -> Generator[Raised]:
    """The block must raise an error of this kind."""
    raised = Raised()
    try:
        yield raised
    except kind as error:
        raised.error = error
    else:
        raise AssertionError(f"{kind.__name__} was not raised")


async def now_and_after_a_restart(journal: JournalUnderTest) -> AsyncGenerator[JournalStore]:
    """The store as it is, and then opened again."""
    yield journal.store
    yield await journal.reopen()


class Scribe:
    """A minimal writer of one stream: numbers and chains events, and keeps the directory."""

    def __init__(self, journal: JournalUnderTest, head: Head, *, store: JournalStore | None = None) -> None:
        self._store = store or journal.store
        self._clock = journal.clock
        self.stream: Final = head.stream
        self.epoch = head.epoch
        self.seq = head.seq
        self.hash = head.hash
        self.context = StreamContext(stream=head.stream)

    def batch(
        self, *data: Data, run_id: str = "", bodies: Sequence[BodyRow] = (), consumed: Sequence[str] = ()
    ) -> Append:
        """The next write; the scribe goes on as if it had succeeded."""
        expected = (self.seq, self.hash)
        rows: list[Row] = []
        changes: list[EntryChange] = []
        for one in data:
            event = Event(
                stream=self.stream,
                seq=self.seq + 1,
                run_id=run_id,
                at=self._clock.now(),
                data=one,
                prev_hash=self.hash,
            )
            row = encode(event)
            rows.append(row)
            self.context, made = directory.index(self.context, event)
            changes.extend(made)
            self.seq, self.hash = row.seq, row.hash
        return Append(
            stream=self.stream,
            epoch=self.epoch,
            expected_seq=expected[0],
            expected_hash=expected[1],
            rows=tuple(rows),
            bodies=tuple(bodies),
            changes=tuple(changes),
            consumed=tuple(consumed),
        )

    def write(
        self, *data: Data, run_id: str = "", bodies: Sequence[BodyRow] = (), consumed: Sequence[str] = ()
    ) -> Future[None]:
        """Queue the next write."""
        return self._store.append(self.batch(*data, run_id=run_id, bodies=bodies, consumed=consumed))


async def scribe(
    journal: JournalUnderTest, stream: str = "ses_1", *, store: JournalStore | None = None
) -> Scribe:
    """A scribe that holds the lease of a stream."""
    head = await (store or journal.store).acquire(stream, holder="contract", lease_s=LEASE_S)
    return Scribe(journal, head, store=store)


async def session(journal: JournalUnderTest, stream: str = "ses_1", *, owner: str = OWNER) -> Scribe:
    """A scribe whose session is open."""
    writer = await scribe(journal, stream)
    await writer.write(opened(owner))
    return writer


async def owner_box(journal: JournalUnderTest, owner: str = OWNER) -> OwnerBox:
    """The box of an owner who has a key."""
    return await Vault(journal.store, KEK, journal.clock).create_owner(owner)


def opened(owner: str = OWNER) -> SessionOpened:
    """The first event of a session."""
    return SessionOpened(
        tenant="acme", owner=owner, agent="support", bundle="3f" * 32, bundle_number=1, principal_ref=""
    )


def started(input_ref: str = "", *, idempotency: str = "") -> RunStarted:
    """The first event of a run."""
    return RunStarted(
        input_ref=input_ref, seed=1, idempotency=idempotency, request_digest="d" if idempotency else ""
    )


def said(ref: str = "", *, by: str = "somebody") -> FeedbackGiven:
    """An event that refers to one body and changes no entry."""
    return FeedbackGiven(run_id="", by=by, text_ref=ref)
