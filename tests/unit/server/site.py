"""The server over an engine in memory, and two ways to talk to it: an HTTP client, and a wire that can be cut."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self, TypeVar

import httpx2
import msgspec
from msgspec.structs import replace
from starlette.types import ASGIApp, Message

from cattlegrid.core.bundle import Bundle, BundleVersion
from cattlegrid.core.messages import ModelRequest
from cattlegrid.core.principal import Principal
from cattlegrid.guards.chain import Guard
from cattlegrid.server.app import create_app
from cattlegrid.server.keys import KeyRing, NewKey
from cattlegrid.server.services import ServerSettings, Services
from cattlegrid.telemetry.metrics import Metrics
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.models import Answer
from cattlegrid.testing.world import ANA, BO, STAFF, FixedBundles, World, bundle_of, tool_of

T = TypeVar("T")

REFUND = tool_of("refund", effect="write", retry="keyed", arguments={"order": "integer", "amount": "number"})
FIND = tool_of("find_order", arguments={"order": "integer"})
SHOP = bundle_of("support", tools=[FIND, REFUND], approve={"refund": "amount > 50"})


class Shelf:
    """The agents of a world, as the server lists them."""

    def __init__(self, bundles: FixedBundles, *agents: str) -> None:
        self._bundles = bundles
        self._agents = agents

    async def agents(self) -> Sequence[str]:
        return sorted(self._agents)

    async def resolve(self, agent: str) -> BundleVersion:
        return await self._bundles.resolve(agent)

    async def versions(self, agent: str) -> Sequence[BundleVersion]:
        return [await self._bundles.resolve(agent)] if agent in self._agents else []


class Site:
    """One server, its world, and the keys of Ana, Bo, the staff and an administrator."""

    def __init__(self, world: World, settings: ServerSettings, keys: Mapping[str, str] | None = None) -> None:
        self.world = world
        self.keys = dict(keys or {})
        self.services = Services(
            engine=world.engine,
            upkeep=world.upkeep,
            replayer=world.replayer,
            keys=KeyRing(world.store, world.vault, clock=world.clock, ids=world.ids, holder="server"),
            bundles=Shelf(world.bundles, "support"),
            metrics=Metrics(),
            store=world.store,
            clock=world.clock,
            ids=world.ids,
            settings=settings,
            ready=world.store.ping,
        )
        self.app = create_app(self.services)
        self._transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
        self.http = httpx2.AsyncClient(transport=self._transport, base_url="http://cattlegrid.test")

    def rebuilt(self, services: Services) -> None:
        """Serve with other services from now on."""
        self.services = services
        self.app = create_app(self.services)
        self._transport.app = self.app

    async def key(self, name: str, principal: Principal) -> str:
        """A new key for a principal, kept under a name."""
        roles = tuple(sorted(principal.roles)) or ("user",)
        _, text = await self.services.keys.create(
            NewKey(tenant=principal.tenant, user=principal.user, roles=roles)
        )
        self.keys[name] = text
        return text

    def headers(self, who: str, more: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
        """The headers of a request of somebody; underscores in names stand for dashes."""
        given = {name.replace("_", "-"): value for name, value in more.items()}
        return {"Authorization": f"Bearer {self.keys[who]}", **given} if who else given

    async def get(self, path: str, who: str = "ana", **headers: str) -> httpx2.Response:
        return await self.http.get(path, headers=self.headers(who, headers))

    async def post(self, path: str, body: object = None, who: str = "ana", **headers: str) -> httpx2.Response:
        content = b"" if body is None else msgspec.json.encode(body)
        typed = {"Content-Type": "application/json"}
        return await self.http.post(
            path, content=content, headers={**typed, **self.headers(who, headers)}, timeout=20
        )

    async def ask(self, text: str = "Hi", who: str = "ana") -> dict[str, Any]:
        """A run in a new session, once it has ended or waits."""
        answered = await self.post("/runs", {"agent": "support", "input": text}, who)
        assert answered.status_code in {200, 202}, answered.text
        return answered.json()

    def open(self, method: str, path: str, who: str = "ana", body: bytes = b"", **headers: str) -> "Wire":
        """A request whose answer is read as it comes."""
        sent = {"Content-Type": "application/json", **self.headers(who, headers)}
        return Wire(self.app, method, path, [body], sent)


async def until(holds: Callable[[], object]) -> None:
    """Return once something holds that nobody tells of. Raises TimeoutError after five seconds."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def while_time_passes(clock: ManualClock, work: Coroutine[Any, Any, T]) -> T:
    """The result of work that pauses for moments, as between two attempts; longer sleeps are not disturbed."""
    task = asyncio.create_task(work)
    async with asyncio.timeout(10):
        while not task.done():
            await asyncio.sleep(0)
            due_s = clock.next_due_s
            if due_s is not None and due_s < 5:
                clock.advance(due_s)
    return task.result()


def _find_order(order: int) -> object:
    return {"order": order, "paid": 79.9}


def _refund(order: int, amount: float) -> object:
    return {"refunded": order, "amount": amount}


async def open_site(
    *,
    model: Iterable[Answer] | Callable[[ModelRequest], Answer] = (),
    bundle: Bundle = SHOP,
    functions: Mapping[str, Callable[..., object]] | None = None,
    settings: Mapping[str, Any] | None = None,
    guards: Sequence[Guard] = (),
) -> Site:
    """A server whose model plays a script."""
    plain_functions = {"find_order": _find_order, "refund": _refund}
    world = World(bundle, model=model, functions=functions or plain_functions, guards=guards)
    plain = ServerSettings(
        environment="test", version="0.0.0", started_at=world.clock.now(), run_wait_s=5.0, home_tenant="shop"
    )
    site = Site(world, replace(plain, **(settings or {})))
    await site.key("ana", ANA)
    await site.key("bo", BO)
    await site.key("staff", STAFF)
    await site.key("admin", Principal(tenant="shop", user="root@example.com", roles=frozenset({"admin"})))
    return site


class Wire:
    """One request straight to an ASGI app: the answer is seen piece by piece, and the client may leave."""

    def __init__(
        self, app: ASGIApp, method: str, path: str, chunks: Sequence[bytes], headers: Mapping[str, str]
    ) -> None:
        self._app = app
        self._chunks = list(chunks)
        self._sent: asyncio.Queue[Message | None] = asyncio.Queue()
        self._left = asyncio.Event()
        self.received = 0
        """Pieces of the body that the app has taken."""
        self.received_before = 0
        """Those it had taken when it began to answer."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "server": ("cattlegrid.test", 80),
            "client": ("127.0.0.1", 1),
            "root_path": "",
        }

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        start = await asyncio.wait_for(self._sent.get(), 5)
        assert start is not None, "no answer"
        self.status = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def leave(self) -> None:
        """Hang up, and wait until the app has let go."""
        self._left.set()
        async with asyncio.timeout(5):
            await asyncio.gather(self._task, return_exceptions=True)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        while (message := await asyncio.wait_for(self._sent.get(), 5)) is not None:
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                return

    async def body(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])

    async def events(self) -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
        """Id, type and data of each server-sent event; a comment is an event of type `:`."""
        async for piece in self.pieces():
            for block in filter(None, piece.decode().split("\n\n")):
                fields: dict[str, str] = {}
                for line in block.split("\n"):
                    name, _, value = line.partition(": ")
                    fields[name] = value
                if ":" in block[:1]:
                    yield "", ":", {}
                elif "data" in fields:
                    yield fields.get("id", ""), fields["event"], msgspec.json.decode(fields["data"])

    async def _run(self) -> None:
        try:
            await self._app(self.scope, self._receive, self._send)
        finally:
            await self._sent.put(None)

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.received_before = self.received
        await self._sent.put(message)

    async def _receive(self) -> dict[str, Any]:
        if self._chunks:
            self.received += 1
            chunk = self._chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(self._chunks)}
        await self._left.wait()
        return {"type": "http.disconnect"}
