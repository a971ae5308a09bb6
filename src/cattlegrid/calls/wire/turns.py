"""Turns a conversation into turns of two speakers, for formats in which these alternate and the user begins."""

from collections.abc import Iterable
from typing import Final

import msgspec

from cattlegrid.core.messages import Message, Role

OPENING: Final = "(The beginning of this conversation is not shown.)"
"""What stands for the user's first words where the history was cut and begins with an answer."""


class Turn(msgspec.Struct):
    """What one speaker says in a row: encoded parts, each perhaps several joined by commas."""

    by_model: bool
    parts: list[bytes]


def in_turns(encoded: Iterable[tuple[Message, bytes]], opening: bytes) -> list[Turn]:
    """The turns of a conversation without its system messages; a message without parts leaves no trace.

    `opening` is the encoded part that a user begins with when the conversation does not.
    """
    turns: list[Turn] = []
    for message, parts in encoded:
        if not parts:
            continue
        by_model = message.role is Role.ASSISTANT
        if turns and turns[-1].by_model is by_model:
            turns[-1].parts.append(parts)
        else:
            turns.append(Turn(by_model, [parts]))
    if not turns or turns[0].by_model:
        turns.insert(0, Turn(False, [opening]))
    return turns
