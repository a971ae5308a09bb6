"""Every error that Cattlegrid raises on purpose, as one tree.

    CattlegridError
    ├── InvalidRequest            the caller sent something that cannot be accepted
    │   ├── TooLarge
    │   └── BundleInvalid         a bundle's files are wrong; carries `Problem`s
    ├── Unauthenticated
    ├── IdentityUnavailable       who signs tokens cannot be asked for its keys
    ├── Forbidden
    ├── NotFound                  also for what belongs to somebody else
    ├── Conflict
    │   ├── SessionBusy           another run is open and the policy is `reject`
    │   ├── SessionEnded          the session is closed or erased
    │   ├── IdempotencyMismatch   the key was used with another body
    │   └── AlreadyDecided        an approval that has its decision
    ├── Limited                   a queue or a limit is full; carries `retry_after_s`
    ├── Denied                    a guard said no
    ├── ModelError
    │   ├── ModelUnavailable      refused, 5xx, no connection
    │   ├── ModelTimeout
    │   ├── ModelRateLimited      429; carries `retry_after_s`
    │   ├── ModelRejected         4xx that another attempt cannot mend
    │   ├── ContextTooLong
    │   └── ModelProtocolError    a cut stream, malformed data, nonsense
    ├── ToolError
    │   ├── ToolArgumentsInvalid  refused before the call; the text is for the model
    │   ├── ToolFailed            the tool raised; the outcome of an effect is unknown
    │   ├── ToolTimeout
    │   ├── ToolResultInvalid     a result of another shape than declared
    │   └── NotExecuted           (core.tools) the effect surely did not happen
    ├── StoreError
    │   ├── StoreUnavailable      nothing was written, or nobody knows
    │   ├── AppendConflict        head, epoch or lease moved: this writer is no longer the writer
    │   ├── LeaseHeld             another writer holds the session; carries `until_s`
    │   ├── KeyMissing            the key-encryption key is absent or another one
    │   └── IntegrityError        a chain, a seal or a body does not verify
    ├── ReplayDiverged            a replay differs from its record
    └── ConfigurationError        settings or prices that must be mended by the operator

`code` is stable and may be shown to anybody; `message` is a sentence for the user and never holds internals; `detail`
is for the journal and the operator only. `server/errors.py` maps codes to HTTP status, once.
"""

from typing import ClassVar

import msgspec


class CattlegridError(Exception):
    """The root. `message` may be shown to a user, `detail` may not."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, detail: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.message} ({self.detail})" if self.detail else self.message


class InvalidRequest(CattlegridError):
    """`param` names the field of the request that is meant, where there is one."""

    code = "invalid_request"

    def __init__(self, message: str, *, detail: str = "", param: str = "") -> None:
        super().__init__(message, detail=detail)
        self.param = param


class TooLarge(InvalidRequest):
    code = "too_large"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong in a file of the user, with where and what to do."""

    file: str
    line: int | None
    key: str
    message: str
    fix: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        key = f" {self.key}:" if self.key else ""
        return f"{where}:{key} {self.message}. {self.fix}"


class BundleInvalid(InvalidRequest):
    code = "bundle_invalid"

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class Unauthenticated(CattlegridError):
    code = "unauthenticated"


class IdentityUnavailable(CattlegridError):
    code = "identity_unavailable"


class Forbidden(CattlegridError):
    code = "forbidden"


class NotFound(CattlegridError):
    code = "not_found"


class Conflict(CattlegridError):
    code = "conflict"


class SessionBusy(Conflict):
    code = "session_busy"


class SessionEnded(Conflict):
    code = "session_ended"


class IdempotencyMismatch(Conflict):
    code = "idempotency_mismatch"


class AlreadyDecided(Conflict):
    code = "already_decided"


class Limited(CattlegridError):
    code = "limited"


class Denied(CattlegridError):
    code = "denied"


class ModelError(CattlegridError):
    code = "model_error"


class ModelUnavailable(ModelError):
    code = "model_unavailable"


class ModelTimeout(ModelError):
    code = "model_timeout"


class ModelRateLimited(ModelError):
    code = "model_rate_limited"


class ModelRejected(ModelError):
    code = "model_rejected"


class ContextTooLong(ModelError):
    code = "context_too_long"


class ModelProtocolError(ModelError):
    code = "model_protocol"


class ToolError(CattlegridError):
    code = "tool_error"


class ToolArgumentsInvalid(ToolError):
    code = "tool_arguments_invalid"


class ToolFailed(ToolError):
    code = "tool_failed"


class ToolTimeout(ToolError):
    code = "tool_timeout"


class ToolResultInvalid(ToolError):
    code = "tool_result_invalid"


class StoreError(CattlegridError):
    code = "store_error"


class StoreUnavailable(StoreError):
    code = "store_unavailable"


class AppendConflict(StoreError):
    code = "append_conflict"


class LeaseHeld(StoreError):
    code = "lease_held"


class KeyMissing(StoreError):
    code = "key_missing"


class IntegrityError(StoreError):
    code = "integrity"


class ReplayDiverged(CattlegridError):
    code = "replay_diverged"


class ConfigurationError(CattlegridError):
    code = "configuration"
