"""Puts together who may come in beside the holders of API keys, and records under which configuration a server began."""

import hashlib
from typing import Final

from cattlegrid.adapters.oidc import OidcKeySource
from cattlegrid.app.settings import Settings
from cattlegrid.core.ports import Clock, Rounds
from cattlegrid.core.principal import Principal
from cattlegrid.journal.audit import LOCAL, AuditLog
from cattlegrid.release.files import PROJECT_FILE
from cattlegrid.release.identity import DEFAULT_TENANT
from cattlegrid.server.jwks import REFRESH_S, IssuerKeys
from cattlegrid.server.tokens import Tokens

_SHOWN_DIGITS: Final = 16


def tokens_of(settings: Settings, clock: Clock, own: Rounds) -> Tokens | None:
    """What checks the tokens of the project's issuer; None without one.

    Args:
        settings: of the project.
        clock: for the times in tokens, and the age of the issuer's keys.
        own: rounds of this process, which keep its copy of those keys fresh.
    """
    rules = settings.project.file.identity.oidc
    if rules is None:
        return None
    tokens = Tokens(rules, IssuerKeys(OidcKeySource(rules), clock), clock)
    own.every(REFRESH_S, "issuer keys", tokens.refresh)
    return tokens


async def record_configuration(settings: Settings, audit: AuditLog) -> None:
    """Put it into the audit when `cattlegrid.yaml` or the environment is another than with the server before."""
    content = (settings.project.root / PROJECT_FILE).read_bytes()
    digest = hashlib.sha256(content + settings.environment.encode()).hexdigest()[:_SHOWN_DIGITS]
    local = Principal(tenant=DEFAULT_TENANT, user="", credential=LOCAL)
    await audit.configured(local, f"{settings.environment}:{digest}")
