"""A whole engine in memory, for tests of agents and of Cattlegrid: scripted model, plain functions, manual clock.

    world = World(bundle_of("support", tools=[tool_of("refund", effect="write", arguments={"order": "integer"})]),
                  model=[answer(calls=[call("refund", order=17)]), answer("Done.")],
                  functions={"refund": lambda order: {"refunded": order}})
    run = await world.ask("Refund order 17, please.")

`world.crash()` loses what is not durable and every task; `world.restart()` gives the process that comes after it. Both
keep the store, the functions and the model.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import count
from random import Random

import msgspec
from msgspec.structs import replace

from cattlegrid.calls.perform import Calls, Clients
from cattlegrid.calls.ports import ToolClient
from cattlegrid.calls.schemas import ToolSchemas
from cattlegrid.core.bundle import Bundle, BundleVersion, ContextPolicy, Limits, ModelTier, OutcomeRule, Tool
from cattlegrid.core.errors import NotFound
from cattlegrid.core.ids import Ids
from cattlegrid.core.messages import ModelRequest, ToolSpec
from cattlegrid.core.money import Price
from cattlegrid.core.ports import CrashPoints
from cattlegrid.core.principal import Principal
from cattlegrid.core.tools import Effect, Retry
from cattlegrid.guards.calls import ApproveLines, DenyLines
from cattlegrid.guards.chain import Guard, GuardChain
from cattlegrid.guards.text import Characters, Size
from cattlegrid.journal.events import Event
from cattlegrid.journal.kek import KEY_BYTES, Kek
from cattlegrid.journal.store import JournalStore
from cattlegrid.journal.vault import Vault
from cattlegrid.runtime.engine import Engine, EngineSettings
from cattlegrid.runtime.replay import Replayer
from cattlegrid.runtime.requests import Accepted, RunRequest, RunView
from cattlegrid.runtime.runner import Tools
from cattlegrid.runtime.streams import RunStream
from cattlegrid.runtime.upkeep import Upkeep
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.memory import MemoryJournal
from cattlegrid.testing.models import Answer, FakeModel
from cattlegrid.testing.tools import FunctionTools

ANA = Principal(tenant="shop", user="ana@example.com")
BO = Principal(tenant="shop", user="bo@example.com")
STAFF = Principal(tenant="shop", user="staff@example.com", roles=frozenset({"operator", "approver"}))

PRICE = Price(
    input_nano_usd=400_000_000,
    output_nano_usd=1_600_000_000,
    cache_read_nano_usd=100_000_000,
    cache_write_nano_usd=400_000_000,
)


def tool_of(
    name: str,
    *,
    effect: str = "read",
    retry: str | None = None,
    arguments: Mapping[str, str] | None = None,
    undo: str | None = None,
    reconcile: str | None = None,
) -> Tool:
    """A tool whose arguments are given as name to JSON type; all are required. It may return anything."""
    properties = {name: {"type": kind} for name, kind in (arguments or {}).items()}
    schema = {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }
    spec = ToolSpec(name, f"Does {name}.", msgspec.json.encode(schema).decode())
    declared = Effect(effect)
    default = Retry.FREE if declared is Effect.READ else Retry.ONCE
    return Tool(
        spec=spec,
        returns="",
        effect=declared,
        retry=Retry(retry) if retry else default,
        timeout_s=10.0,
        undo=undo,
        reconcile=reconcile,
    )


def bundle_of(
    agent: str,
    *,
    tools: Sequence[Tool] = (),
    approve: Mapping[str, str] | None = None,
    limits: Limits = Limits(),
    context: ContextPolicy = ContextPolicy(),
    outcome: OutcomeRule = OutcomeRule(),
) -> Bundle:
    """A bundle made of values instead of files; its digest covers all of them."""
    hidden = {name for tool in tools for name in (tool.undo, tool.reconcile) if name}
    offered = {tool.name: replace(tool, offered=tool.name not in hidden) for tool in tools}
    bundle = Bundle(
        agent=agent,
        digest="",
        description=f"The agent {agent}.",
        models={"default": ModelTier(name="small", provider="memory", model="fake")},
        context=context,
        tools=offered,
        approve=dict(approve or {}),
        deny={},
        limits=limits,
        features=(),
        outcome=outcome,
        degrade="I could not finish this.",
        system_prompt="You help.",
        files={},
        lock_digest="",
    )
    return replace(bundle, digest=sha256(msgspec.json.encode(bundle)).hexdigest())


class FixedBundles:
    """A `runtime.ports.Bundles` of given bundles; the last one of each agent is what new sessions get."""

    def __init__(self, *bundles: Bundle) -> None:
        self._bundles = list(bundles)

    def add(self, bundle: Bundle) -> None:
        """Release another version."""
        self._bundles.append(bundle)

    async def bundle(self, digest: str) -> Bundle:
        for bundle in self._bundles:
            if bundle.digest == digest:
                return bundle
        raise NotFound("There is no bundle with this digest.")

    async def resolve(self, agent: str) -> BundleVersion:
        versions = [bundle for bundle in self._bundles if bundle.agent == agent]
        if not versions:
            raise NotFound(f"There is no agent `{agent}`.")
        return BundleVersion(agent=agent, number=len(versions), digest=versions[-1].digest)


class OnePrice:
    """A `calls.ports.Prices` under which every model costs the same."""

    def price(self, provider: str, model: str) -> Price:
        return PRICE


class NoCrash:
    """A `core.ports.CrashPoints` that goes on."""

    def reach(self, name: str) -> None:
        """Do nothing."""


class World:
    """One store, one model, one set of functions, and a process that may crash and come back."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        model: Iterable[Answer] | Callable[[ModelRequest], Answer],
        functions: Mapping[str, Callable[..., object]] | None = None,
        tools: ToolClient | None = None,
        store: JournalStore | None = None,
        clock: ManualClock | None = None,
        guards: Sequence[Guard] = (),
        crash: CrashPoints | None = None,
        lease_s: float = 6.0,
    ) -> None:
        self.clock = clock or ManualClock()
        self.store: JournalStore = store or MemoryJournal(self.clock)
        self.bundles = FixedBundles(bundle)
        self.model = FakeModel(model, clock=self.clock)
        self.tools = FunctionTools(functions or {}, clock=self.clock)
        self.tool_client: ToolClient = tools or self.tools
        self.kek = Kek(bytes(KEY_BYTES))
        self.guards = GuardChain([Characters(), Size(), DenyLines(), ApproveLines(), *guards])
        self._schemas = ToolSchemas()
        self._crash = crash or NoCrash()
        self._lease_s = lease_s
        self._processes = count(1)
        entropy = Random(7)
        self.ids = Ids(self.clock, entropy.randbytes)
        self.restart()

    def restart(self) -> None:
        """Begin a process that knows nothing but what the store holds."""
        settings = EngineSettings(holder=f"process-{next(self._processes)}", lease_s=self._lease_s)
        self.vault = Vault(self.store, self.kek, self.clock)
        calls = Calls(
            Clients({"memory": self.model}, self.tool_client),
            OnePrice(),
            schemas=self._schemas,
            clock=self.clock,
            random=Random(7),
        )
        tools = Tools(
            store=self.store,
            calls=calls,
            guards=self.guards,
            schemas=self._schemas,
            clock=self.clock,
            ids=self.ids,
            crash=self._crash,
            stream_of=lambda _: RunStream(),
        )
        self.engine = Engine(tools, vault=self.vault, bundles=self.bundles, settings=settings)
        self.upkeep = Upkeep(
            self.engine,
            store=self.store,
            vault=self.vault,
            bundles=self.bundles,
            clock=self.clock,
            settings=settings,
        )
        self.replayer = Replayer(
            self.store,
            vault=self.vault,
            bundles=self.bundles,
            guards=self.guards,
            schemas=self._schemas,
        )

    async def crash(self) -> None:
        """End the process as SIGKILL does: what is queued and not durable is gone, and the lease is still held."""
        if isinstance(self.store, MemoryJournal):
            self.store.lose_queued()
        for runner in list(self.engine.runners.values()):
            await runner.abandon()

    async def recover(self) -> None:
        """Wait for the dead process's leases to end, then go on with its runs, in a new process."""
        self.clock.advance(self._lease_s + 0.1)
        self.restart()
        await self.upkeep.recover()

    async def ask(
        self, text: str, *, principal: Principal = ANA, agent: str = "support", session_id: str = ""
    ) -> RunView:
        """A request, and its run once it has ended or waits for a person."""
        request = RunRequest(text=text)
        if session_id:
            accepted = await self.engine.submit(session_id, principal, request)
        else:
            accepted = await self.engine.start(agent, principal, request)
        return await self.finished(accepted, principal=principal)

    async def finished(self, accepted: Accepted, *, principal: Principal = ANA) -> RunView:
        """The run once it has ended or waits for a person. Raises TimeoutError when nothing moves any more."""
        async with asyncio.timeout(10):
            return await self.engine.wait(accepted, principal, timeout_s=10)

    async def settled(self) -> None:
        """Return once no session has anything under way."""
        async with asyncio.timeout(10):
            for runner in list(self.engine.runners.values()):
                await runner.settle()

    async def events(self, session_id: str) -> list[Event]:
        """Everything recorded of a session."""
        return await self.engine.reader.events(session_id)
