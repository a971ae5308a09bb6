"""Says what happens in a run as the events of a response (https://www.openresponses.org/specification#streaming).

    response.created, response.queued, response.in_progress      what the run is when the stream begins, and goes on
    response.output_item.added ... .done                         a message as it comes, a call that waits for a person
    response.completed, .incomplete, .failed                     the answer, once it is durable; then `[DONE]`
    error                                                        the stream broke

Words come as `response.output_text.delta` and are provisional. What came to nothing ends as an item with the status
`incomplete`, and is not in the output of the last event: only that counts.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, assert_never

from cattlegrid.runtime.requests import RunView
from cattlegrid.runtime.streams import StreamItem
from cattlegrid.server import response_objects as objects
from cattlegrid.server import sse, views
from cattlegrid.server.auth import Call
from cattlegrid.server.speech import Begun, Ended, Part, Piece, Speech

DONE: Final = b"data: [DONE]\n\n"
_LAST: Final[Mapping[str, str]] = MappingProxyType(
    {"completed": "response.completed", "failed": "response.failed"}
)
_STOPS: Final = {"code": "store_unavailable", "message": "The service stops. Ask for the response later."}

Render = Callable[[RunView, str], views.Json]
"""A run, and the id of its streamed answer, as a response."""


class ResponseTeller:
    """See the module. `render` is how the response of this request looks."""

    def __init__(self, call: Call, run_id: str, render: Render) -> None:
        self._call = call
        self._run_id = run_id
        self._render = render
        self._speech = Speech()
        self._sequence = 0
        self._index = -1
        self._items: dict[str, int] = {}
        self._refused_id = ""
        self._queued = False
        self.resting = False
        self.over = False

    async def begin(self) -> bytes:
        view = await self._view()
        told = self._snapshot("response.created", view)
        self._queued = view.status == "queued"
        if self._queued:
            return told + self._snapshot("response.queued", view)
        return told + self._snapshot("response.in_progress", view)

    async def tell(self, item: StreamItem) -> bytes:
        if item.type in {"run.held", "run.parked", "approval.decided", "run.restarted", "run.started"}:
            self.resting = item.type in {"run.held", "run.parked"}
        told = self._parts(self._speech.hear(item))
        match item.type:
            case "run.started" if not self._queued:
                return told
            case "run.started" | "run.restarted":
                return told + self._snapshot("response.in_progress", await self._view())
            case "run.held":
                return told + await self._held(str(item.data["approval_id"]))
            case "run.finished":
                return told + await self._finished()
            case _:
                return told

    def broken(self, error: Mapping[str, str | None]) -> bytes:
        # OpenAI's clients raise an error that stands under `error`; others read it from the event itself.
        return self._event("error", {**error, "error": error}) + DONE

    def stopped(self) -> bytes:
        return self.broken({**_STOPS, "type": "server_error", "param": None})

    async def _view(self) -> RunView:
        return await self._call.services.engine.reader.run(self._run_id, self._call.principal)

    async def _held(self, approval_id: str) -> bytes:
        view = await self._call.services.engine.reader.approval(approval_id, self._call.principal)
        item = objects.approval_item(view, staff=views.is_staff(self._call.principal))
        return self._added(item) + self._done(item)

    async def _finished(self) -> bytes:
        view = await self._view()
        parts = self._speech.finish(view)
        final = next((part.id for part in parts if isinstance(part, Ended) and part.fate == "final"), "")
        self._refused_id = final if view.status == "denied" else ""
        last = _LAST.get(objects.STATUS[view.status], "response.incomplete")
        return self._parts(parts) + self._event(last, {"response": self._render(view, final)}) + DONE

    def _snapshot(self, type_: str, view: RunView) -> bytes:
        return self._event(type_, {"response": self._render(view, "")})

    def _parts(self, parts: Sequence[Part]) -> bytes:
        return b"".join(map(self._part, parts))

    def _part(self, part: Part) -> bytes:
        match part:
            case Begun():
                item = objects.message_item(part.id, [], "in_progress")
                empty = {"part": self._content(part.id, "")}
                return self._added(item) + self._of("response.content_part.added", part.id, empty)
            case Piece(id=id, text=text):
                if id == self._refused_id:
                    return self._of("response.refusal.delta", id, {"delta": text})
                return self._of("response.output_text.delta", id, {"delta": text, "logprobs": []})
            case Ended():
                return self._ended(part)
            case _:
                assert_never(part)

    def _ended(self, part: Ended) -> bytes:
        whole = self._content(part.id, part.text)
        item = objects.message_item(part.id, [whole], "incomplete" if part.fate == "void" else "completed")
        phase = {"aside": "commentary", "final": "final_answer"}.get(part.fate)
        if part.id == self._refused_id:
            done = self._of("response.refusal.done", part.id, {"refusal": part.text})
        else:
            done = self._of("response.output_text.done", part.id, {"text": part.text, "logprobs": []})
        done += self._of("response.content_part.done", part.id, {"part": whole})
        return done + self._done({**item, "phase": phase} if phase else item)

    def _content(self, id: str, text: str) -> views.Json:
        return objects.refusal_part(text) if id == self._refused_id else objects.text_part(text)

    def _added(self, item: views.Json) -> bytes:
        self._index += 1
        self._items[str(item["id"])] = self._index
        return self._event("response.output_item.added", {"output_index": self._index, "item": item})

    def _done(self, item: views.Json) -> bytes:
        index = self._items[str(item["id"])]
        return self._event("response.output_item.done", {"output_index": index, "item": item})

    def _of(self, type_: str, id: str, data: views.Json) -> bytes:
        place = {"item_id": id, "output_index": self._items[id], "content_index": 0}
        return self._event(type_, {**place, **data})

    def _event(self, type_: str, data: views.Json) -> bytes:
        sequence, self._sequence = self._sequence, self._sequence + 1
        return sse.event(type_, {"type": type_, "sequence_number": sequence, **data})
