"""Proves that a journal is what was written: every hash, every link, every head, and every seal that was ever made.

Reads the feed once, whatever the number of streams. What it finds is said with stream and sequence number; it goes on
after each problem, so that all of them are found.
"""

from collections.abc import Callable, Iterable

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cattlegrid.core.errors import IntegrityError
from cattlegrid.journal.codec import CURRENT_TYPES, GENESIS, decode, hash_of
from cattlegrid.journal.events import CONTROL_STREAM, SessionRetired
from cattlegrid.journal.seals import is_signed, line_hash, parse_seal
from cattlegrid.journal.store import Head, JournalStore, Row
from cattlegrid.journal.upcasters import UPCASTERS

PAGE: int = 5_000

Progress = Callable[[int], None]
"""Told how many events have been checked so far."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it was written. `stream` is empty for the seal log itself, `seq` is then the line."""

    stream: str
    seq: int
    what: str

    def __str__(self) -> str:
        return f"{self.stream or 'seal log'} {self.seq}: {self.what}"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was checked, and what was found."""

    streams: int
    events: int
    seals: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


async def verify(
    store: JournalStore,
    seals: Iterable[str] = (),
    key: Ed25519PublicKey | None = None,
    *,
    progress: Progress | None = None,
) -> Report:
    """Check a whole store, and that it holds what the lines of its seal log say.

    Args:
        store: may be written to meanwhile; what comes later is not checked.
        seals: the lines of the log, oldest first.
        key: whose signature they must have; needed when there are lines.
        progress: told after each page.

    Raises:
        StoreUnavailable: the store does not answer.
        ValueError: there are seals but no key.
    """
    check = _Check()
    check.read_seals(seals, key)
    last, heads = await store.heads_changed_since(0)
    position = 0
    while position < last:
        page = await store.feed(position, limit=PAGE)
        if not page:
            break
        for found in page:
            look = check.see if found.position <= last else check.note_retirement
            look(found.row)
        position = page[-1].position
        if progress is not None:
            progress(check.events)
    # A stream that retention has deleted since the beginning is named in the control stream by now.
    while later := await store.feed(position, limit=PAGE):
        for found in later:
            check.note_retirement(found.row)
        position = later[-1].position
    check.compare_heads(heads)
    check.compare_seals()
    return check.report()


class _Check:
    """What has been seen so far."""

    def __init__(self) -> None:
        self.events = 0
        self._seals = 0
        self._problems: list[Problem] = []
        self._ends: dict[str, tuple[int, bytes]] = {}
        self._sealed: dict[str, dict[int, str]] = {}
        self._retired: dict[str, SessionRetired] = {}

    def read_seals(self, lines: Iterable[str], key: Ed25519PublicKey | None) -> None:
        before = ""
        for number, line in enumerate(lines, 1):
            if key is None:
                raise ValueError("seals can only be checked with a key")
            self._seals += 1
            try:
                seal = parse_seal(line)
            except IntegrityError as error:
                self._found("", number, f"not a seal: {error.detail}")
                before = line
                continue
            if not is_signed(seal, key):
                self._found("", number, "the signature is not that of this journal's key")
            if seal.n != number or seal.prev != line_hash(before):
                self._found(
                    "", number, "does not follow the line before it: lines are missing or out of order"
                )
            for stream, seq, digest in seal.heads:
                self._sealed.setdefault(stream, {})[seq] = digest
            before = line

    def see(self, row: Row) -> None:
        seq, last_hash = self._ends.get(row.stream, (0, GENESIS))
        if row.seq != seq + 1:
            self._found(row.stream, row.seq, f"follows event {seq}: events between are missing")
        elif row.prev_hash != last_hash:
            self._found(
                row.stream, row.seq, "does not follow the event before it: one of the two was rewritten"
            )
        if row.hash != hash_of(row):
            self._found(row.stream, row.seq, "is not what its hash says: it was rewritten")
        sealed = self._sealed.get(row.stream)
        if sealed is not None:
            digest = sealed.pop(row.seq, None)
            if digest is not None and digest != row.hash.hex():
                self._found(row.stream, row.seq, "is not the event that was sealed: its stream was rewritten")
        if row.type not in CURRENT_TYPES and row.type not in UPCASTERS:
            self._found(row.stream, row.seq, f"has the unknown type {row.type!r}")
        self._ends[row.stream] = (row.seq, row.hash)
        self.events += 1
        self.note_retirement(row)

    def note_retirement(self, row: Row) -> None:
        if row.stream != CONTROL_STREAM or not row.type.startswith("session_retired."):
            return
        try:
            data = decode(row).data
        except IntegrityError as error:
            self._found(row.stream, row.seq, str(error))
            return
        if isinstance(data, SessionRetired):
            self._retired[data.session] = data

    def compare_heads(self, heads: Iterable[Head]) -> None:
        for head in heads:
            if head.stream in self._retired:
                continue
            seq, last_hash = self._ends.get(head.stream, (0, GENESIS))
            if head.seq > seq:
                self._found(head.stream, seq + 1, f"is missing: events up to {head.seq} were written")
            elif (head.seq, head.hash) != (seq, last_hash):
                self._found(head.stream, head.seq, "the head of the stream is not its last event")

    def compare_seals(self) -> None:
        for stream, left in self._sealed.items():
            if not left:
                continue
            retired = self._retired.get(stream)
            last_seq = max(left)
            if retired is not None:
                if (
                    last_seq > retired.last_seq
                    or left.get(retired.last_seq, retired.last_hash) != retired.last_hash
                ):
                    self._found(stream, last_seq, "was sealed with another end than its retirement says")
            elif stream in self._ends:
                seq = self._ends[stream][0]
                self._found(stream, seq + 1, f"is missing: the tail was cut, event {last_seq} was sealed")
            else:
                self._found(
                    stream, 1, f"the stream is gone without a retirement, event {last_seq} was sealed"
                )

    def report(self) -> Report:
        return Report(
            streams=len(self._ends), events=self.events, seals=self._seals, problems=tuple(self._problems)
        )

    def _found(self, stream: str, seq: int, what: str) -> None:
        self._problems.append(Problem(stream=stream, seq=seq, what=what))
