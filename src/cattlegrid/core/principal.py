"""Who is asking: the one value that every crossing is judged for. It comes from authentication, never from a model."""

import msgspec


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """A user of a tenant, with the roles that the key or token grants."""

    tenant: str
    user: str
    roles: frozenset[str] = frozenset()

    def has(self, role: str) -> bool:
        """Whether one of the roles is `role`; `admin` has them all."""
        return role in self.roles or "admin" in self.roles
