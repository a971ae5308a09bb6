"""The composition root: puts adapters behind ports and hands the parts to each other, once, for one process.

    open_store      the journal with its key: what reading commands need
    open_registry   and the bundles
    open_project    and everything that serves: engine, gateways, upkeep, the HTTP app

Each is a context that leaves nothing running and nothing unsaved behind.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from random import SystemRandom
from typing import Final

import msgspec

from cattlegrid.adapters.clock import SystemClock
from cattlegrid.adapters.crash import NoCrash, SignalAt
from cattlegrid.adapters.jobs import InProcessRounds
from cattlegrid.adapters.keys import unlock
from cattlegrid.adapters.liveness import Holders
from cattlegrid.adapters.models import Endpoint, HttpModelClient
from cattlegrid.adapters.otlp import OtlpSender
from cattlegrid.adapters.pdf import ChildPdfTexts
from cattlegrid.adapters.prices import ModelPrices
from cattlegrid.adapters.python_tools import PythonToolClient
from cattlegrid.adapters.seal_log import SealLog
from cattlegrid.adapters.stores import jobs_of, open_journal
from cattlegrid.app.identity import tokens_of
from cattlegrid.app.settings import Settings, load_settings
from cattlegrid.calls.perform import Calls, Clients
from cattlegrid.calls.ports import ModelClient
from cattlegrid.calls.schemas import ToolSchemas
from cattlegrid.core.bundle import BundleVersion
from cattlegrid.core.errors import ConfigurationError
from cattlegrid.core.ids import Ids
from cattlegrid.core.ports import CrashPoints, Jobs, Rounds
from cattlegrid.guards.calls import ApproveLines, DenyLines
from cattlegrid.guards.chain import GuardChain
from cattlegrid.guards.text import Characters, Size
from cattlegrid.journal.kek import Kek
from cattlegrid.journal.seals import Sealer
from cattlegrid.journal.store import JournalStore
from cattlegrid.journal.vault import Vault
from cattlegrid.release.build import BuiltBundle, build
from cattlegrid.release.registry import BundleRegistry
from cattlegrid.runtime.engine import Engine, EngineSettings
from cattlegrid.runtime.replay import Replayer
from cattlegrid.runtime.runner import Tools
from cattlegrid.runtime.streams import RunStream
from cattlegrid.runtime.upkeep import Upkeep
from cattlegrid.server.app import create_app
from cattlegrid.server.keys import KeyRing
from cattlegrid.server.services import ServerSettings, Services
from cattlegrid.telemetry.metrics import Metrics
from cattlegrid.telemetry.traces import EVERY_S, TraceExport
from cattlegrid.testing.scripted.server import ScriptedModelServer

SCRIPTED: Final = "scripted"
DRAIN_S: Final = 20.0
SEAL_S: Final = 60.0
RETIRE_S: Final = 3_600.0
METRICS_S: Final = 10.0
CONCURRENCY: Final = 8


class OpenStore(msgspec.Struct, frozen=True, kw_only=True):
    """The journal, unlocked."""

    store: JournalStore
    vault: Vault
    kek: Kek
    clock: SystemClock
    settings: Settings
    holders: Holders


class OpenProject(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that serves a project. `app` is the ASGI application."""

    app: object
    services: Services
    registry: BundleRegistry
    settings: Settings
    jobs: Jobs


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncGenerator[OpenStore]:
    """The project's journal.

    Raises:
        StoreUnavailable: it cannot be made or opened.
        ConfigurationError: it is not one of this version, or may not be used.
        KeyMissing: its key is not here.
    """
    clock = SystemClock()
    settings.state_folder.mkdir(parents=True, exist_ok=True)
    holders = Holders(settings.state_folder / "holders", settings.holder)
    holders.enter()
    try:
        store = await open_journal(
            url=settings.database_url.value,
            folder=settings.state_folder,
            clock=clock,
            durable=settings.environment == "production",
        )
        try:
            kek = await unlock(
                store,
                path=settings.state_folder / "key",
                encoded=settings.master_key.value,
                may_create=not settings.database_url or settings.environment == "development",
            )
            yield OpenStore(
                store=store,
                vault=Vault(store, kek, clock),
                kek=kek,
                clock=clock,
                settings=settings,
                holders=holders,
            )
        finally:
            await store.close()
    finally:
        holders.leave()


@asynccontextmanager
async def open_registry(root: Path) -> AsyncGenerator[BundleRegistry]:
    """The bundles of a project."""
    async with open_store(load_settings(root)) as opened:
        yield registry_of(opened)


def registry_of(opened: OpenStore) -> BundleRegistry:
    """The bundles of an open store."""
    return BundleRegistry(
        opened.store,
        opened.vault,
        clock=opened.clock,
        cache=opened.settings.state_folder / "bundles",
        holder=opened.settings.holder,
        environment=opened.settings.environment,
    )


@asynccontextmanager
async def open_project(
    settings: Settings, *, background: bool = True, concurrency: int = CONCURRENCY
) -> AsyncGenerator[OpenProject]:
    """A project that serves, until the block ends; then it drains.

    Args:
        settings: of this process.
        background: look after the sessions of this process, and take over those of the dead.
        concurrency: how much of the store's work to do at once; 0 leaves it to workers.
    """
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(open_store(settings))
        registry = registry_of(opened)
        models = await _models(settings, opened.clock, stack, all_needed=background)
        parts = await _parts(opened, registry, models, stack)
        chores = _Chores(opened, parts.upkeep)
        rounds = InProcessRounds(opened.clock)
        rounds.every(METRICS_S, "metrics", lambda: parts.metrics.read(parts.store))
        jobs = jobs_of(url=settings.database_url.value, clock=opened.clock, concurrency=max(1, concurrency))
        stack.push_async_callback(jobs.close)
        parts = msgspec.structs.replace(parts, tokens=tokens_of(settings, opened.clock, rounds))
        _send_traces(opened, parts.metrics, rounds, stack)
        jobs.every(SEAL_S, "seals", chores.seal)
        jobs.every(RETIRE_S, "retention", chores.retire)
        parts.upkeep.register(rounds, jobs)
        if background:
            stack.callback(parts.upkeep.listen())
            await parts.upkeep.recover()
            await stack.enter_async_context(rounds)
        stack.push_async_callback(chores.leave)
        if background and concurrency:
            await stack.enter_async_context(jobs)  # ends first: what it leaves is drained like all the rest
        yield OpenProject(
            app=create_app(parts), services=parts, registry=registry, settings=settings, jobs=jobs
        )


def _send_traces(opened: OpenStore, metrics: Metrics, rounds: Rounds, stack: AsyncExitStack) -> None:
    """Have the traces of runs sent, where the environment names a collector."""
    settings = opened.settings
    if settings.collector is None:
        return
    sender = OtlpSender(settings.collector, version=metadata.version("cattlegrid"))
    stack.push_async_callback(sender.close)
    export = TraceExport(
        opened.store,
        opened.vault,
        sender,
        clock=opened.clock,
        holder=settings.holder,
        content=settings.collector.content,
    )
    stack.push_async_callback(export.close)
    metrics.include(export.spans, export.runs)
    rounds.every(EVERY_S, "traces", export.round)


class _Chores:
    """What is done for the store as a whole, from time to time and at the end."""

    def __init__(self, opened: OpenStore, upkeep: Upkeep) -> None:
        self._upkeep = upkeep
        self._clock = opened.clock
        self._kept_days = opened.settings.project.file.retention.sessions_days
        self._log = SealLog(opened.settings.state_folder / "seals.jsonl")
        self._sealer = Sealer(opened.store, self._log, opened.kek.signing_key(), opened.clock)

    async def seal(self) -> None:
        """Sign how far every stream has come; another process of this store may be at it."""
        with self._log.alone() as alone:
            if alone:
                await self._sealer.seal()

    async def retire(self) -> None:
        """Delete sessions that ended longer ago than the project keeps them."""
        if self._kept_days is not None:
            await self._upkeep.retire(before=self._clock.now() - timedelta(days=self._kept_days))

    async def leave(self) -> None:
        """Let what is under way end, then sign what it left."""
        await self._upkeep.drain(DRAIN_S)
        await self.seal()


async def _models(
    settings: Settings, clock: SystemClock, stack: AsyncExitStack, *, all_needed: bool
) -> dict[str, ModelClient]:
    """A client for each provider that can be asked; the scripted model plays all of them when none can.

    Raises:
        ConfigurationError: all are needed, and the project's models need a key that is not there.
    """
    if settings.scripted:
        server = await stack.enter_async_context(ScriptedModelServer(persona=settings.persona))
        endpoints = dict.fromkeys(
            settings.connections, (Endpoint(name=SCRIPTED, base_url=server.base_url), "")
        )
    elif all_needed and settings.missing_keys:
        raise ConfigurationError(
            f"A model of this project cannot be asked: set {settings.missing_keys}, or remove the model."
        )
    else:
        # Others than those in use now may be named by the older bundles of open sessions.
        endpoints = {
            name: (
                Endpoint(name=name, base_url=found.base_url, wire=found.provider.wire),
                found.api_key.value,
            )
            for name, found in settings.connections.items()
            if found.ready
        }
    made: dict[str, ModelClient] = {}
    for name, (endpoint, key) in endpoints.items():
        made[name] = HttpModelClient(endpoint, api_key=key, clock=clock)
        stack.push_async_callback(made[name].close)
    return made


async def _parts(
    opened: OpenStore, registry: BundleRegistry, models: dict[str, ModelClient], stack: AsyncExitStack
) -> Services:
    settings, clock, store = opened.settings, opened.clock, opened.store
    schemas = ToolSchemas()
    ids = Ids(clock)
    guards = GuardChain([Characters(), Size(), DenyLines(), ApproveLines()])
    tools = PythonToolClient(registry, clock=clock)
    stack.push_async_callback(tools.close)
    prices = ModelPrices(
        settings.project.prices(),
        clock=clock,
        addresses={name: found.base_url for name, found in settings.connections.items()},
        development=settings.environment == "development",
    )
    for provider, model in sorted({(m.provider, m.model) for m in settings.project.file.models.values()}):
        # An unknown price is said now, not to the first user; and the table is read before anybody waits for it.
        prices.price(provider, model)
    calls = Calls(Clients(models, tools), prices, schemas=schemas, clock=clock, random=SystemRandom())
    held = EngineSettings(
        holder=settings.holder, lease_s=settings.lease_s, surely_dead=opened.holders.surely_dead
    )
    shared = Tools(
        store=store,
        calls=calls,
        guards=guards,
        schemas=schemas,
        clock=clock,
        ids=ids,
        crash=_crash_points(settings.crash_at),
        stream_of=lambda _: RunStream(),
        pdf=ChildPdfTexts(),
    )
    engine = Engine(shared, vault=opened.vault, bundles=registry, settings=held)
    upkeep = Upkeep(engine, store=store, vault=opened.vault, bundles=registry, clock=clock, settings=held)
    replayer = Replayer(store, vault=opened.vault, bundles=registry, guards=guards, schemas=schemas)
    return Services(
        engine=engine,
        upkeep=upkeep,
        replayer=replayer,
        keys=KeyRing(store, opened.vault, clock=clock, ids=ids, holder=settings.holder),
        bundles=registry,
        metrics=Metrics(),
        store=store,
        clock=clock,
        ids=ids,
        settings=ServerSettings(
            environment=settings.environment,
            version=metadata.version("cattlegrid"),
            started_at=clock.now(),
        ),
        ready=store.ping,
    )


def _crash_points(text: str) -> CrashPoints:
    try:
        return SignalAt.parse(text) if text else NoCrash()
    except (ValueError, KeyError) as error:
        raise ConfigurationError(f"CATTLEGRID_CRASH_AT: {error}") from error


async def register_agents(
    registry: BundleRegistry, settings: Settings, *, only: str = ""
) -> list[tuple[BuiltBundle, BundleVersion]]:
    """Build and register every agent of the project, or one; what is unchanged keeps its number.

    Raises:
        BundleInvalid: one of them is wrong, or may not be used in this environment.
    """
    agents = (only,) if only else settings.project.agents
    built = [build(settings.project, agent) for agent in agents]
    return [(bundle, await registry.register(bundle)) for bundle in built]
