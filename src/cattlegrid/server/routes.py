"""Which permission each route takes, by the name of its operation. A route that is not in the table lets nobody in.

The roles behind a permission stand in `core.permissions`. Probes that ask for no key are not here.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cattlegrid.core.permissions import Permission

ROUTES: Final[Mapping[str, Permission]] = MappingProxyType(
    {
        "openSession": Permission.ASK,
        "listSessions": Permission.ASK,
        "showSession": Permission.ASK,
        "closeSession": Permission.ASK,
        "startRun": Permission.ASK,
        "continueSession": Permission.ASK,
        "listRuns": Permission.ASK,
        "showRun": Permission.ASK,
        "watchRun": Permission.ASK,
        "cancelRun": Permission.ASK,
        "retryRun": Permission.RETRY,
        "giveFeedback": Permission.ASK,
        "listApprovals": Permission.ASK,
        "showApproval": Permission.ASK,
        "decideApproval": Permission.DECIDE,
        "listAgents": Permission.ASK,
        "listVersions": Permission.ASK,
        "createResponse": Permission.ASK,
        "showResponse": Permission.ASK,
        "cancelResponse": Permission.ASK,
        "createChatCompletion": Permission.ASK,
        "listModels": Permission.ASK,
        "showModel": Permission.ASK,
        "runAgent": Permission.ASK,
        "invoke": Permission.ASK,
        "info": Permission.ASK,
        "replaySession": Permission.REPLAY,
        "eraseUser": Permission.ERASE,
        "listAudit": Permission.AUDIT,
        "listKeys": Permission.KEYS,
        "createKey": Permission.KEYS,
        "revokeKey": Permission.KEYS,
        "metrics": Permission.METRICS,
    }
)
OPEN: Final = frozenset({"health", "live", "ping", "ready"})
"""Routes that ask nobody who they are."""
