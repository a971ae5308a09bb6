"""Random requests, crashes, decisions, cancels and time: what runs promise holds whatever comes in which order."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from inspect import isawaitable, signature
from random import Random
from typing import Any, Final

import msgspec
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from cattlegrid.core.bundle import ContextPolicy, Limits
from cattlegrid.core.errors import CattlegridError, Conflict, ModelRejected, ModelUnavailable
from cattlegrid.core.messages import ModelRequest, ToolCall, Usage
from cattlegrid.core.tools import Context
from cattlegrid.journal import events as ev
from cattlegrid.runtime.requests import Accepted, ApprovalView, OnBusy, RunRequest
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.models import Answer, Stall, answer
from cattlegrid.testing.world import ANA, STAFF, World, tool_of
from tests.unit.runtime.bank import Bank
from tests.unit.runtime.support import (
    ENDED,
    LOOK,
    PAY_FREE,
    PAY_KEYED,
    PAY_ONCE,
    CrashAt,
    Disk,
    asked,
    bundle,
    check,
    data_of,
    entries,
    idle,
)

FOUND: Final = tool_of("find_payment", arguments={"id": "integer"})
PAY_FOUND: Final = tool_of(
    "pay_found", effect="write", retry="once", reconcile="find_payment", arguments={"id": "integer"}
)
UNBOOK: Final = tool_of("unbook", effect="write", retry="keyed", arguments={"id": "integer"})
BOOK: Final = tool_of("book", effect="write", retry="keyed", undo="unbook", arguments={"id": "integer"})
OF: Final = bundle(
    *(LOOK, PAY_FREE, PAY_KEYED, PAY_ONCE, PAY_FOUND, FOUND, BOOK, UNBOOK),
    approve={"pay_once": "id > 500", "pay_keyed": "id > 500"},
    limits=Limits(model_turns=5, queue=3, approval_s=600.0),
    context=ContextPolicy(max_tokens=1_000, strategy="summarise"),
)
NAMES: Final = ("look", "pay_free", "pay_keyed", "pay_once", "pay_found", "book", "nothing")
WAITING: Final = frozenset({"pending", "in_doubt"})
POINTS: Final = (
    "before_intent",
    "after_intent",
    "after_effect",
    "after_outcome",
    "after_inbox",
    "before_finish",
)


class Machine(RuleBasedStateMachine):
    """A world, and somebody who does anything to it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.bank = Bank()
        self.number = 0
        self.accepted: dict[str, Accepted] = {}
        self.posting: list[asyncio.Future[Any]] = []
        self.effects = self.most_effects = 0
        self.at_work = False
        self.waiting = 0

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(10):
                await work
                await self._collect()
                runs, approvals = await entries(self.world, "run"), await entries(self.world, "approval")
                self.at_work = bool(self.posting) or any(run.status not in ENDED for run in runs)
                self.waiting = sum(entry.status in WAITING for entry in approvals)

        self.loop.run_until_complete(bounded())

    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed: int) -> None:
        self.do(self._begin(seed))

    async def _begin(self, seed: int) -> None:
        self.random = Random(seed)
        clock = ManualClock()
        self.disk = Disk(clock)
        self.crash = CrashAt()
        names = ("pay_free", "pay_keyed", "pay_once", "pay_found", "book", "unbook")
        functions = {name: self._slowly(self.bank.pay(name), effect=True) for name in names}
        functions |= {"find_payment": self._slowly(self._find), "look": self._slowly(lambda id: {"seen": id})}
        self.world = World(
            OF, model=self._answer, functions=functions, store=self.disk, clock=clock, crash=self.crash
        )
        self.session_id = await self.world.engine.open_session("support", ANA)

    def _slowly(self, function: Callable[..., Any], *, effect: bool = False) -> Callable[..., object]:
        """A tool that takes its time before and after what it does."""

        async def slow(id: int, context: Context) -> object:
            self.effects += effect
            try:
                self.most_effects = max(self.most_effects, self.effects)
                await idle(self.random.randrange(12))
                takes_context = "context" in signature(function).parameters
                done = function(id, context) if takes_context else function(id)
                value = await done if isawaitable(done) else done
                await idle(self.random.randrange(12))
                return value
            finally:
                self.effects -= effect

        return slow

    def _find(self, id: int) -> object:
        return {"paid": id} if self.bank.paid["pay_found", id] else None

    def _answer(self, request: ModelRequest) -> Answer:
        """Anything that a model may do; each payment that it asks for has a number of its own."""
        counted = Usage(input_tokens=len(msgspec.json.encode(request.messages)) // 4)
        draw = self.random.random()
        if draw < 0.05:
            return Stall(("Well",))
        if draw < 0.08:
            return ModelUnavailable("The model is not available.")
        if draw < 0.12:
            return ModelRejected("The model did not accept the request.")
        if draw < 0.40 or not request.tools_allowed:
            return replace(answer("So it is. " + "word " * self.random.randrange(200)), usage=counted)
        calls = [self._call(place) for place in range(self.random.choice((1, 1, 2, 3)))]
        return replace(answer("", calls=calls), usage=counted)

    def _call(self, place: int) -> ToolCall:
        self.number += 1
        above_the_line = 500 if self.random.random() < 0.4 else 0
        return asked(self.random.choice(NAMES), self.number + above_the_line, place)

    # what somebody does

    @rule(texts=st.lists(st.integers(0, 5), min_size=1, max_size=3), on_busy=st.sampled_from(list(OnBusy)))
    def ask(self, texts: list[int], on_busy: OnBusy) -> None:
        for text in texts:
            # Every other request has a key, which is the same for the same text.
            key = f"k{text}" if text % 2 else ""
            self.do(self._ask(f"Request {text}.", on_busy, key))

    async def _ask(self, text: str, on_busy: OnBusy, key: str) -> None:
        request = RunRequest(text=text, on_busy=on_busy, idempotency_key=key)
        client = asyncio.ensure_future(self.world.engine.submit(self.session_id, ANA, request))
        await idle(self.random.randrange(40))
        self.posting.append(client)

    @precondition(lambda self: self.waiting > 0)
    @rule(decision=st.sampled_from(["approve", "reject", "done", "modify"]))
    def decide(self, decision: str) -> None:
        self.do(self._decide(ev.ApprovalDecision(decision)))

    async def _decide(self, decision: ev.ApprovalDecision) -> None:
        waiting = [entry for entry in await entries(self.world, "approval") if entry.status in WAITING]
        for entry in waiting[:1]:
            happened = self._happened(await self.world.engine.reader.approval(entry.id, STAFF))
            if entry.status == "in_doubt":
                # People tell the truth about a call in doubt; what they want of it is theirs.
                decision = ev.ApprovalDecision.DONE if happened else decision
                if not happened and decision in {ev.ApprovalDecision.DONE, ev.ApprovalDecision.MODIFY}:
                    decision = ev.ApprovalDecision.APPROVE
            elif decision is ev.ApprovalDecision.DONE:
                decision = ev.ApprovalDecision.APPROVE
            self.number += 1
            arguments = f'{{"id":{self.number + 1_000}}}' if decision is ev.ApprovalDecision.MODIFY else ""
            work = self.world.engine.decide(entry.id, STAFF, decision, arguments=arguments)
            self.posting.append(asyncio.ensure_future(work))
        await idle(self.random.randrange(40))

    def _happened(self, view: ApprovalView) -> bool:
        arguments = msgspec.json.decode(view.arguments, type=dict[str, int])
        return self.bank.paid[view.tool, arguments["id"]] > 0

    @precondition(lambda self: self.at_work)
    @rule()
    def cancel(self) -> None:
        self.do(self._cancel())

    async def _cancel(self) -> None:
        for run_id in list(self.accepted)[-1:]:
            self.posting.append(asyncio.ensure_future(self.world.engine.cancel(run_id, ANA)))
        await idle(self.random.randrange(40))

    @precondition(lambda self: self.at_work)
    @rule(turns=st.integers(0, 60))
    def wait(self, turns: int) -> None:
        self.do(idle(turns))

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 30.0, 700.0]))
    def pass_time(self, seconds: float) -> None:
        self.do(self._pass_time(seconds))

    async def _pass_time(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        await idle(10)
        await self._upkeep()

    async def _upkeep(self) -> None:
        upkeep = self.world.upkeep
        rounds = [upkeep.renew_leases, upkeep.attend_inboxes, upkeep.recover, upkeep.expire_approvals]
        for made in rounds:
            await made()
            await idle(5)

    @rule()
    def upkeep(self) -> None:
        self.do(self._upkeep())

    @precondition(lambda self: self.at_work)
    @rule(writes=st.integers(0, 6), turns=st.integers(0, 80))
    def die(self, writes: int, turns: int) -> None:
        self.do(self._die(writes, turns))

    async def _die(self, writes: int, turns: int) -> None:
        """The disk stops after a few more writes; then the process is gone, and another one takes over."""
        self.disk.writes_left = writes
        await idle(turns)
        await self.world.crash()
        for task in self.posting:
            task.cancel()
        await asyncio.gather(*self.posting, return_exceptions=True)
        self.posting.clear()
        self.disk.writes_left = None
        await self.world.recover()
        await self.world.upkeep.attend_inboxes()
        await idle(20)

    @precondition(lambda self: self.at_work)
    @rule(point=st.sampled_from(POINTS))
    def fail_at(self, point: str) -> None:
        """The runner dies at a place, in a process that lives on."""
        self.crash.arm(point)

    @precondition(lambda self: self.at_work)
    @rule()
    def lose_the_store(self) -> None:
        self.do(self._lose_the_store())

    async def _lose_the_store(self) -> None:
        self.disk.available = False
        await idle(20)
        self.disk.available = True
        await self._collect()
        await self._upkeep()

    async def _collect(self) -> None:
        """Note what clients were told so far."""
        for task in [task for task in self.posting if task.done()]:
            self.posting.remove(task)
            try:
                told = task.result()
            except CattlegridError:
                continue
            if isinstance(told, Accepted):
                self.accepted[told.run_id] = told

    # what holds

    @invariant()
    def effects_are_never_doubled(self) -> None:
        for (tool, id), count in self.bank.paid.items():
            if tool != "pay_free":
                assert count <= 1, (tool, id, count)
        for (tool, id), keys in self.bank.keys.items():
            assert len(keys) <= 1, (tool, id)
        assert self.most_effects <= 1, "effects come one at a time"

    def teardown(self) -> None:
        try:
            if hasattr(self, "world"):
                self.do(self._end())
        finally:
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()

    async def _retry_parked(self) -> None:
        """A run that has cost too many processes their life waits for an operator, who has it go on."""
        for run in await entries(self.world, "run"):
            if run.status == "dead":
                with contextlib.suppress(Conflict):
                    await self.world.engine.retry(run.id, STAFF)

    async def _end(self) -> None:
        self.crash.arm("")
        for _ in range(60):
            await self._collect()
            for _ in range(3):
                await self._decide(ev.ApprovalDecision.APPROVE)
            await self._retry_parked()
            await idle(120)
            due_s = self.world.clock.next_due_s
            self.world.clock.advance(due_s if due_s is not None else 7.0)
            await self._upkeep()
            await self._collect()
            runs = await entries(self.world, "run")
            if (
                not self.posting
                and all(run.status in ENDED for run in runs)
                and not await self.disk.streams_with_inbox()
            ):
                break
        await idle(100)
        await self.world.settled()
        ended = {run.id: run.status for run in await entries(self.world, "run")}
        for run_id in self.accepted:
            assert ended.get(run_id) in ENDED, (run_id, ended.get(run_id))
        await check(self.world)
        recorded = {
            data.tool.idempotency_key
            for data in await data_of(self.world, self.session_id)
            if isinstance(data, ev.StepIntended) and data.tool is not None
        }
        assert set().union(*self.bank.keys.values()) <= recorded, "an effect is not on record"
        events = await self.world.events(self.session_id)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        await self.world.crash()


# A counterexample is shown as it was found: making it smaller takes minutes, and its seed repeats it.
PHASES: Final = tuple(phase for phase in Phase if phase is not Phase.shrink)
Machine.TestCase.settings = settings(max_examples=250, stateful_step_count=40, deadline=None, phases=PHASES)


@pytest.mark.requirement("runtime:state-machine")
class TestRuns(Machine.TestCase):
    """See `Machine`."""
