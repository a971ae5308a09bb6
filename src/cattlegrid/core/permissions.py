"""The one table of who may do what: turns the roles that authentication grants into permissions.

Routes name a permission (`server/routes.py`), the runtime asks for one; nobody compares names of roles. What no row
allows is denied. `admin` may do everything and therefore stands in no row.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal, get_args

Role = Literal["user", "author", "operator", "approver", "reviewer", "security", "admin"]
"""What somebody may be. `author` and `reviewer` are for releases and evaluation."""
ROLES: Final[tuple[Role, ...]] = get_args(Role)
ADMIN: Final[Role] = "admin"


class Permission(StrEnum):
    """What can be allowed, each a row of the table."""

    ASK = "ask"
    READ_ALL = "read_all"
    END_OTHERS = "end_others"
    RETRY = "retry"
    DECIDE = "decide"
    REPLAY = "replay"
    METRICS = "metrics"
    ERASE = "erase"
    AUDIT = "audit"
    KEYS = "keys"


class Grant:
    """A row: who has a permission beside `admin`, and what it allows."""

    def __init__(self, says: str, *roles: Role) -> None:
        self.says: Final = says
        self.roles: Final[frozenset[str]] = frozenset(roles)


GRANTS: Final[Mapping[Permission, Grant]] = MappingProxyType(
    {
        Permission.ASK: Grant("Talk to agents; see, end and judge what is one's own.", *ROLES),
        Permission.READ_ALL: Grant(
            "See the sessions, runs and held calls of everybody in the tenant.", "operator", "approver"
        ),
        Permission.END_OTHERS: Grant("Cancel runs and close sessions of others.", "operator"),
        Permission.RETRY: Grant("Let runs go on that were given up.", "operator"),
        Permission.DECIDE: Grant("Decide on held calls, never on one's own.", "approver"),
        Permission.REPLAY: Grant("Replay sessions of the tenant.", "operator"),
        Permission.METRICS: Grant("Read metrics from afar, in the operating tenant.", "operator"),
        Permission.ERASE: Grant("Erase users of the tenant.", "security"),
        Permission.AUDIT: Grant("Read what operators of the tenant did.", "security"),
        Permission.KEYS: Grant("Make, list and revoke API keys of the tenant."),
    }
)


def allows(permission: Permission, roles: Collection[str]) -> bool:
    """Whether any of these roles has the permission; a role that does not exist has none."""
    return ADMIN in roles or not GRANTS[permission].roles.isdisjoint(roles)


def holders(permission: Permission) -> tuple[str, ...]:
    """The roles that have a permission, in the order of `ROLES`, `admin` last."""
    return tuple(role for role in ROLES if allows(permission, (role,)))
