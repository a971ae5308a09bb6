"""Who is asking: the one value that every crossing is judged for. It comes from authentication, never from a model."""

import msgspec

from cattlegrid.core.permissions import Permission, allows


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """A user of a tenant, with the roles that the key or token grants."""

    tenant: str
    user: str
    roles: frozenset[str] = frozenset()
    credential: str = ""
    """What proved it: `key` (an API key), `oidc` (a token), `local` (the command line on the machine itself)."""
    credential_id: str = ""
    """Which one, where it has an id that may be told."""

    def may(self, permission: Permission) -> bool:
        """Whether one of the roles has this permission."""
        return allows(permission, self.roles)
