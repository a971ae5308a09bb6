"""Chat completions over HTTP: an agent as a model, for everything that knows this one format.

The format has no sessions: each request opens one, unless the header `X-Cattlegrid-Session` names one, by its id or by
a name of the client's own. Streamed words cannot be taken back in it: when they turn out not to be the answer, the
stream ends with an error, which official clients raise.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Header
from starlette.responses import Response

from cattlegrid.runtime.requests import Accepted, RunRequest, RunView
from cattlegrid.runtime.streams import START, StreamItem
from cattlegrid.server import chat_shapes as shapes
from cattlegrid.server import door_names, doors, sse, views
from cattlegrid.server.auth import Call, Caller
from cattlegrid.server.client_words import files_of, newest, turn_of
from cattlegrid.server.contract import refusals, success
from cattlegrid.server.door_names import place_of
from cattlegrid.server.errors import answer, problem
from cattlegrid.server.response_stream import DONE
from cattlegrid.server.speech import Ended, Part, Piece, Speech

router = APIRouter(prefix="/v1", tags=["models"])

_TIMEOUT: Final = 504
_LATE: Final = "The run takes longer than a request may wait. It goes on."
_CHANGED: Final = "What was streamed is not the answer. The answer will be at /runs/{run_id}."

Session = Annotated[
    str,
    Header(
        alias=doors.SESSION_HEADER,
        pattern=r"^[\x21-\x7e]{0,256}$",
        description="The session that goes on: its id, or your own name for the conversation.",
    ),
]


@router.post(
    "/chat/completions",
    operation_id="createChatCompletion",
    summary="Chat with an agent as a model",
    response_model=shapes.Completion,
    responses={
        200: success("The answer, or that a person has to decide first.", located=True, foreign_events=True),
        **refusals(404, 409, 429, 504),
    },
)
async def create_chat_completion(
    body: shapes.NewCompletion,
    call: Caller,
    idempotency_key: doors.IdempotencyKey = "",
    session: Session = "",
) -> Response:
    """Ask, in a new session or in the one that the header names."""
    said = [message.said for message in body.messages]
    told = newest(said) if session else said
    request = RunRequest(
        text=turn_of(told, param="messages"),
        attachments=files_of(told),
        idempotency_key=idempotency_key,
        route="chat",
    )
    accepted = await doors.accept(call, body.model, place_of(session), request)
    if body.stream:
        headers = {doors.SESSION_HEADER: accepted.session_id}
        teller = _ChatTeller(call, accepted, include_usage=body.wants_usage)
        return sse.stream(call, accepted.run_id, START, teller=teller, headers=headers)
    view = await doors.answered(call, accepted)
    if view.status not in views.FINAL and view.status not in shapes.RESTS:
        # Another try would open another session: clients are told not to make one by themselves.
        return answer(
            _TIMEOUT,
            "timeout",
            f"{_LATE} Its answer will be at /runs/{view.id}.",
            correlation_id=call.correlation_id,
            headers={**doors.located(view), "X-Should-Retry": "false"},
        )
    ignored = list(doors.hints_of(body, shapes.HINTS))
    return views.reply(shapes.completion(view, ignored), headers=doors.located(view))


class _ChatTeller:
    """Says it as pieces of a completion."""

    def __init__(self, call: Call, accepted: Accepted, *, include_usage: bool) -> None:
        self._call = call
        self._accepted = accepted
        self._include_usage = include_usage
        self._speech = Speech()
        self._held: set[str] = set()
        self._agent = ""
        self._created = 0
        self.resting = False
        self.over = False

    async def begin(self) -> bytes:
        view = await self._view()
        self._agent, self._created = view.agent, int(view.started_at.timestamp())
        return self._piece({"role": "assistant", "content": "", "refusal": None})

    async def tell(self, item: StreamItem) -> bytes:
        told = self._parts(self._speech.hear(item))
        if self.over:
            return told
        if item.type == "run.held":
            return told + await self._rest(str(item.data["approval_id"]))
        if item.type == "run.parked":
            return told + self._end(await self._view())
        return told + await self._finish() if item.type == "run.finished" else told

    def broken(self, error: Mapping[str, str | None]) -> bytes:
        self.over = True
        return sse.event("", {"error": error})

    def stopped(self) -> bytes:
        return b""

    async def _rest(self, approval_id: str) -> bytes:
        """Wait for what else happens by itself; the chat ends when only people can go on."""
        self._held.add(approval_id)
        view = await doors.resting(self._call, self._accepted, self._held)
        if view is None:
            return b""
        return self._end(view)

    def _end(self, view: RunView) -> bytes:
        """The chat ends here, and says where the answer will be."""
        self.over = True
        return self._piece({"content": shapes.notice(view)}) + self._last(view)

    async def _finish(self) -> bytes:
        view = await self._view()
        denied = view.status == "denied"
        told = self._parts(self._speech.stop() if denied else self._speech.finish(view))
        if self.over:
            return told
        self.over = True
        refusal = self._piece({"refusal": view.output}) if denied else b""
        return told + refusal + self._last(view)

    async def _view(self) -> RunView:
        return await self._call.services.engine.reader.run(self._accepted.run_id, self._call.principal)

    def _parts(self, parts: Sequence[Part]) -> bytes:
        told = b""
        for part in parts:
            if isinstance(part, Piece):
                told += self._piece({"content": part.text})
            elif isinstance(part, Ended) and part.fate == "void":
                return told + self._changed()
            elif isinstance(part, Ended) and part.fate == "aside":
                told += self._piece({"content": "\n\n"})
        return told

    def _changed(self) -> bytes:
        message = _CHANGED.format(run_id=self._accepted.run_id)
        correlation_id = self._call.correlation_id
        return self.broken(problem(500, "answer_changed", message, correlation_id=correlation_id))

    def _last(self, view: RunView) -> bytes:
        extension = {"cattlegrid": doors.extension(view)}
        told = self._piece({}, finish_reason=shapes.finish_reason(view), more=extension)
        if self._include_usage:
            told += self._event({"choices": [], "usage": shapes.usage(view.usage), **extension})
        return told + DONE

    def _piece(
        self, delta: views.Json, *, finish_reason: str | None = None, more: views.Json | None = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        usage = {"usage": None} if self._include_usage else {}
        return self._event({"choices": [choice], **usage, **(more or {})})

    def _event(self, data: views.Json) -> bytes:
        whole = {
            "id": door_names.completion_id(self._accepted.run_id),
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._agent,
            **data,
        }
        return sse.event("", whole)
