"""The part of `cattlegrid.yaml` that says whose tokens are accepted, and how their claims become tenant, user and roles."""

from typing import Annotated, Final, Literal, Self, cast

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from cattlegrid.core.permissions import Role

DEFAULT_TENANT: Final = "default"
"""The tenant of a project that says nothing of tenants, and the one that operates the service."""
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]
"""Signatures that a public key checks; a shared secret or no signature at all cannot be configured."""


def _as_tuple(value: object) -> object:
    return tuple(cast("list[object]", value)) if isinstance(value, list) else value


def is_secure(url: str) -> bool:
    """Whether an address is https without a user, a query or a fragment; on this machine http will do."""
    try:
        parts = AnyHttpUrl(url)
    except ValueError:
        return False
    if parts.username or parts.password or parts.query or parts.fragment:
        return False
    return parts.scheme == "https" or parts.host in LOOPBACK_NAMES


def _secure_url(url: str) -> str:
    if not is_secure(url):
        raise ValueError(
            f"`{url[:60]}` is no https address | Write it as `https://login.example.com/realms/shop`; "
            "http is for this machine only"
        )
    return url


Url = Annotated[
    str, StringConstraints(min_length=1, max_length=500, pattern=r"^\S+$"), AfterValidator(_secure_url)
]
TenantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Claim = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^\S+$")]
ClaimValue = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Roles = Annotated[tuple[Role, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
Algorithms = Annotated[tuple[Algorithm, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class OidcFile(_File):
    """An OpenID Connect issuer whose tokens are accepted as `Authorization: Bearer`, beside API keys."""

    issuer: Url
    """The `iss` of its tokens, exactly; `/.well-known/openid-configuration` below it says where its keys are."""
    audience: ClaimValue
    """What this service is called in `aud`; tokens for other services are refused."""
    jwks_url: Url | None = None
    """Where the issuer's keys are, if that shall not be asked of the issuer."""
    algorithms: Algorithms = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
    """Signatures that are accepted."""
    leeway_s: Annotated[int, Field(ge=0, le=300)] = 30
    """Seconds by which the issuer's clock may differ from ours."""
    tenant: TenantName | None = None
    """The tenant of all its users; `default` when there is no `tenant_claim` either."""
    tenant_claim: Claim | None = None
    """The claim that names the tenant, for example `org_id`."""
    user_claim: Claim = "sub"
    """The claim that names the user. `email` counts only with `email_verified`."""
    roles_claim: Claim | None = None
    """The claim that lists groups or roles, for example `groups` or `realm_access.roles`."""
    roles: dict[ClaimValue, Roles] = {}
    """Value of that claim to the roles that it grants; other values grant nothing."""
    admit: Literal["everyone", "mapped"] = "everyone"
    """Who gets in as `user`: `everyone` with a valid token, or only those who are granted a role above."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.tenant is not None and self.tenant_claim is not None:
            raise ValueError("`tenant` and `tenant_claim` exclude each other | Remove one of them")
        if bool(self.roles) != (self.roles_claim is not None):
            raise ValueError(
                "`roles` and `roles_claim` belong together | Name the claim, and what its values grant"
            )
        if self.admit == "mapped" and not self.roles:
            raise ValueError(
                "With `admit: mapped` and no `roles` nobody gets in | Add `roles_claim` and `roles`"
            )
        return self


class IdentityFile(_File):
    """Who may come in beside the holders of API keys."""

    oidc: OidcFile | None = None
    """An OpenID Connect issuer whose tokens are accepted."""
