"""The wire formats of the conformance table, by name."""

from typing import Final

from tests.wires.anthropic import Anthropic
from tests.wires.chat import Chat
from tests.wires.gemini import Gemini
from tests.wires.responses import Responses
from tests.wires.wire import RecordedWire

WIRES: Final[dict[str, RecordedWire]] = {
    wire.name: wire for wire in (Chat(), Responses(), Anthropic(), Gemini())
}
