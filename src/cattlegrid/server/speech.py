"""Turns what a run tells its watchers into messages of the agent that begin, go on and end. Pure.

The doors that stream words in somebody else's format share it. Pieces are provisional: a message ends as `final` only
when the recorded answer is exactly what was streamed; else it ends as `void`, or as an `aside` when the agent spoke
before a call of a tool, and the recorded answer follows as a message of its own.
"""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from cattlegrid.runtime.requests import RunView
from cattlegrid.runtime.streams import StreamItem

Fate = Literal["final", "aside", "void"]


class Begun(msgspec.Struct, frozen=True):
    """A message begins."""

    id: str


class Piece(msgspec.Struct, frozen=True):
    """It goes on."""

    id: str
    text: str


class Ended(msgspec.Struct, frozen=True):
    """It has ended; `text` is all of it."""

    id: str
    text: str
    fate: Fate


Part = Begun | Piece | Ended

_MOVES_ON: Final = frozenset({"step.started", "run.held"})
_TAKES_BACK: Final = frozenset({"message.reset", "run.restarted", "run.parked"})


class Speech:
    """The messages of one run, for one watcher."""

    def __init__(self) -> None:
        self._id = ""
        self._step = ""
        self._text = ""
        self._messages: dict[str, int] = {}
        self.took_back = False
        """Whether words were told that are void."""

    def hear(self, item: StreamItem) -> Sequence[Part]:
        """What an item means for the messages."""
        step = str(item.data.get("step_id", ""))
        if item.type == "message.delta":
            return self._piece(step, str(item.data["text"]))
        if item.type in _TAKES_BACK:
            return self._end("void")
        if item.type == "step.finished" and step == self._step and item.data.get("status") != "done":
            return self._end("void")
        if item.type in _MOVES_ON and step != self._step:
            return self._end("aside")
        return ()

    def finish(self, view: RunView) -> Sequence[Part]:
        """The run has ended, and this is its recorded answer."""
        if self._id and self._text == view.output:
            return self._end("final")
        parts = list(self._end("void"))
        if view.output:
            id = self._free(message_id(view.id))
            parts += [Begun(id), Piece(id, view.output), Ended(id, view.output, "final")]
        return parts

    def stop(self) -> Sequence[Part]:
        """The telling ends before the run does."""
        return self._end("void")

    def _piece(self, step: str, text: str) -> Sequence[Part]:
        parts: list[Part] = []
        if step != self._step:
            parts += self._end("aside")
        if not self._id:
            self._id, self._step = self._free(message_id(step)), step
            parts.append(Begun(self._id))
        self._text += text
        return [*parts, Piece(self._id, text)]

    def _end(self, fate: Fate) -> Sequence[Part]:
        if not self._id:
            return ()
        ended = Ended(self._id, self._text, fate)
        self.took_back |= fate == "void"
        self._id = self._step = self._text = ""
        return [ended]

    def _free(self, id: str) -> str:
        """The id, or with a number when a message had it."""
        count = self._messages[id] = self._messages.get(id, 0) + 1
        return id if count == 1 else f"{id}_{count}"


def message_id(step_or_run: str) -> str:
    """The id of what a step says, or of a run's answer when it was not streamed as it is."""
    return f"msg_{step_or_run.partition('_')[2]}"
