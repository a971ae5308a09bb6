"""Turns text into references and back, for one session: what events must not hold, bodies do.

Bodies are sealed under the key of the session's user; what was put since the last write travels with the next one. The
cache holds what the open conversation refers to, so that a turn reads nothing back from the store.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

import msgspec
from msgspec.structs import replace

from cattlegrid.core.canonical import canonical_json
from cattlegrid.core.errors import IntegrityError
from cattlegrid.core.messages import Image, Message, ToolCall
from cattlegrid.journal.bodies import OwnerBox
from cattlegrid.journal.store import BodyRow, JournalStore

BUNDLE_PREFIX: Final = "b:"
IMAGE_SIZE_BYTES: Final = 4_800
"""How long the text would be that takes as many tokens as a large image, by about what providers charge for one."""

_message_encoder = msgspec.json.Encoder()
_message_decoder = msgspec.json.Decoder(Message)


def bundle_ref(text: str) -> str:
    """The reference of a text that belongs to the bundle, and is therefore not stored with the session."""
    return BUNDLE_PREFIX + sha256(text.encode()).hexdigest()[:32]


def speakable(text: str) -> str:
    """The text without lone surrogates, which no encoding of text can hold."""
    return text.encode("utf-8", "ignore").decode()


def encoded(message: Message) -> tuple[Message, bytes]:
    """A message as it can be kept, and its encoding."""
    try:
        return message, _message_encoder.encode(message)
    except UnicodeEncodeError:
        message = replace(
            message,
            text=speakable(message.text),
            refusal=speakable(message.refusal),
            reasoning=tuple(map(speakable, message.reasoning)),
            tool_call_id=speakable(message.tool_call_id),
            tool_calls=tuple(
                ToolCall(speakable(call.id), speakable(call.name), speakable(call.arguments))
                for call in message.tool_calls
            ),
        )
        return message, _message_encoder.encode(message)


class Texts:
    """The texts of one session."""

    def __init__(self, box: OwnerBox, store: JournalStore) -> None:
        self._box = box
        self._store = store
        self._known: dict[str, bytes] = {}
        self._messages: dict[str, Message] = {}
        self._unwritten: list[BodyRow] = []
        self._written: set[str] = set()

    @property
    def kept_bytes(self) -> int:
        """How much text is kept at hand."""
        return sum(map(len, self._known.values()))

    def put(self, text: str | bytes) -> str:
        """Remember a text; its reference. The body goes with the next write."""
        content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        body = self._box.seal(content)
        if body.digest not in self._written:
            self._written.add(body.digest)
            self._unwritten.append(body)
        self._known[body.digest] = content
        return body.digest

    def put_message(self, message: Message) -> tuple[str, int]:
        """Remember a message; its reference and its size in bytes, with what its images count for."""
        message, content = encoded(message)
        ref = self.put(content)
        self._messages[ref] = message
        return ref, len(content) + IMAGE_SIZE_BYTES * len(message.images)

    def put_image(self, data: bytes, media_type: str) -> Image:
        """Remember an image; what a message shows it by. The body goes with the next write."""
        return Image(self.put(data), media_type)

    def take_unwritten(self) -> tuple[BodyRow, ...]:
        """The bodies that must travel with the write that is about to be made."""
        bodies, self._unwritten = tuple(self._unwritten), []
        return bodies

    def digest(self, value: object) -> str:
        """The keyed digest of a value's canonical JSON; nothing is stored."""
        return self._box.keyed("call", canonical_json(value).decode())

    async def load(self, refs: Iterable[str]) -> None:
        """Read bodies that are not yet known.

        Raises:
            IntegrityError: one of them is missing or does not open.
        """
        missing = sorted(
            {ref for ref in refs if ref and ref not in self._known and not ref.startswith(BUNDLE_PREFIX)}
        )
        if not missing:
            return
        found = await self._store.bodies(self._box.owner, missing)
        for body in found:
            self._known[body.digest] = self._box.open(body)
            self._written.add(body.digest)
        absent = set(missing) - {body.digest for body in found}
        if absent:
            raise IntegrityError("A part of the record is missing.", detail=f"bodies {sorted(absent)}")

    async def load_images(self, refs: Iterable[str]) -> None:
        """Read the images that messages show; `refs` are those of the messages, which are known.

        Raises:
            IntegrityError: one of them is missing or does not open.
        """
        told = (self.message(ref) for ref in refs if not ref.startswith(BUNDLE_PREFIX))
        await self.load([image.ref for message in told for image in message.images])

    def images(self, messages: Iterable[Message]) -> dict[str, bytes]:
        """The bytes of the images that messages show, as far as they are known, by reference."""
        shown = (image.ref for message in messages for image in message.images)
        return {ref: self._known[ref] for ref in shown if ref in self._known}

    def text(self, ref: str) -> str:
        """A text that is known. Raises KeyError."""
        return self._known[ref].decode("utf-8", "surrogatepass")

    def message(self, ref: str) -> Message:
        """A message that is known. Raises KeyError."""
        message = self._messages.get(ref)
        if message is None:
            message = self._messages[ref] = _message_decoder.decode(self._known[ref])
        return message

    def keep_only(self, refs: Iterable[str]) -> None:
        """Forget everything that the conversation no longer refers to, so that memory does not grow with a session."""
        kept = set(refs)
        kept |= {image.ref for ref in kept if ref in self._messages for image in self._messages[ref].images}
        self._known = {ref: content for ref, content in self._known.items() if ref in kept}
        self._messages = {ref: message for ref, message in self._messages.items() if ref in kept}
        self._written &= kept
