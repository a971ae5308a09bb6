"""Turns a time and some entropy into sortable ids with a type prefix, and derives the ids that must not be drawn.

Shape: prefix, `_`, 26 characters of Crockford base32: 48 bits of milliseconds, 80 of entropy (the ULID layout,
https://github.com/ulid/spec). Steps and approvals are numbered within their run, so that a recovered or replayed run
gives them the same ids again without drawing anything.
"""

import os
from collections.abc import Callable
from typing import Final

from cattlegrid.core.ports import Clock

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ULID_LENGTH: Final = 26


class Ids:
    """Draws ids; one instance for a process, made by the composition root."""

    def __init__(self, clock: Clock, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._entropy = entropy

    def session(self) -> str:
        return self._draw("ses")

    def run(self) -> str:
        return self._draw("run")

    def key(self) -> str:
        return self._draw("key")

    def inbox_item(self) -> str:
        return self._draw("inb")

    def correlation(self) -> str:
        return self._draw("cor")

    def seed(self) -> int:
        """A 63-bit number for the random choices of one run."""
        return int.from_bytes(self._entropy(8), "big") >> 1

    def _draw(self, prefix: str) -> str:
        value = (int(self._clock.now().timestamp() * 1000) << 80) | int.from_bytes(self._entropy(10), "big")
        digits = [_ALPHABET[(value >> (5 * place)) & 31] for place in range(_ULID_LENGTH - 1, -1, -1)]
        return f"{prefix}_{''.join(digits)}"


def step_id(run_id: str, number: int) -> str:
    """The id of step `number` (from 1) of a run."""
    return f"stp_{run_id.removeprefix('run_')}_{number:03d}"


def audit_id(seq: int) -> str:
    """The id of the line of the audit that is event `seq` of the control stream; ids sort as the lines were written."""
    return f"aud_{seq:012d}"


def approval_id(step: str) -> str:
    """The id of the approval that a held step waits for."""
    return f"apr_{step.removeprefix('stp_')}"
