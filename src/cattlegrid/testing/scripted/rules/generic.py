"""Plays any agent that no other rules know: it makes the calls that the user spells out, and repeats what was said.

A message may hold `call NAME {json}` any number of times; the calls go out together, and those after the word `then`
one turn later.
"""

import json
import re

from cattlegrid.testing.scripted.conversation import Call, Conversation
from cattlegrid.testing.scripted.reply import Reply

_CALL = re.compile(r"\bcall\s+([A-Za-z_][\w-]*)\s*(?=\{)")
_THEN = re.compile(r"\bthen\s+(?=call\b)", re.IGNORECASE)


def generic(conversation: Conversation) -> Reply:
    """Call what is asked for and offered; then say what came back, or repeat the message."""
    made = len(conversation.done)
    waves = [_known(wave, conversation) for wave in _THEN.split(conversation.user)]
    for wave in waves:
        if made < len(wave) and conversation.may_call:
            return Reply(calls=tuple(wave[made:] if conversation.parallel else wave[made : made + 1]))
        made -= len(wave)
    if conversation.done:
        results = " ".join(f"{done.call.name} returned: {done.result[:300]}" for done in conversation.done)
        return Reply(text=results)
    return Reply(text=f'You said: "{" ".join(conversation.user.split())[:300]}"')


def spelled_out(text: str) -> list[Call]:
    """All calls that a text spells out; what follows a name and is no JSON object is no call."""
    calls: list[Call] = []
    for found in _CALL.finditer(text):
        try:
            arguments, _ = json.JSONDecoder().raw_decode(text, found.end())
        except json.JSONDecodeError:
            continue
        calls.append(Call(found[1], arguments))
    return calls


def _known(text: str, conversation: Conversation) -> list[Call]:
    return [call for call in spelled_out(text) if call.name in conversation.tools]
