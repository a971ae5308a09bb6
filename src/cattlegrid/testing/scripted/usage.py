"""Counts tokens from text: about four characters each, and the prefix of a request that was seen before as cached.

Nothing here is a tokenizer; the numbers are what a client can check its accounting with, the same each time.
"""

import hashlib
from collections import OrderedDict

import msgspec

from cattlegrid.testing.scripted.conversation import Conversation
from cattlegrid.testing.scripted.reply import Reply

BYTES_PER_TOKEN = 4
MAX_PREFIXES = 50_000


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one call; `prompt_tokens` holds the cached ones too."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    def on_the_wire(self) -> dict[str, object]:
        """The `usage` object of the wire format."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }


class Prefix(msgspec.Struct, frozen=True):
    """A request up to and with one of its messages: its digest, and its tokens so far."""

    digest: bytes
    tokens: int


def prefixes(conversation: Conversation) -> tuple[Prefix, ...]:
    """One prefix for each message. The last one's digest identifies the whole request but for its parameters."""
    digest = hashlib.blake2b(
        conversation.model.encode() + conversation.offered_bytes, digest_size=16
    ).digest()
    tokens = len(conversation.offered_bytes) // BYTES_PER_TOKEN
    found: list[Prefix] = []
    for message in conversation.messages:
        content = bytes(message)
        digest = hashlib.blake2b(digest + content, digest_size=16).digest()
        tokens += len(content) // BYTES_PER_TOKEN + 1
        found.append(Prefix(digest, tokens))
    return tuple(found)


def completion_tokens(reply: Reply) -> int:
    """Tokens of what was said."""
    called = sum(len(msgspec.json.encode(call)) // BYTES_PER_TOKEN + 1 for call in reply.calls)
    return len(reply.text.encode(errors="replace")) // BYTES_PER_TOKEN + called + 1


class PromptCache:
    """Remembers which prefixes were sent before; the least recently used go first."""

    def __init__(self, capacity: int = MAX_PREFIXES) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._capacity = capacity

    def cached_tokens(self, request: tuple[Prefix, ...]) -> int:
        """Tokens of the longest prefix that an earlier request had too; remembers this one."""
        known = next((prefix for prefix in reversed(request) if prefix.digest in self._seen), None)
        for prefix in request:
            self._seen[prefix.digest] = None
            self._seen.move_to_end(prefix.digest)
        while len(self._seen) > self._capacity:
            self._seen.popitem(last=False)
        return known.tokens if known else 0
