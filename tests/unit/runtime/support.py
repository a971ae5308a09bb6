"""What the tests of the runtime share: worlds that are checked when a test ends, doors, crashes, and passing time."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Final, Protocol, TypeVar

from msgspec.structs import replace

from cattlegrid.core.bundle import Bundle, ContextPolicy, Limits, OutcomeRule, Tool
from cattlegrid.core.messages import ModelRequest, ModelResponse, Role, ToolCall
from cattlegrid.guards.chain import Guard
from cattlegrid.journal import events as ev
from cattlegrid.journal.codec import check_chain
from cattlegrid.journal.store import Append, Entry, EntryQuery, InboxItem, Row
from cattlegrid.runtime.requests import Accepted, RunRequest, RunView
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.memory import MemoryJournal
from cattlegrid.testing.models import Answer, answer, call
from cattlegrid.testing.world import ANA, STAFF, World, bundle_of, tool_of

T = TypeVar("T")
Script = Iterable[Answer] | Callable[[ModelRequest], Answer]

LOOK: Final = tool_of("look", arguments={"id": "integer"})
PAY_FREE: Final = tool_of("pay_free", effect="write", retry="free", arguments={"id": "integer"})
PAY_KEYED: Final = tool_of("pay_keyed", effect="write", retry="keyed", arguments={"id": "integer"})
PAY_ONCE: Final = tool_of("pay_once", effect="write", retry="once", arguments={"id": "integer"})
ENDED: Final = frozenset(status.value for status in ev.RunStatus)
LEASE_S: Final = 6.0


class Build(Protocol):
    """Makes worlds that are checked at the end of the test."""

    def __call__(
        self,
        bundle: Bundle,
        script: Script,
        *,
        functions: Mapping[str, Callable[..., object]] | None = None,
        guards: Sequence[Guard] = (),
        crash: "CrashAt | None" = None,
        replayed: bool = True,
    ) -> World: ...


class Disk(MemoryJournal):
    """A journal in memory whose disk stops at a chosen write: nothing after it ever becomes durable."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.writes_left: int | None = None
        """Writes until the disk stops; None for one that does not."""
        self.writes = 0
        self.forged: dict[str, list[Row]] = {}
        """What somebody with a hand on the disk has put in the place of a stream's rows."""
        self._slow = False
        self._late: list[tuple[Append, asyncio.Future[None]]] = []

    @property
    def stopped(self) -> bool:
        return self.writes_left == 0

    async def rows(self, stream: str, *, after_seq: int = 0, limit: int | None = None) -> Sequence[Row]:
        if stream in self.forged:
            return [row for row in self.forged[stream] if row.seq > after_seq][:limit]
        return await super().rows(stream, after_seq=after_seq, limit=limit)

    def slow(self) -> None:
        """Keep the appends that come from now on back."""
        self._slow = True

    def hurry(self) -> None:
        """Make the appends that were kept back, in their order."""
        self._slow = False
        late, self._late = self._late, []
        for batch, ticket in late:
            super().append(batch).add_done_callback(partial(_pass_on, ticket))

    def lose_queued(self) -> int:
        self._slow = False
        late, self._late = self._late, []
        return super().lose_queued() + len(late)

    def append(self, batch: Append) -> asyncio.Future[None]:
        if self._slow:
            ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._late.append((batch, ticket))
            return ticket
        return super().append(batch) if self._spin() else _never()

    async def post(self, item: InboxItem) -> bool:
        return await (super().post(item) if self._spin() else _never_posted())

    def _spin(self) -> bool:
        if self.writes_left == 0:
            return False
        self.writes += 1
        if self.writes_left is not None:
            self.writes_left -= 1
        return True


def disk(world: World) -> Disk:
    """The disk of a world that `build` has made."""
    assert isinstance(world.store, Disk)
    return world.store


def _pass_on(ticket: asyncio.Future[None], written: asyncio.Future[None]) -> None:
    error = written.exception()
    if error is None:
        ticket.set_result(None)
    else:
        ticket.set_exception(error)


def _never() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def _never_posted() -> bool:
    await _never()
    return False


class Crashed(Exception):
    """The process is as good as dead from here on."""


class CrashAt:
    """A `CrashPoints` that raises the `occurrence`th time that a place is reached, and counts all of them."""

    def __init__(self, name: str = "", occurrence: int = 1) -> None:
        self.reached: Counter[str] = Counter()
        self.arm(name, occurrence)

    def arm(self, name: str, occurrence: int = 1) -> None:
        """Raise there, from now on; nowhere, with an empty name."""
        self._name = name
        self._left = occurrence

    def reach(self, name: str) -> None:
        self.reached[name] += 1
        if name == self._name:
            self._left -= 1
            if self._left == 0:
                raise Crashed(name)


class Door:
    """A place where a tool waits until the test opens it."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._open = asyncio.Event()

    def open(self) -> None:
        self._open.set()

    async def enter(self) -> None:
        self.reached.set()
        await self._open.wait()


class Till:
    """Counts payments as the world outside does: each attempt, by the key that came with it."""

    def __init__(self) -> None:
        self.payments: list[int] = []
        self.keys: list[str] = []

    def pay(self, id: int) -> object:
        self.payments.append(id)
        return {"paid": id}


def bundle(
    *tools: Tool,
    approve: Mapping[str, str] | None = None,
    deny: Mapping[str, str] | None = None,
    limits: Limits = Limits(),
    context: ContextPolicy = ContextPolicy(),
    outcome: OutcomeRule = OutcomeRule(),
) -> Bundle:
    """A bundle of the agent `support`."""
    made = bundle_of("support", tools=tools, approve=approve, limits=limits, context=context, outcome=outcome)
    return replace(made, deny=dict(deny or {}))


def calls(*names_and_ids: tuple[str, int]) -> ModelResponse:
    """An answer that asks for these tools, each with `id`."""
    return answer(calls=[asked(name, id, place) for place, (name, id) in enumerate(names_and_ids)])


def asked(name: str, id: int, place: int = 0) -> ToolCall:
    """One call of a tool with `id`."""
    return call(name, call_id=f"call_{place}", id=id)


def told(request: ModelRequest) -> list[str]:
    """The answers to tool calls that a request holds, in order."""
    return [message.text for message in request.messages if message.role is Role.TOOL]


async def idle(turns: int = 60) -> None:
    """Let everything run that can run without time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def passing(world: World, work: Awaitable[T], *, most_s: float = 200_000.0) -> T:
    """The result of some work, with time passing whenever nothing else can happen, and upkeep made as it does."""
    task = asyncio.ensure_future(work)
    ends_s = world.clock.monotonic_s() + most_s
    try:
        while not task.done():
            await idle()
            due_s = world.clock.next_due_s
            if task.done() or due_s is None:
                break
            assert world.clock.monotonic_s() < ends_s, "nothing comes of it"
            world.clock.advance(due_s)
        async with asyncio.timeout(5):
            return await task
    finally:
        task.cancel()


async def start(world: World, text: str = "Please.", *, key: str = "") -> Accepted:
    """A request in a new session, admitted and not waited for."""
    return await world.engine.start("support", ANA, RunRequest(text=text, idempotency_key=key))


async def show(world: World, run_id: str) -> RunView:
    """A run, as an operator sees it."""
    return await world.engine.reader.run(run_id, STAFF)


async def approve(world: World, run: RunView, decision: str = "approve", *, arguments: str = "") -> None:
    """Decide on the one thing that waits, and let the run go on."""
    [waiting] = [approval for approval in run.approvals if approval.status in {"pending", "in_doubt"}]
    await world.engine.decide(waiting.id, STAFF, ev.ApprovalDecision(decision), arguments=arguments)
    await world.settled()


async def data_of(world: World, session_id: str) -> list[ev.Data]:
    """What is recorded of a session."""
    return [event.data for event in await world.events(session_id)]


async def kinds(world: World, session_id: str) -> list[str]:
    """The names of what is recorded of a session."""
    return [type(data).__name__ for data in await data_of(world, session_id)]


async def entries(world: World, kind: str) -> Sequence[Entry]:
    """Everything of a kind in the directory."""
    return await world.store.entries(EntryQuery(kind=kind, limit=10_000))


async def check(world: World, *, replayed: bool = True) -> None:
    """What holds for every world once nothing is under way: chains verify, runs have ended or wait, replays agree."""
    for session in await entries(world, "session"):
        rows = await world.store.rows(session.stream)
        check_chain(rows)
        if replayed and session.status != "erased":
            report = await world.replayer.exact(session.stream)
            assert report.difference is None, report.difference
            assert report.steps == report.steps_total
    for run in await entries(world, "run"):
        assert run.status in {*ENDED, "held", "dead"}, run


def second_process(world: World) -> World:
    """Another process on the same store, while the first one still believes to be alive."""
    other = copy(world)
    other.restart()
    return other
