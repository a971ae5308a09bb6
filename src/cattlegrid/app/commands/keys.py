"""`cattlegrid keys`: make and revoke API keys.

Whoever can read the project's store and its key-encryption key may do this without an API key of their own: so the
first key is made. With `--url` it goes through that server, and needs the key of an admin.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Protocol, TypeVar

import msgspec
import typer

from cattlegrid.app.client import Client, many, one
from cattlegrid.app.compose import open_store
from cattlegrid.app.connect import Purpose, connect
from cattlegrid.app.development import TENANT
from cattlegrid.app.local import quiet
from cattlegrid.app.options import JsonOption, Options, command_group, examples, options_of
from cattlegrid.app.render import keys_table
from cattlegrid.app.settings import load_settings
from cattlegrid.app.terminal import clean, err, out, print_json
from cattlegrid.app.views import ApiKey
from cattlegrid.core.errors import ConfigurationError
from cattlegrid.core.ids import Ids
from cattlegrid.core.permissions import ROLES
from cattlegrid.release.project import find_root
from cattlegrid.server.keys import KeyRing, NewKey

T = TypeVar("T")
app = command_group(
    "Make and revoke API keys.",
    "cattlegrid keys create --user kim@example.com",
    "cattlegrid keys create --act-as --label 'web shop'",
    "cattlegrid keys list",
    "cattlegrid keys revoke key_01KAF2M8WZ0000000000000000",
    "cattlegrid keys --tenant acme create --user kim@example.com",
)


@app.callback()
def keys(
    context: typer.Context,
    *,
    tenant: Annotated[
        str, typer.Option(help="Whose keys; default: `default`. With --url it is that of your own key.")
    ] = "",
) -> None:
    """Make and revoke API keys."""
    context.obj = msgspec.structs.replace(options_of(context), tenant=tenant)


class CreatedKey(ApiKey, frozen=True, kw_only=True):
    """A new key with its secret."""

    key: str


@app.command(
    epilog=examples(
        "cattlegrid keys create --user kim@example.com",
        "cattlegrid keys create --user ops@example.com --role operator --role approver",
        "cattlegrid keys create --act-as --label 'web shop'",
        "export CATTLEGRID_KEY=$(cattlegrid keys create --user kim@example.com)",
    )
)
def create(
    context: typer.Context,
    *,
    user: Annotated[str, typer.Option(help="Whose key it is.")] = "",
    act_as: Annotated[
        bool, typer.Option("--act-as", help="It acts for users, who are named with every request.")
    ] = False,
    role: Annotated[list[str] | None, typer.Option(help=f"Again for each role: {', '.join(ROLES)}.")] = None,
    label: Annotated[str, typer.Option(help="What it is for; no person's name.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, this once: only its hash is stored."""
    options = options_of(context)
    roles = tuple(role or ("user",))
    new = NewKey(tenant=options.tenant or TENANT, user=user, act_as=act_as, roles=roles, label=label)
    made = asyncio.run(_with_keys(options, lambda keys: keys.create(new)))
    if as_json:
        print_json(made)
        return
    out().print(made.key, soft_wrap=True)
    whose = "any user" if made.act_as else clean(made.user)
    err().print(
        f"{made.id} for {whose}, {', '.join(made.roles)}. It is not shown again: keep it like a password.",
        style="dim",
    )


@app.command("list", epilog=examples("cattlegrid keys list", "cattlegrid keys list --json"))
def list_keys(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List keys, newest first; revoked ones too."""
    keys = asyncio.run(_with_keys(options_of(context), lambda keys: keys.all()))
    if as_json:
        print_json({"items": keys})
    elif keys:
        out().print(keys_table(keys))
    else:
        err().print("There is no key yet: `cattlegrid keys create` makes one.")


@app.command(epilog=examples("cattlegrid keys revoke key_01KAF2M8WZ0000000000000000"))
def revoke(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="The key's id, `key_...`; not the key itself.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Make a key worthless, at once and for every server of this store."""
    revoked = asyncio.run(_with_keys(options_of(context), lambda keys: keys.revoke(key)))
    if as_json:
        print_json(revoked)
    else:
        out().print(f"{revoked.id} is revoked.")


class _Keys(Protocol):
    async def create(self, new: NewKey) -> CreatedKey: ...

    async def all(self) -> list[ApiKey]: ...

    async def revoke(self, key_id: str) -> ApiKey: ...


async def _with_keys(options: Options, work: Callable[[_Keys], Awaitable[T]]) -> T:
    async with _keys(options) as keys:
        return await work(keys)


@asynccontextmanager
async def _keys(options: Options) -> AsyncGenerator[_Keys]:
    if options.url:
        if options.tenant:
            raise ConfigurationError("A server knows your tenant by your key: leave out --tenant.")
        async with connect(options, Purpose()) as client:
            yield _Remote(client)
        return
    quiet()
    settings = load_settings(find_root(options.folder))
    async with open_store(settings) as opened:
        clock = opened.clock
        ring = KeyRing(opened.store, opened.vault, clock=clock, ids=Ids(clock), holder=settings.holder)
        yield _Local(ring, options.tenant or TENANT)


class _Local:
    """The keys of the store on this machine."""

    def __init__(self, ring: KeyRing, tenant: str) -> None:
        self._ring = ring
        self._tenant = tenant

    async def create(self, new: NewKey) -> CreatedKey:
        made, secret = await self._ring.create(new)
        return msgspec.convert({**msgspec.structs.asdict(made), "key": secret}, CreatedKey)

    async def all(self) -> list[ApiKey]:
        return [_view(key) for key in await self._ring.list_keys(self._tenant)]

    async def revoke(self, key_id: str) -> ApiKey:
        return _view(await self._ring.revoke(key_id, tenant=self._tenant))


class _Remote:
    """The keys of a server."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def create(self, new: NewKey) -> CreatedKey:
        body = {"user": new.user or None, "act_as": new.act_as, "roles": new.roles, "label": new.label}
        return one(await self._client.post("/keys", body), CreatedKey)

    async def all(self) -> list[ApiKey]:
        return many(await self._client.get("/keys"), ApiKey)

    async def revoke(self, key_id: str) -> ApiKey:
        return one(await self._client.post(f"/keys/{key_id}/revoke"), ApiKey)


def _view(key: object) -> ApiKey:
    return msgspec.convert(msgspec.to_builtins(key), ApiKey)
