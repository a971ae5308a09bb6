"""What makes a project usable on a developer's machine without a word: two API keys, kept in the state folder.

`dev-user.key` acts for whichever customer is named, `you@example.com` by default; `dev-operator.key` runs the service.
"""

from typing import Final

from cattlegrid.app.state import StateFolder
from cattlegrid.core.errors import Unauthenticated
from cattlegrid.release.identity import DEFAULT_TENANT
from cattlegrid.server.keys import KeyRing, NewKey

TENANT: Final = DEFAULT_TENANT
OPERATOR: Final = "operator@example.com"

_KEYS: Final = {
    "user": NewKey(tenant=TENANT, act_as=True, label="development"),
    "operator": NewKey(
        tenant=TENANT,
        user=OPERATOR,
        roles=("operator", "approver", "admin", "security"),
        label="development",
    ),
}


async def ensure_keys(keys: KeyRing, state: StateFolder) -> None:
    """Make the keys of development that are missing or no longer valid."""
    for name, new in _KEYS.items():
        try:
            await keys.verify(state.key(name))
        except Unauthenticated:
            _, secret = await keys.create(new)
            state.keep_key(name, secret)
