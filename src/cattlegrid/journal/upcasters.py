"""Turns the raw data of an event version that is no longer written into the version that took its place.

`UPCASTERS` maps an old tag to a function from raw data (as msgpack gives it, tag included under `t`) to raw data with
a newer tag. They are applied one after the other until the tag is one of the current union, so each of them is written
once and never changed. Every old tag keeps its stored fixture in `tests/fixtures/events/` for ever.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from cattlegrid.core.errors import IntegrityError

RawData = dict[str, Any]
Upcaster = Callable[[RawData], RawData]

TAG_FIELD: Final = "t"

UPCASTERS: Final[Mapping[str, Upcaster]] = MappingProxyType({})


def upcast(raw: RawData, *, current: frozenset[str], upcasters: Mapping[str, Upcaster]) -> RawData:
    """The same event under a tag of `current`.

    Raises:
        IntegrityError: nothing leads from this tag to a current one; a newer version has written it.
    """
    seen: set[str] = set()
    tag = str(raw.get(TAG_FIELD))
    while tag not in current:
        step = upcasters.get(tag)
        if step is None or tag in seen:
            raise IntegrityError(
                "The journal holds an event of an unknown kind.", detail=f"event type {tag!r}"
            )
        seen.add(tag)
        raw = step(raw)
        tag = str(raw.get(TAG_FIELD))
    return raw
