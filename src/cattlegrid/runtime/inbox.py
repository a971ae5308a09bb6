"""What others may put into a session's inbox, as frozen values, and the key that makes each of them unique.

Whoever is not the session's writer posts here; the writer folds each item in as an event, in the same write that
removes it.
"""

import msgspec

from cattlegrid.journal.events import ApprovalDecision


class _Item(msgspec.Struct, frozen=True, kw_only=True, tag_field="t"):
    pass


class QueuedRun(_Item, frozen=True, kw_only=True, tag="run"):
    """A request for a session that is busy. Its run id is given already, so that the client can be told."""

    run_id: str
    input_ref: str
    roles: tuple[str, ...]
    features: tuple[str, ...] = ()
    idempotency: str = ""
    request_digest: str = ""
    interrupt: bool = False
    files: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"run:{self.idempotency or self.run_id}"


class Decided(_Item, frozen=True, kw_only=True, tag="decision"):
    """Somebody's decision on an approval; the first one counts."""

    approval_id: str
    decision: ApprovalDecision
    by: str
    note_ref: str = ""
    arguments_ref: str = ""

    @property
    def key(self) -> str:
        return f"approval:{self.approval_id}"


class Cancelled(_Item, frozen=True, kw_only=True, tag="cancel"):
    """Somebody wants a run to end."""

    run_id: str
    by: str
    reason: str = ""

    @property
    def key(self) -> str:
        return f"cancel:{self.run_id}"


class Retry(_Item, frozen=True, kw_only=True, tag="retry"):
    """Somebody wants a parked run to go on."""

    run_id: str
    by: str
    parked_us: int
    """When it was parked: each time, it can be retried once."""

    @property
    def key(self) -> str:
        return f"retry:{self.run_id}:{self.parked_us}"


class Feedback(_Item, frozen=True, kw_only=True, tag="feedback"):
    """What somebody thought of a run."""

    id: str
    run_id: str
    by: str
    thumb: str = ""
    score: float | None = None
    text_ref: str = ""

    @property
    def key(self) -> str:
        return f"feedback:{self.id}"


class Close(_Item, frozen=True, kw_only=True, tag="close"):
    """The session shall close when no run is open."""

    by: str
    reason: str
    since: str = ""
    """Since when the session has been idle, for one that closes by itself: each such time is its own."""

    @property
    def key(self) -> str:
        return f"close:{self.since}" if self.since else "close"


Item = QueuedRun | Decided | Cancelled | Retry | Feedback | Close

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Item] = msgspec.json.Decoder(Item)


def encode(item: Item) -> bytes:
    """The item as the store keeps it."""
    return _encoder.encode(item)


def decode(data: bytes) -> Item:
    """The item that the store has kept. Raises msgspec.ValidationError."""
    return _decoder.decode(data)
