"""What the scripted model says in one turn: words, tool calls, or words on the way to tool calls."""

import hashlib

import msgspec

from cattlegrid.testing.scripted.conversation import Call


class Reply(msgspec.Struct, frozen=True):
    """One turn of the model."""

    text: str = ""
    calls: tuple[Call, ...] = ()


def pick(count: int, *parts: object) -> int:
    """A number below `count` that depends on the parts alone: the only dice that the scripted model has."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest) % count
