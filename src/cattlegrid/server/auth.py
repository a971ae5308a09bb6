"""Turns the key that comes with a request into the principal that everything further in is judged for.

`Authorization: Bearer cg_...` or `X-Api-Key: cg_...`. A key that acts for users names one in `X-Cattlegrid-User`; with
a key that is bound to a user the header may only repeat that user.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import msgspec
from fastapi import Depends, Header, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from cattlegrid.core.errors import Forbidden, InvalidRequest, Unauthenticated
from cattlegrid.core.principal import Principal
from cattlegrid.server.edge import KEY_ID
from cattlegrid.server.errors import CORRELATION
from cattlegrid.server.keys import check_user
from cattlegrid.server.services import Services

_bearer: Final = HTTPBearer(
    auto_error=False, scheme_name="bearer", bearerFormat="cg_<id>_<secret>", description="An API key."
)
_header: Final = APIKeyHeader(
    name="X-Api-Key", auto_error=False, scheme_name="api_key", description="The same key, in its own header."
)
_ONE_KEY: Final = "Send one API key, as `Authorization: Bearer` or `X-Api-Key`."


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One authenticated request: who asks, and what answers."""

    services: Services
    principal: Principal
    key_id: str
    correlation_id: str

    @property
    def pseudonym(self) -> str:
        """How records name who asks."""
        return self.services.keys.pseudonym(self.principal.tenant, self.principal.user)


async def maybe_authenticated(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    header: Annotated[str | None, Depends(_header)],
    x_cattlegrid_user: Annotated[
        str | None, Header(description="For whom a key with `act_as` acts.", max_length=800)
    ] = None,
) -> Call | None:
    """Who asks; None when no key came with the request.

    Raises:
        Unauthenticated: a key that is not valid, or two of them.
        Forbidden: a key that is bound to one user came with the name of another.
        InvalidRequest: a key that acts for users came without a usable name.
    """
    services = services_of(request)
    shown = {key for key in (bearer.credentials if bearer else None, header) if key}
    if not shown and "authorization" not in request.headers:
        return None
    if len(shown) != 1:
        raise Unauthenticated(_ONE_KEY)
    key = await services.keys.verify(shown.pop())
    request.scope[KEY_ID] = key.id
    named = _decoded(x_cattlegrid_user)
    if key.act_as and not named:
        raise InvalidRequest("This key acts for users: name one in X-Cattlegrid-User.")
    if not key.act_as and named not in {"", key.user}:
        raise Forbidden("This key is bound to its own user.")
    principal = Principal(
        tenant=key.tenant, user=check_user(named) if key.act_as else key.user, roles=frozenset(key.roles)
    )
    return Call(
        services=services,
        principal=principal,
        key_id=key.id,
        correlation_id=request.scope[CORRELATION],
    )


async def authenticated(call: Annotated[Call | None, Depends(maybe_authenticated)]) -> Call:
    """Who asks. Raises Unauthenticated when no key came with the request."""
    if call is None:
        raise Unauthenticated(_ONE_KEY)
    return call


def services_of(request: Request) -> Services:
    """What the composition root has handed to this app."""
    services = request.app.state.services
    if not isinstance(services, Services):
        raise TypeError("the app was made without services")
    return services


Caller = Annotated[Call, Depends(authenticated)]


def having(*roles: str) -> Callable[[Call], Awaitable[Call]]:
    """A dependency that lets only principals with one of these roles through. It raises Forbidden."""
    names = " or ".join(f"`{role}`" for role in roles)

    async def check(call: Caller) -> Call:
        if not any(call.principal.has(role) for role in roles):
            raise Forbidden(f"This needs the role {names}.")
        return call

    return check


def _decoded(header: str | None) -> str:
    """Header bytes as UTF-8; the framework has read them as Latin-1."""
    try:
        return (header or "").encode("latin-1").decode("utf-8")
    except UnicodeError:
        raise InvalidRequest("X-Cattlegrid-User is not UTF-8.") from None
