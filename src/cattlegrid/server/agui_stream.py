"""Says what happens in a run as AG-UI 1.0 events (https://docs.ag-ui.com/spec/1.0/events).

RUN_STARTED                       first; `metadata.cattlegrid` has our ids
STEP_STARTED, STEP_FINISHED       a call of the model
TEXT_MESSAGE_START ... _END       words, provisional; MESSAGES_SNAPSHOT sets right what came to nothing
TOOL_CALL_START, _END, _RESULT    a call of a tool: that it is made and how it ended. Arguments are for staff
RUN_FINISHED                      success with the answer as `result`; interrupt, when people must decide; cancelled
RUN_ERROR                         the run failed, or the stream broke
"""

from collections.abc import Mapping, Sequence
from typing import Final, assert_never

import msgspec

from cattlegrid.core.permissions import Permission
from cattlegrid.runtime.requests import Accepted, ApprovalView, RunView
from cattlegrid.runtime.streams import StreamItem
from cattlegrid.server import doors, sse, views
from cattlegrid.server.auth import Call
from cattlegrid.server.speech import Begun, Ended, Part, Piece, Speech

PROTOCOL: Final = "1.0"
_CHAT: Final = "chat"
_PARKED: Final = {"message": "The run was interrupted too often, and waits for an operator.", "code": "dead"}
_ANSWER: Final = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "editedArgs": {"type": "object"}},
    "required": ["approved"],
}


class Thread(msgspec.Struct, frozen=True, kw_only=True):
    """What the user interface calls things, and what it knows."""

    id: str
    run_id: str
    messages: tuple[views.Json, ...]
    answered: frozenset[str]
    """The interrupts that this run goes on from."""
    ignored: tuple[str, ...]


class AguiTeller:
    """See the module."""

    def __init__(self, call: Call, accepted: Accepted, thread: Thread) -> None:
        self._call = call
        self._accepted = accepted
        self._thread = thread
        self._speech = Speech()
        self._said: list[views.Json] = []
        self._before = set(thread.answered)
        self._held: set[str] = set()
        self._steps: list[str] = []
        self._calls: set[str] = set()
        self.resting = False
        self.over = False

    async def begin(self) -> bytes:
        view = await self._view()
        extension = {**doors.extension(view, self._thread.ignored)}
        return _event(
            "RUN_STARTED",
            **self._ids,
            protocolVersion=PROTOCOL,
            metadata={"cattlegrid": extension},
        )

    async def tell(self, item: StreamItem) -> bytes:
        if item.type == "run.held":
            return await self._hold(item)
        if self._before:
            # It was told before the interrupt; what is still under way is told of when it ends.
            if item.type == "step.started" and item.data.get("kind") != _CHAT:
                self._calls.add(str(item.data["step_id"]))
            return b""
        told = self._parts(self._speech.hear(item))
        match item.type:
            case "step.started":
                return told + self._started(item)
            case "step.finished":
                return told + self._finished(item)
            case "run.restarted":
                return told + self._close_steps()
            case "run.parked":
                self.over = True
                return told + self._close_steps() + _event("RUN_ERROR", **_PARKED)
            case "run.finished":
                return told + await self._finish()
            case _:
                return told

    def broken(self, error: Mapping[str, str | None]) -> bytes:
        return _event("RUN_ERROR", message=error["message"], code=error["code"])

    def stopped(self) -> bytes:
        return b""

    @property
    def _ids(self) -> dict[str, object]:
        return {"threadId": self._thread.id, "runId": self._thread.run_id}

    async def _view(self) -> RunView:
        return await self._call.services.engine.reader.run(self._accepted.run_id, self._call.principal)

    # --- calls and steps ----------------------------------------------------------------------------------------------

    def _started(self, item: StreamItem) -> bytes:
        step = str(item.data["step_id"])
        if item.data.get("kind") != _CHAT:
            return self._called(step, str(item.data.get("tool", "")))
        if step in self._steps:
            return b""
        self._steps.append(step)
        return _event("STEP_STARTED", stepName=step)

    def _finished(self, item: StreamItem) -> bytes:
        step = str(item.data["step_id"])
        if step in self._steps:
            self._steps.remove(step)
            return _event("STEP_FINISHED", stepName=step)
        told = self._called(step, str(item.data["tool"])) if "tool" in item.data else b""
        if step not in self._calls:
            return told
        shown = {name: item.data[name] for name in ("status", "code") if name in item.data}
        return told + _event(
            "TOOL_CALL_RESULT",
            messageId=f"res_{step.removeprefix('stp_')}",
            toolCallId=step,
            content=views.encode(shown).decode(),
            role="tool",
        )

    def _called(self, step: str, tool: str, arguments: str = "") -> bytes:
        """A call is told of once, however often it is made."""
        if step in self._calls:
            return b""
        self._calls.add(step)
        told = _event("TOOL_CALL_START", toolCallId=step, toolCallName=tool)
        if arguments:
            told += _event("TOOL_CALL_ARGS", toolCallId=step, delta=arguments)
        return told + _event("TOOL_CALL_END", toolCallId=step)

    def _close_steps(self) -> bytes:
        steps, self._steps = self._steps, []
        return b"".join(_event("STEP_FINISHED", stepName=step) for step in steps)

    # --- holds and the end --------------------------------------------------------------------------------------------

    async def _hold(self, item: StreamItem) -> bytes:
        step, approval_id = str(item.data["step_id"]), str(item.data["approval_id"])
        self._held.add(approval_id)
        told = b""
        if self._before:
            self._before.discard(approval_id)
            self._calls.add(step)
        else:
            view = await self._call.services.engine.reader.approval(approval_id, self._call.principal)
            arguments = view.arguments if views.is_staff(self._call.principal) else ""
            told = self._parts(self._speech.hear(item)) + self._called(step, view.tool, arguments)
        view = None if self._before else await doors.resting(self._call, self._accepted, self._held)
        if view is None:
            return told
        self.over = True
        interrupts = [self._interrupt(one) for one in doors.waiting(view)]
        outcome = {"type": "interrupt", "interrupts": interrupts}
        told += self._parts(self._speech.stop()) + self._close_steps() + self._set_right()
        return told + _event("RUN_FINISHED", **self._ids, outcome=outcome)

    def _interrupt(self, view: ApprovalView) -> views.Json:
        decides = self._call.principal.may(Permission.DECIDE)
        expires = {"expiresAt": view.expires_at} if view.expires_at is not None else {}
        form = {"responseSchema": _ANSWER} if decides else {}
        return {
            "id": view.id,
            "reason": "tool_call" if decides else "cattlegrid:approval",
            "message": f"A person has to decide on this call of {view.tool}.",
            "toolCallId": f"stp_{view.id.removeprefix('apr_')}",
            "metadata": {"cattlegrid": {"status": view.status, "reason": view.reason, "tool": view.tool}},
            **expires,
            **form,
        }

    async def _finish(self) -> bytes:
        self.over = True
        view = await self._view()
        told = self._parts(self._speech.finish(view)) + self._close_steps() + self._set_right()
        usage = [_usage(view)]
        if view.status in {"failed", "erased"}:
            message = view.output or "The run ended."
            return told + _event("RUN_ERROR", message=message, code=view.reason or view.status, usage=usage)
        outcome = {"type": "cancelled" if view.status == "cancelled" else "success"}
        result = {"output": view.output, **doors.extension(view)}
        return told + _event("RUN_FINISHED", **self._ids, result=result, outcome=outcome, usage=usage)

    # --- words --------------------------------------------------------------------------------------------------------

    def _set_right(self) -> bytes:
        """The messages as they are, when some were told that came to nothing."""
        if not self._speech.took_back:
            return b""
        return _event("MESSAGES_SNAPSHOT", messages=[*self._thread.messages, *self._said])

    def _parts(self, parts: Sequence[Part]) -> bytes:
        return b"".join(map(self._part, parts))

    def _part(self, part: Part) -> bytes:
        match part:
            case Begun(id=id):
                return _event("TEXT_MESSAGE_START", messageId=id, role="assistant")
            case Piece(id=id, text=text):
                return _event("TEXT_MESSAGE_CONTENT", messageId=id, delta=text)
            case Ended(id=id, text=text, fate=fate):
                if fate != "void":
                    self._said.append({"id": id, "role": "assistant", "content": text})
                return _event("TEXT_MESSAGE_END", messageId=id)
            case _:
                assert_never(part)


def _event(type_: str, **data: object) -> bytes:
    return sse.event("", {"type": type_, **data})


def _usage(view: RunView) -> views.Json:
    spent = view.usage
    return {
        "inputTokens": spent.input_tokens,
        "outputTokens": spent.output_tokens,
        "totalTokens": spent.input_tokens + spent.output_tokens,
        "reasoningTokens": spent.reasoning_tokens,
        "cachedInputTokens": spent.cache_read_tokens,
        "cacheWriteInputTokens": spent.cache_write_tokens,
    }
