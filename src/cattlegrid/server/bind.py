"""Decides where the server may listen: beyond this machine only when callers must and can authenticate."""

import ipaddress

from cattlegrid.core.errors import ConfigurationError
from cattlegrid.server.keys import KeyRing


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine only. A name other than `localhost` does not count."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False


async def check_bind(host: str, keys: KeyRing, *, tokens: bool = False) -> None:
    """Refuse to listen beyond this machine before anybody can authenticate: by a key, or by `tokens` of an issuer.

    Raises:
        ConfigurationError: the address is not loopback, and nobody could authenticate.
    """
    if not is_loopback(host) and not tokens and not await keys.has_any():
        raise ConfigurationError(
            f"Refusing to listen on {host}: there is no API key and no issuer of tokens, so nobody could "
            "authenticate. Make a key first with `cattlegrid keys create`, configure `identity.oidc`, "
            "or listen on 127.0.0.1."
        )
