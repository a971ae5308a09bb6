"""Bounds and cleans text at the crossings where it enters or leaves: size limits, characters that nobody types.

Control characters (but for tab, line feed and carriage return) and lone surrogates carry no meaning for people; they
break terminals, logs and encodings, so they are dropped from input and from tool results.
"""

import re
from typing import Final

import msgspec

from cattlegrid.core.messages import Message
from cattlegrid.core.verdicts import Crossing, Decision
from cattlegrid.guards.chain import ALLOWED, Finding, GuardContext

# A plain character class: linear time on any input.
_UNSPEAKABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class Characters:
    """Drops control characters and lone surrogates."""

    name = "characters"
    version = 1
    crossings = frozenset({Crossing.INPUT, Crossing.TOOL_RESULT})

    def judge(self, crossing: Crossing, content: object, context: GuardContext) -> Finding:
        message = _message(content)
        if not _UNSPEAKABLE.search(message.text):
            return ALLOWED
        cleaned = msgspec.structs.replace(message, text=_UNSPEAKABLE.sub("", message.text))
        return Finding(decision=Decision.MODIFY, reason="control_characters", content=cleaned)


class Size:
    """Refuses an input or tool result above the bundle's limit, and cuts an answer there."""

    name = "size"
    version = 1
    crossings = frozenset({Crossing.INPUT, Crossing.TOOL_RESULT, Crossing.OUTPUT})

    def judge(self, crossing: Crossing, content: object, context: GuardContext) -> Finding:
        message = _message(content)
        limits = context.bundle.limits
        limit = {
            Crossing.INPUT: limits.input_bytes,
            Crossing.TOOL_RESULT: limits.tool_result_bytes,
            Crossing.OUTPUT: limits.output_bytes,
        }[crossing]
        # What is in files has limits of its own, which held when the files were read.
        text = message.text[message.material :] if crossing is Crossing.INPUT else message.text
        # A character is at most four bytes, so that most texts need not be encoded to be judged.
        if len(text) * 4 <= limit:
            return ALLOWED
        encoded = text.encode("utf-8", "surrogatepass")
        if len(encoded) <= limit:
            return ALLOWED
        if crossing is not Crossing.OUTPUT:
            return Finding(decision=Decision.DENY, reason="too_large")
        cut = encoded[:limit].decode("utf-8", "ignore")
        return Finding(
            decision=Decision.MODIFY, reason="too_large", content=msgspec.structs.replace(message, text=cut)
        )


def _message(content: object) -> Message:
    if not isinstance(content, Message):
        raise TypeError(type(content).__name__)
    return content
