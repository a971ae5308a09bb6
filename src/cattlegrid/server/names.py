"""Names of users and tenants as they may come in: short, visible, and the same however often they are written down."""

import re
from typing import Final

from cattlegrid.core.errors import InvalidRequest

_USER: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,200}")
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_user(name: str) -> str:
    """A user's name as it may stand in a key, a token or a header. Raises InvalidRequest."""
    if not _USER.fullmatch(name) or name != name.strip():
        raise InvalidRequest("A user's name has 1 to 200 characters, none of them a control character.")
    return name


def check_tenant(name: str) -> str:
    """A tenant's name as it may stand in a key or a token. Raises InvalidRequest."""
    if not _TENANT.fullmatch(name):
        raise InvalidRequest(
            "A tenant's name has 1 to 100 letters, digits, `.`, `_` and `-`, and begins with a letter or digit."
        )
    return name
