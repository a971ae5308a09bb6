"""What the composition root hands to the server: the engine and its helpers, and the few settings of the edge."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from cattlegrid.core.bundle import BundleVersion
from cattlegrid.core.ids import Ids
from cattlegrid.core.ports import Clock
from cattlegrid.core.principal import Principal
from cattlegrid.journal.store import JournalStore
from cattlegrid.release.identity import DEFAULT_TENANT
from cattlegrid.runtime.engine import Engine
from cattlegrid.runtime.replay import Replayer
from cattlegrid.runtime.upkeep import Upkeep
from cattlegrid.server.keys import KeyRing
from cattlegrid.telemetry.metrics import Metrics


class Catalogue(Protocol):
    """The agents that can be talked to, and their versions. `release.registry` implements it."""

    async def agents(self) -> Sequence[str]:
        """The names of the agents that have a version, sorted."""
        ...

    async def resolve(self, agent: str) -> BundleVersion:
        """The version that new sessions get. Raises NotFound."""
        ...

    async def versions(self, agent: str) -> Sequence[BundleVersion]:
        """The versions of an agent, oldest first; none for an unknown one."""
        ...


class TokenVerifier(Protocol):
    """Tokens of an issuer. `server.tokens` implements it."""

    async def verify(self, token: str) -> Principal:
        """Who a token speaks for. Raises Unauthenticated, Forbidden or IdentityUnavailable."""
        ...


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How this process answers."""

    environment: str
    version: str
    started_at: datetime
    max_body_bytes: int = 1_048_576
    body_wait_s: float = 30.0
    """How long the body of a request may take to arrive."""
    run_wait_s: float = 55.0
    """How long a request waits for the end of its run before it gets 202."""
    heartbeat_s: float = 15.0
    """How often a stream of events says that it is still there."""
    home_tenant: str = DEFAULT_TENANT
    """The tenant that operates this service: what counts for all tenants together is for its operators."""
    ready_wait_s: float = 2.0
    """How long the store may take to prove that it can write."""


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the routes call."""

    engine: Engine
    upkeep: Upkeep
    replayer: Replayer
    keys: KeyRing
    bundles: Catalogue
    metrics: Metrics
    store: JournalStore
    clock: Clock
    ids: Ids
    settings: ServerSettings
    tokens: TokenVerifier | None = None
    """None where no issuer is configured: then API keys alone let in."""
    ready: Callable[[], Awaitable[None]]
    """Returns when runs can be taken; raises a CattlegridError that says why not."""
