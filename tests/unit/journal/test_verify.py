"""An honest journal passes; whatever somebody changed behind its back is found, at its place."""

import base64
from collections.abc import Callable, Sequence

import msgspec
import pytest

from cattlegrid.core.errors import IntegrityError
from cattlegrid.journal.codec import GENESIS, hash_of
from cattlegrid.journal.events import CONTROL_STREAM, CancelRequested, NewEvent, SessionRetired
from cattlegrid.journal.kek import Kek
from cattlegrid.journal.seals import Sealer, parse_seal, seal_line
from cattlegrid.journal.store import FeedRow, Head, Row
from cattlegrid.journal.verify import Report, verify
from cattlegrid.journal.writer import SessionWriter, open_stream
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.memory import MemoryJournal

pytestmark = pytest.mark.anyio

KEY = Kek(bytes(32)).signing_key()
PUBLIC = KEY.public_key()


class Tampered(MemoryJournal):
    """A journal whose reader sees what somebody made of it."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.tamper: Callable[[list[Row]], list[Row]] = lambda rows: rows
        self.fake_heads: Callable[[list[Head]], list[Head]] = lambda heads: heads

    async def feed(self, after: int, *, limit: int = 1_000) -> Sequence[FeedRow]:
        rows = self.tamper([found.row for found in await super().feed(0, limit=100_000)])
        return [FeedRow(position=place, row=row) for place, row in enumerate(rows, 1) if place > after][
            :limit
        ]

    async def heads_changed_since(self, position: int) -> tuple[int, Sequence[Head]]:
        last, heads = await super().heads_changed_since(position)
        return last, self.fake_heads(list(heads))


class Lines:
    """A seal log in memory."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def last(self) -> str:
        return self.lines[-1] if self.lines else ""

    async def append(self, line: str) -> None:
        self.lines.append(line)


class Journal:
    """Two sessions and the control stream, sealed three times."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = Tampered(self.clock)
        self.log = Lines()
        self.sealer = Sealer(self.store, self.log, KEY, self.clock)
        self.writers: dict[str, SessionWriter] = {}

    async def write(self, *streams: str) -> None:
        for stream in streams:
            if stream not in self.writers:
                self.writers[stream], _ = await open_stream(
                    self.store, stream, holder="test", lease_s=60, clock=self.clock
                )
            await self.writers[stream].append(
                [NewEvent(CancelRequested(by="ann")), NewEvent(CancelRequested(by="bob"))]
            )

    async def check(self) -> Report:
        return await verify(self.store, self.log.lines, PUBLIC)

    async def found(self) -> list[tuple[str, int]]:
        return [(problem.stream, problem.seq) for problem in (await self.check()).problems]


@pytest.fixture
async def journal() -> Journal:
    made = Journal()
    for streams in (("ses_1", "ses_2"), ("ses_1",), (CONTROL_STREAM,)):
        await made.write(*streams)
        made.clock.advance(60)
        await made.sealer.seal()
    return made


def without(stream: str, *seqs: int) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [row for row in rows if row.stream != stream or row.seq not in seqs]


def rewritten(stream: str, from_seq: int) -> Callable[[list[Row]], list[Row]]:
    """A stream with other data from one event on, and hashes that fit again."""

    def tamper(rows: list[Row]) -> list[Row]:
        made: list[Row] = []
        last = GENESIS
        for row in rows:
            if row.stream != stream:
                made.append(row)
                continue
            forged = msgspec.structs.replace(row, prev_hash=last)
            if row.seq == from_seq:
                forged = msgspec.structs.replace(forged, run_id="run_forged")
            forged = msgspec.structs.replace(forged, hash=hash_of(forged))
            last = forged.hash
            made.append(forged)
        return made

    return tamper


@pytest.mark.requirement("journal:verify")
async def test_an_honest_journal_passes_and_is_counted(journal: Journal) -> None:
    assert await journal.check() == Report(streams=3, events=8, seals=3, problems=())


async def test_an_empty_journal_passes() -> None:
    assert (await Journal().check()).ok


async def test_progress_is_told(journal: Journal) -> None:
    told: list[int] = []
    await verify(journal.store, journal.log.lines, PUBLIC, progress=told.append)
    assert told == [8]


async def test_seals_without_a_key_are_not_passed_over(journal: Journal) -> None:
    with pytest.raises(ValueError, match="key"):
        await verify(journal.store, journal.log.lines)


async def test_a_changed_event_is_found(journal: Journal) -> None:
    journal.store.tamper = lambda rows: [
        msgspec.structs.replace(row, at_us=1) if (row.stream, row.seq) == ("ses_1", 3) else row
        for row in rows
    ]
    assert await journal.found() == [("ses_1", 3)]


async def test_a_removed_event_is_found(journal: Journal) -> None:
    journal.store.tamper = without("ses_1", 2)
    assert ("ses_1", 3) in await journal.found()


async def test_a_cut_tail_is_found_by_the_head_that_was_left(journal: Journal) -> None:
    journal.store.tamper = without("ses_1", 4)
    problems = (await verify(journal.store)).problems
    assert [(problem.stream, problem.seq) for problem in problems] == [("ses_1", 4)]


@pytest.mark.requirement("journal:verify", "journal:seals")
async def test_a_cut_tail_whose_head_was_changed_too_is_found_by_its_seal(journal: Journal) -> None:
    journal.store.tamper = without("ses_1", 3, 4)
    (third,) = (row for row in await journal.store.rows("ses_1") if row.seq == 3)

    def shorter(heads: list[Head]) -> list[Head]:
        return [
            msgspec.structs.replace(head, seq=2, hash=third.prev_hash) if head.stream == "ses_1" else head
            for head in heads
        ]

    journal.store.fake_heads = shorter
    assert (await verify(journal.store)).ok
    problems = (await journal.check()).problems
    assert [(problem.stream, problem.seq) for problem in problems] == [("ses_1", 3)]
    assert "cut" in problems[0].what


@pytest.mark.requirement("journal:verify", "journal:seals")
async def test_a_stream_rewritten_with_fitting_hashes_is_found_by_its_seals(journal: Journal) -> None:
    journal.store.tamper = rewritten("ses_1", 1)
    last = journal.store.tamper([found.row for found in await MemoryJournal.feed(journal.store, 0)])
    (end,) = (row for row in last if (row.stream, row.seq) == ("ses_1", 4))
    journal.store.fake_heads = lambda heads: [
        msgspec.structs.replace(head, hash=end.hash) if head.stream == "ses_1" else head for head in heads
    ]
    assert (await verify(journal.store)).ok
    assert await journal.found() == [("ses_1", 2), ("ses_1", 4)]


async def test_a_head_that_is_not_the_last_event_is_found(journal: Journal) -> None:
    journal.store.fake_heads = lambda heads: [
        msgspec.structs.replace(head, hash=bytes(32)) if head.stream == "ses_2" else head for head in heads
    ]
    assert await journal.found() == [("ses_2", 2)]


async def test_a_stream_that_vanished_is_found_and_one_that_was_retired_is_not(journal: Journal) -> None:
    head = await journal.store.head("ses_2")
    assert head is not None
    retired = SessionRetired(session="ses_2", last_seq=head.seq, last_hash=head.hash.hex())
    journal.store.tamper = without("ses_2", 1, 2)
    journal.store.fake_heads = lambda heads: [head for head in heads if head.stream != "ses_2"]
    problems = (await journal.check()).problems
    assert [(problem.stream, problem.seq) for problem in problems] == [("ses_2", 1)]
    assert "gone" in problems[0].what
    journal.store.fake_heads = lambda heads: heads
    journal.store.tamper = lambda rows: rows
    await journal.writers[CONTROL_STREAM].retire("ses_2", [NewEvent(retired)])
    assert (await journal.check()).ok


async def test_a_retirement_that_tells_another_end_than_was_sealed_is_found(journal: Journal) -> None:
    false = SessionRetired(session="ses_2", last_seq=1, last_hash="00" * 32)
    await journal.writers[CONTROL_STREAM].retire("ses_2", [NewEvent(false)])
    assert await journal.found() == [("ses_2", 2)]


async def test_a_stream_that_retires_while_it_is_checked_is_no_problem(journal: Journal) -> None:
    head = await journal.store.head("ses_2")
    assert head is not None
    last, heads = await journal.store.heads_changed_since(0)
    await journal.writers[CONTROL_STREAM].retire(
        "ses_2", [NewEvent(SessionRetired(session="ses_2", last_seq=2, last_hash=head.hash.hex()))]
    )

    class Earlier(Tampered):
        async def heads_changed_since(self, position: int) -> tuple[int, Sequence[Head]]:
            return last, heads

        async def feed(self, after: int, *, limit: int = 1_000) -> Sequence[FeedRow]:
            return await MemoryJournal.feed(self, after, limit=limit)

    journal.store.__class__ = Earlier
    assert (await journal.check()).ok


async def test_an_event_of_a_type_that_nobody_knows_is_found(journal: Journal) -> None:
    def tamper(rows: list[Row]) -> list[Row]:
        forged = msgspec.structs.replace(rows[-1], type="teleported.1")
        return [*rows[:-1], msgspec.structs.replace(forged, hash=hash_of(forged))]

    journal.store.tamper = tamper
    assert any("unknown type" in problem.what for problem in (await journal.check()).problems)


def renumbered(line: str) -> str:
    return line.replace('"n":1', '"n":7')


@pytest.mark.parametrize(
    ("damage", "lines"),
    [
        (lambda lines: lines[1:], {1, 2}),
        (lambda lines: [lines[0], lines[2]], {2}),
        (lambda lines: [lines[1], lines[0], lines[2]], {1, 2, 3}),
        (lambda lines: [lines[0], "nonsense", lines[2]], {2, 3}),
        (lambda lines: [renumbered(lines[0]), *lines[1:]], {1, 2}),
    ],
    ids=["the first is missing", "one is missing", "another order", "nonsense", "a changed one"],
)
async def test_a_seal_log_that_was_changed_is_found(
    journal: Journal, damage: Callable[[list[str]], list[str]], lines: set[int]
) -> None:
    journal.log.lines = damage(journal.log.lines)
    problems = [problem for problem in (await journal.check()).problems if not problem.stream]
    assert {problem.seq for problem in problems} == lines


async def test_seals_of_another_key_are_found(journal: Journal) -> None:
    report = await verify(journal.store, journal.log.lines, Kek(b"x" * 32).signing_key().public_key())
    assert [problem.seq for problem in report.problems] == [1, 2, 3]


@pytest.mark.requirement("journal:seals")
async def test_a_seal_covers_what_moved_since_the_one_before(journal: Journal) -> None:
    seals = [parse_seal(line) for line in journal.log.lines]
    assert [[head[:2] for head in seal.heads] for seal in seals] == [
        [("ses_1", 2), ("ses_2", 2)],
        [("ses_1", 4)],
        [(CONTROL_STREAM, 2)],
    ]
    assert [seal.position for seal in seals] == [4, 6, 8]
    assert await journal.sealer.seal() is None
    assert len(journal.log.lines) == 3


async def test_nothing_is_sealed_after_a_line_that_is_not_ones_own(journal: Journal) -> None:
    journal.log.lines[-1] = seal_line(parse_seal(journal.log.lines[-1]), Kek(b"x" * 32).signing_key())
    await journal.write("ses_1")
    with pytest.raises(IntegrityError):
        await journal.sealer.seal()
    journal.log.lines[-1] = "nonsense"
    with pytest.raises(IntegrityError):
        await journal.sealer.seal()


async def test_a_signature_that_is_no_base64_is_a_problem_and_no_crash(journal: Journal) -> None:
    seal = parse_seal(journal.log.lines[0])
    for signature in ("", "*", base64.b64encode(b"short").decode()):
        journal.log.lines[0] = msgspec.json.encode(
            msgspec.structs.replace(seal, signature=signature)
        ).decode()
        assert not (await journal.check()).ok
