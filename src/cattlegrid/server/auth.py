"""Turns the key or token that comes with a request into the principal that everything further in is judged for.

`Authorization: Bearer cg_...` or `X-Api-Key: cg_...`; or, where an issuer is configured, `Authorization: Bearer` with
its token. A key that acts for users names one in `X-Cattlegrid-User`; with a key or token that is bound to a user the
header may only repeat that user. Then the route's permission (`routes.py`) is asked for: without one nobody passes.
"""

from typing import Annotated, Final

import msgspec
from fastapi import Depends, Header, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from cattlegrid.core.errors import Forbidden, InvalidRequest, Unauthenticated
from cattlegrid.core.permissions import Permission, holders
from cattlegrid.core.principal import Principal
from cattlegrid.server.edge import CREDENTIAL, KEY_ID
from cattlegrid.server.errors import CORRELATION
from cattlegrid.server.names import check_user
from cattlegrid.server.routes import ROUTES
from cattlegrid.server.services import Services

_bearer: Final = HTTPBearer(
    auto_error=False,
    scheme_name="bearer",
    bearerFormat="cg_<id>_<secret>",
    description="An API key, or a token of the issuer.",
)
_header: Final = APIKeyHeader(
    name="X-Api-Key", auto_error=False, scheme_name="api_key", description="The same key, in its own header."
)
_KEY: Final = "key"
_KEY_PREFIX: Final = "cg_"
ONE_KEY: Final = "Send one API key, as `Authorization: Bearer` or `X-Api-Key`."


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One authenticated request: who asks, and what answers."""

    services: Services
    principal: Principal
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
        Unauthenticated: a key or token that is not valid, or two of them.
        Forbidden: one that is bound to a user came with the name of another, or a token that grants nothing here.
        IdentityUnavailable: a token cannot be checked now.
        InvalidRequest: a key that acts for users came without a usable name.
    """
    services = services_of(request)
    shown = {key for key in (bearer.credentials if bearer else None, header) if key}
    if not shown and "authorization" not in request.headers:
        return None
    if len(shown) != 1:
        raise Unauthenticated(ONE_KEY)
    named = _decoded(x_cattlegrid_user)
    if services.tokens is not None and bearer and not bearer.credentials.startswith(_KEY_PREFIX):
        principal = await services.tokens.verify(bearer.credentials)
        _check_named(named, principal.user)
    else:
        principal = await _of_key(services, shown.pop(), named)
    request.scope[KEY_ID] = principal.credential_id
    request.scope[CREDENTIAL] = principal.credential
    return Call(services=services, principal=principal, correlation_id=request.scope[CORRELATION])


async def _of_key(services: Services, presented: str, named: str) -> Principal:
    key = await services.keys.verify(presented)
    if key.act_as and not named:
        raise InvalidRequest("This key acts for users: name one in X-Cattlegrid-User.")
    if not key.act_as:
        _check_named(named, key.user)
    return Principal(
        tenant=key.tenant,
        user=check_user(named) if key.act_as else key.user,
        roles=frozenset(key.roles),
        credential=_KEY,
        credential_id=key.id,
    )


def _check_named(named: str, user: str) -> None:
    if named not in {"", user}:
        raise Forbidden("This key is bound to its own user.")


async def authenticated(request: Request, call: Annotated[Call | None, Depends(maybe_authenticated)]) -> Call:
    """Who asks, once they may what this route takes.

    Raises:
        Unauthenticated: no key came with the request.
        Forbidden: none of their roles has the permission, or the route has no place in the table.
    """
    if call is None:
        raise Unauthenticated(ONE_KEY)
    require(call.principal, ROUTES.get(getattr(request.scope.get("route"), "operation_id", "")))
    return call


def require(principal: Principal, permission: Permission | None) -> None:
    """Raise Forbidden unless one of the principal's roles has the permission."""
    if permission is None:
        raise Forbidden("Nobody may do this.")
    if not principal.may(permission):
        names = " or ".join(f"`{role}`" for role in holders(permission)[:-1] or holders(permission))
        raise Forbidden(f"This needs the role {names}.")


def services_of(request: Request) -> Services:
    """What the composition root has handed to this app."""
    services = request.app.state.services
    if not isinstance(services, Services):
        raise TypeError("the app was made without services")
    return services


Caller = Annotated[Call, Depends(authenticated)]


def _decoded(header: str | None) -> str:
    """Header bytes as UTF-8; the framework has read them as Latin-1."""
    try:
        return (header or "").encode("latin-1").decode("utf-8")
    except UnicodeError:
        raise InvalidRequest("X-Cattlegrid-User is not UTF-8.") from None
