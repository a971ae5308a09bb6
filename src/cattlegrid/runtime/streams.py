"""Turns a run's recorded events, and the model's words as they come, into what its watchers see.

Items of recorded events are named by their sequence number, provisional pieces of text by that of the last event and a
count (`12`, `12.1`, `12.2`), so that a watcher that comes back says where it left off. Pieces are provisional: the
answer counts when `run.finished` arrives, which is sent only once it is durable.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

import msgspec

from cattlegrid.core.errors import InvalidRequest
from cattlegrid.core.messages import ModelDelta, TextDelta
from cattlegrid.journal import events as ev

Place = tuple[int, int]
START: Final[Place] = (0, 0)


class StreamItem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to tell the watchers of a run. `data` is ready to be JSON."""

    place: Place
    type: str
    data: Mapping[str, object]

    @property
    def id(self) -> str:
        """The name that a watcher may come back with."""
        seq, count = self.place
        return f"{seq}.{count}" if count else str(seq)


def parse_place(text: str) -> Place:
    """The place that a watcher names. Raises InvalidRequest."""
    seq, _, count = text.partition(".")
    if not (
        seq.isascii()
        and seq.isdigit()
        and (not count or (count.isascii() and count.isdigit()))
        and len(text) < 20
    ):
        raise InvalidRequest("This is no id of an event of this stream: start without one.")
    return int(seq), int(count or 0)


def item_of(event: ev.Event) -> StreamItem | None:
    """What a recorded event tells the watchers; None when it is nothing to them."""
    told = _tell(event.data)
    if told is None:
        return None
    type_, data = told
    return StreamItem(place=(event.seq, 0), type=type_, data={"run_id": event.run_id, **data})


Told = tuple[str, dict[str, object]]


def _tell(data: ev.Data) -> Told | None:
    match data:
        case ev.RunStarted():
            return "run.started", {}
        case ev.RunResumed(attempt=attempt):
            return "run.restarted", {"attempt": attempt}
        case ev.ApprovalDecided(approval_id=approval, decision=decision):
            return "approval.decided", {"approval_id": approval, "decision": decision.value}
        case ev.RunParked():
            return "run.parked", {}
        case ev.RunRetried():
            return "run.restarted", {"attempt": 0}
        case ev.CancelRequested():
            return "run.cancelling", {}
        case ev.RunFinished(status=status, reason=reason):
            return "run.finished", {"status": status.value, "reason": reason}
        case _:
            return _tell_of_step(data)


def _tell_of_step(data: ev.Data) -> Told | None:
    match data:
        case ev.StepIntended(step_id=step, kind=kind, tool=tool, attempt=attempt):
            name = {"tool": tool.tool} if tool is not None else {}
            return "step.started", {"step_id": step, "kind": kind.value, "attempt": attempt, **name}
        case ev.StepDone(step_id=step):
            return "step.finished", {"step_id": step, "status": "done"}
        case ev.StepFailed(step_id=step, code=code):
            return "step.finished", {"step_id": step, "status": "failed", "code": code}
        case ev.StepRefused(step_id=step, code=code, tool=tool):
            return "step.finished", {"step_id": step, "status": "refused", "code": code, "tool": tool}
        case ev.StepHeld(step_id=step, approval_id=approval, tool=tool, hold=hold):
            held = {"step_id": step, "approval_id": approval, "tool": tool.tool, "reason": hold.value}
            return "run.held", dict[str, object](held)
        case _:
            return None


class RunStream:
    """The items of one run, kept while it is open, for any number of watchers.

    `on_idle` is called when the last watcher has left, or the run has ended, and nobody needs this object any more.
    """

    def __init__(self, on_idle: Callable[[], object] = lambda: None) -> None:
        self._items: list[StreamItem] = []
        self._last: Place = START
        self._speaking = ""
        self._closed = False
        self._news = asyncio.Event()
        self._watchers = 0
        self._on_idle = on_idle
        self._begun: set[str] = set()
        self._early: list[tuple[str, ModelDelta]] = []
        self.fed = False
        """Whether a runner of this process tells what happens; if not, watchers recall what is recorded."""
        self.rested_us = 0
        """When the run, which goes on elsewhere, came to rest as far as watchers were told; 0 while it does not."""

    @property
    def closed(self) -> bool:
        return self._closed

    def record(self, item: StreamItem) -> None:
        """Tell of a recorded event, unless it was told before."""
        if item.place <= self._last and item.place[0] <= self._last[0]:
            return
        self._tell(item)
        if item.type == "step.started":
            self._begun.add(str(item.data.get("step_id", "")))
            early, self._early = self._early, []
            for step_id, delta in early:
                self.provisional(delta, step_id)

    def provisional(self, delta: ModelDelta, step_id: str) -> None:
        """Tell of a piece of the answer, or that the pieces of this step so far are void.

        Pieces of the steps before it are told no more to those who come later.
        """
        if self.fed and step_id not in self._begun:
            # The model is faster than the disk: the step itself is told of once it is durable.
            self._early.append((step_id, delta))
            return
        if step_id != self._speaking:
            self._speaking = step_id
            self._items = [item for item in self._items if item.place[1] == 0]
        seq, count = self._last
        type_ = "message.delta" if isinstance(delta, TextDelta) else "message.reset"
        data: dict[str, object] = {"step_id": step_id}
        if isinstance(delta, TextDelta):
            data["text"] = delta.text
        self._tell(StreamItem(place=(seq, count + 1), type=type_, data=data))

    def leave(self) -> None:
        """Nobody in this process tells of the run any more, for now."""
        self.fed = False
        self._early.clear()
        self._rest()

    def close(self) -> None:
        """Nothing more will come."""
        self._closed = True
        self._wake()
        self._rest()

    @contextmanager
    def watched(self) -> Generator[None]:
        """While somebody watches, this object stays the one that the run is told to."""
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1
            self._rest()

    async def follow(self, after: Place = START) -> AsyncGenerator[StreamItem]:
        """Everything after a place, as it comes, until the run has ended. For those within `watched`."""
        while True:
            news = self._news
            for item in self._after(after):
                after = item.place
                yield item
            if self._closed and not self._after(after):
                return
            if news is self._news:
                await news.wait()

    def _after(self, place: Place) -> list[StreamItem]:
        return self._items[bisect_right(self._items, place, key=lambda item: item.place) :]

    def _rest(self) -> None:
        if not self._watchers and (self._closed or not self.fed):
            self._on_idle()

    def _tell(self, item: StreamItem) -> None:
        self._items.append(item)
        self._last = item.place
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Streams:
    """The streams of the runs that this process tells watchers of, or would."""

    def __init__(self) -> None:
        self._open: dict[str, RunStream] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The runs that somebody watches or that are told here."""
        return tuple(self._open)

    def of(self, run_id: str) -> RunStream:
        """The stream of a run, made when there is none."""
        stream = self._open.get(run_id)
        if stream is None:
            stream = self._open[run_id] = RunStream(partial(self._open.pop, run_id, None))
        return stream

    def fed(self, run_id: str) -> RunStream:
        """The stream of a run for the runner that tells what happens in it."""
        stream = self.of(run_id)
        stream.fed = True
        return stream

    def leave(self, run_id: str) -> None:
        """The runner of a run is gone, and may come back, here or elsewhere."""
        stream = self._open.get(run_id)
        if stream is not None:
            stream.leave()

    def recall(self, run_id: str, recorded: Iterable[ev.Event]) -> None:
        """Tell what is recorded of a run, as far as it is not told yet."""
        stream = self.of(run_id)
        for event in recorded:
            item = item_of(event) if event.run_id == run_id else None
            if item is not None:
                stream.record(item)
            if event.run_id == run_id and isinstance(event.data, ev.RunFinished):
                stream.close()

    def end(self, run_id: str, seq: int, *, status: str) -> None:
        """Tell the watchers of a run, if there are any, that it has ended without a runner."""
        stream = self._open.pop(run_id, None)
        if stream is not None:
            data = {"run_id": run_id, "status": status}
            stream.record(StreamItem(place=(seq, 0), type="run.finished", data=data))
            stream.close()
