"""The world outside that tools change, and a driver that brings a run to its end through crashes."""

import asyncio
from collections import Counter
from collections.abc import Callable

from cattlegrid.core.errors import ToolFailed
from cattlegrid.core.messages import ModelRequest, Role
from cattlegrid.core.tools import Context
from cattlegrid.journal import events as ev
from cattlegrid.runtime.requests import Accepted, RunRequest, RunView
from cattlegrid.runtime.streams import StreamItem
from cattlegrid.testing.models import Answer
from cattlegrid.testing.world import ANA, STAFF, World
from tests.unit.runtime.support import disk, entries, idle, passing, show

KEYED = frozenset({"pay_keyed", "book", "unbook"})
"""Tools of which a call with a known key does nothing more."""


class Bank:
    """Makes payments: every call is one, but of keyed tools only the first one with each key."""

    def __init__(self) -> None:
        self.paid: Counter[tuple[str, int]] = Counter()
        self.keys: dict[tuple[str, int], set[str]] = {}
        self.attempts = 0
        self.looked_up = 0

    def pay(self, tool: str) -> Callable[..., object]:
        """The function of one tool."""

        async def paying(id: int, context: Context) -> object:
            self.attempts += 1
            keys = self.keys.setdefault((tool, id), set())
            known = context.idempotency_key in keys
            keys.add(context.idempotency_key)
            if tool not in KEYED or not known:
                self.paid[tool, id] += 1
            await asyncio.sleep(0)
            return {"paid": id}

        return paying

    def find(self, id: int) -> object:
        """For `pay_once`: what became of a payment; None when there is none."""
        self.looked_up += 1
        return {"paid": id} if self.paid["pay_once", id] else None

    def functions(self) -> dict[str, Callable[..., object]]:
        """The functions of all tools."""
        paying = {name: self.pay(name) for name in ("pay_free", "pay_keyed", "pay_once")}
        return {**paying, "find_payment": self.find, "look": lambda id: {"seen": id}}


def by_turn(*answers: Answer) -> Callable[[ModelRequest], Answer]:
    """A model that gives its answers by how far the conversation is, so that a repeated request gets the same one."""

    def model(request: ModelRequest) -> Answer:
        place = sum(message.role is Role.ASSISTANT for message in request.messages)
        return answers[place]

    return model


class Client:
    """Somebody who asks with a key, repeats the request until it is accepted, and watches the run meanwhile."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.accepted: Accepted | None = None
        self.seen: list[StreamItem] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def _ask(self) -> None:
        request = RunRequest(text="Please.", idempotency_key="key")
        self.accepted = await self.world.engine.start("support", ANA, request)
        async for item in self.world.engine.follow(self.accepted.run_id, ANA):
            self.seen.append(item)

    def ask(self) -> None:
        """Ask, in the background."""
        self._tasks.append(asyncio.create_task(self._ask()))

    async def leave(self) -> None:
        """Stop asking and watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


Person = Callable[[World, RunView], "ev.ApprovalDecision"]


def truthful(bank: Bank, otherwise: ev.ApprovalDecision) -> Person:
    """Somebody who approves what waits, and looks in the bank before they answer for a call in doubt."""

    def decide(_: World, run: RunView) -> ev.ApprovalDecision:
        waiting = next(view for view in run.approvals if view.status in {"pending", "in_doubt"})
        if waiting.status == "pending":
            return ev.ApprovalDecision.APPROVE
        happened = any(bank.paid[waiting.tool, id] for id in range(100))
        return ev.ApprovalDecision.DONE if happened else otherwise

    return decide


async def till_it_stands(world: World) -> None:
    """Let things happen, with time passing for those that wait for it, until nothing happens any more."""
    for _ in range(40):
        await idle()
        due_s = world.clock.next_due_s
        if due_s is None or disk(world).stopped:
            return
        world.clock.advance(due_s)


async def crash_and_recover(world: World, client: Client) -> None:
    """End the process, wait for its leases to end, go on in a new one; the client asks again if it was not told."""
    await world.crash()
    await client.leave()
    disk(world).writes_left = None
    await world.recover()
    await world.upkeep.attend_inboxes()
    client.ask()


async def decide_if_asked(world: World) -> bool:
    """Approve the first call that waits, as far as the disk lets it; False when none waits."""
    waiting = [entry for entry in await entries(world, "approval") if entry.status == "pending"]
    if not waiting:
        return False
    deciding = asyncio.ensure_future(world.engine.decide(waiting[0].id, STAFF, ev.ApprovalDecision.APPROVE))
    await till_it_stands(world)
    deciding.cancel()
    await asyncio.gather(deciding, return_exceptions=True)
    return True


async def to_the_end(world: World, client: Client, person: Person) -> RunView:
    """The run once it has ended, with a person who decides on what waits."""
    for _ in range(8):
        await till_it_stands(world)
        assert client.accepted is not None
        run = await show(world, client.accepted.run_id)
        if run.status == "held":
            waiting = next(view for view in run.approvals if view.status in {"pending", "in_doubt"})
            await world.engine.decide(waiting.id, STAFF, person(world, run))
        elif run.status != "running":
            await passing(world, client.leave())
            return run
    raise AssertionError("the run does not end")


def failing_after(pay: Callable[..., object]) -> Callable[..., object]:
    """A tool that does its work, and then says that it failed."""

    async def failing(id: int, context: Context) -> object:
        await pay(id, context)  # pyright: ignore[reportGeneralTypeIssues]
        raise ToolFailed("The bank did not answer.")

    return failing
