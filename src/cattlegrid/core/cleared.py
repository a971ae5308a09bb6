"""A request that guards have let through. Only `guards/chain.py` makes one; `calls` accepts nothing else.

That is what closes the side door: the type checker refuses an unchecked request, and an architecture test refuses a
second place that constructs this class.
"""

from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Cleared(msgspec.Struct, Generic[T], frozen=True):
    """A request that the guards of its crossing have judged with `allow` or `modify`."""

    request: T
