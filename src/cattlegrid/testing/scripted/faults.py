"""Decides which attempts of a request go wrong, and how.

A fault is written `KIND;count=N;at=K;delay=S`: the first N attempts (1) of the same conversation fail, a stream after
K chunks (2), a wait takes S seconds. Kinds:

    500        an error document with status 500
    429        the same with status 429 and `Retry-After: S` (1)
    stall      nothing comes for S seconds (60), with `at` in the middle of a stream
    cut        the stream ends without its last chunks and `[DONE]`; a document ends in its middle
    malformed  one chunk, or the document, is not JSON
    slow       S seconds (0.2) before every chunk; the answer is whole
"""

from collections import OrderedDict
from typing import Literal, get_args

import msgspec

from cattlegrid.core.errors import InvalidRequest
from cattlegrid.testing.scripted.reply import pick

Kind = Literal["500", "429", "stall", "cut", "malformed", "slow"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MAX_CONVERSATIONS = 10_000
_DELAYS_S: dict[Kind, float] = {"429": 1.0, "stall": 60.0, "slow": 0.2}


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault, in the words of the module's docstring. `at` is None for a stall before the first byte."""

    kind: Kind
    count: int = 1
    at: int | None = None
    delay_s: float = 0.0


def parse_fault(text: str) -> Fault:
    """Read a fault. Raises InvalidRequest."""
    kind, *options = (part.strip() for part in text.split(";"))
    pairs = (option.partition("=") for option in options)
    values = {name: value for name, _, value in pairs}
    try:
        if kind not in KINDS or values.keys() - {"count", "at", "delay"}:
            raise ValueError(kind)
        return Fault(
            kind=kind,
            count=int(values.get("count", 1)),
            at=int(values["at"]) if "at" in values else None,
            delay_s=float(values.get("delay", _DELAYS_S.get(kind, 0.0))),
        )
    except ValueError as error:
        raise InvalidRequest(
            f"'{text}' is no fault: write KIND;count=N;at=K;delay=S with a kind of {', '.join(KINDS)}"
        ) from error


def drawn_fault(seed: int, digest: bytes) -> Fault | None:
    """The fault that the flaky persona has for a conversation: for half of them one, for one attempt or two."""
    draws = ("500", "429", "stall", "stall;at=2", "cut", "malformed")
    draw = pick(2 * len(draws), "fault", seed, digest.hex())
    if draw >= len(draws):
        return None
    fault = parse_fault(draws[draw])
    return msgspec.structs.replace(fault, count=1 + pick(2, "count", seed, digest.hex()))


class Attempts:
    """Counts the attempts at each conversation; the least recently tried are forgotten first."""

    def __init__(self, capacity: int = MAX_CONVERSATIONS) -> None:
        self._counts: OrderedDict[tuple[bytes, str], int] = OrderedDict()
        self._capacity = capacity

    def fails(self, fault: Fault, digest: bytes) -> bool:
        """Count one more attempt, and tell whether it is one of those that fail."""
        key = (digest, fault.kind)
        count = self._counts.pop(key, 0) + 1
        self._counts[key] = count
        if len(self._counts) > self._capacity:
            self._counts.popitem(last=False)
        return count <= fault.count
