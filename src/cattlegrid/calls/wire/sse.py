"""Turns the bytes of a server-sent event stream, cut anywhere, into the data of its events.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, section "Interpreting an event stream". Lines
end with LF, CR or CRLF; lines of one event's `data` are joined with LF; comments and other fields are left out. The
data stays bytes, so a character that is split between two pieces is whole again before anybody decodes it.
"""

from typing import Final

_BOM: Final = b"\xef\xbb\xbf"


class SseFramer:
    """Collects the pieces of one stream. Its memory is the event in progress; whoever feeds it bounds that."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._data: list[bytes] = []
        self._after_cr = False
        self._at_start = True

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that end in this piece, in their order."""
        if self._after_cr and piece:
            piece = piece.removeprefix(b"\n")
            self._after_cr = False
        end = max(piece.rfind(b"\n"), piece.rfind(b"\r")) + 1
        if not end:
            if piece:
                self._pieces.append(piece)
            return []
        self._after_cr = piece.endswith(b"\r")
        block = piece[:end]
        if self._pieces:
            self._pieces.append(block)
            block = b"".join(self._pieces)
            self._pieces = []
        if end < len(piece):
            self._pieces.append(piece[end:])
        if self._at_start:
            block = block.removeprefix(_BOM)
            self._at_start = False
        return self._events(block)

    def rest(self) -> list[bytes]:
        """What an end of the stream without an empty line leaves: at most one event, perhaps cut in its middle."""
        block = b"".join(self._pieces)
        self._pieces = []
        return self._events(block + b"\n\n")

    def _events(self, block: bytes) -> list[bytes]:
        events: list[bytes] = []
        for line in block.splitlines():
            if not line:
                if self._data:
                    events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                    self._data = []
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line == b"data":
                self._data.append(b"")
        return events
