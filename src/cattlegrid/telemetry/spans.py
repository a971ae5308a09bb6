"""Turns the recorded events of one run into its trace: one span for the run, and one below it for each of its steps.

    invoke_agent support            from RunStarted to RunFinished
    ├── chat gpt-4.1-mini           from StepIntended to StepDone or StepFailed
    ├── execute_tool find_order
    └── execute_tool refund         a refused call has a span without length

Pure, and the same each time: ids follow from those of run and step, so that what is sent twice is one trace still.
Holds, decisions, take-overs and verdicts other than `allow` are events inside a span. No text of a user, a model or a
tool is in a span unless `texts` are given.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from cattlegrid.core.messages import Message
from cattlegrid.core.verdicts import Decision, Verdict
from cattlegrid.journal import events as ev
from cattlegrid.journal.codec import micros
from cattlegrid.telemetry import names

Value = str | int | float | bool | tuple[str, ...]
Attributes = Mapping[str, Value]

_ABANDONED: Final = "abandoned"
_NOTHING: Final[Mapping[str, str]] = {}
_message_decoder = msgspec.json.Decoder(Message)


class SpanEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened inside a span."""

    name: str
    at_us: int
    attributes: Attributes


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of a run. Times are microseconds since 1970, UTC."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes = b""
    """Empty for the span of the run itself."""
    name: str
    client: bool = False
    """Whether it left this process (OpenTelemetry's span kind CLIENT, else INTERNAL)."""
    start_us: int
    end_us: int
    attributes: Attributes
    events: tuple[SpanEvent, ...] = ()
    error: str = ""
    """A stable code; empty when it went well."""


class _Draft:
    """A span in the making."""

    def __init__(self, name: str, start_us: int, attributes: dict[str, Value]) -> None:
        self.name = name
        self.start_us = start_us
        self.end_us = -1
        self.attributes = attributes
        self.events: list[SpanEvent] = []
        self.client = False
        self.error = ""
        self.cost_nano_usd = 0


def trace_of(
    session: ev.SessionOpened, events: Sequence[ev.Event], *, texts: Mapping[str, str] = _NOTHING
) -> list[Span]:
    """The spans of a run that has ended, its own first, then its steps in the order in which they began.

    Args:
        session: the first event of the run's session.
        events: everything recorded of the run, from `RunStarted` to `RunFinished`.
        texts: the texts of bodies by their reference, for those who want them in spans; see `content_refs`.
    """
    return _Trace(session, events[0], texts).of(events)


def content_refs(events: Sequence[ev.Event]) -> set[str]:
    """The references to the texts that `trace_of` shows when it is given them."""
    found: set[str] = set()
    for event in events:
        match event.data:
            case ev.RunStarted(input_ref=ref) | ev.RunFinished(output_ref=ref):
                found.add(ref)
            case ev.StepIntended(tool=tool) if tool is not None:
                found.add(tool.arguments_ref)
            case ev.StepDone(content_ref=ref) | ev.StepFailed(content_ref=ref):
                found.add(ref)
            case _:
                pass
    return found - {""}


def trace_id(run_id: str) -> bytes:
    """The 16 bytes that name the trace of a run."""
    return hashlib.sha256(run_id.encode()).digest()[:16]


def span_id(id: str) -> bytes:
    """The 8 bytes that name the span of a run or a step."""
    return hashlib.sha256(b"span " + id.encode()).digest()[:8]


class _Trace:
    def __init__(self, session: ev.SessionOpened, first: ev.Event, texts: Mapping[str, str]) -> None:
        self._run_id = first.run_id
        self._texts = texts
        self._shared: dict[str, Value] = {
            names.CONVERSATION_ID: first.stream,
            names.AGENT_NAME: session.agent,
            names.AGENT_VERSION: f"{session.agent}#{session.bundle_number} ({session.bundle[:8]})",
            names.USER_ID: session.owner,
            names.TENANT: session.tenant,
            names.RUN_ID: first.run_id,
        }
        # Who and what come first: the limit of attributes of an SDK drops the last ones.
        attributes = {names.OPERATION_NAME: names.INVOKE_AGENT, **self._shared}
        self._root = _Draft(f"{names.INVOKE_AGENT} {session.agent}", micros(first.at), attributes)
        self._steps: dict[str, _Draft] = {}

    def of(self, events: Sequence[ev.Event]) -> list[Span]:
        for event in events:
            at_us = micros(event.at)
            match event.data:
                case ev.StepIntended() as data:
                    self._intended(data, at_us)
                case ev.StepRefused() as data:
                    self._refused(data, at_us)
                case ev.StepDone() | ev.StepFailed() as data if data.step_id in self._steps:
                    self._ended(data, at_us)
                case data:
                    self._of_run(data, at_us)
        last_us = micros(events[-1].at)
        self._root.end_us = last_us
        self._root.attributes[names.COST_NANO_USD] = sum(step.cost_nano_usd for step in self._steps.values())
        for step in self._steps.values():
            if step.end_us < 0:
                step.end_us, step.error = last_us, _ABANDONED
        steps = (self._span(id, draft) for id, draft in self._steps.items())
        return [self._span(self._run_id, self._root), *steps]

    def _of_run(self, data: ev.Data, at_us: int) -> None:
        root = self._root
        match data:
            case ev.RunStarted():
                if data.features:
                    root.attributes[names.FEATURES] = data.features
                self._show(root, names.INPUT_MESSAGES, self._messages(data.input_ref))
            case ev.InputChecked():
                _note_verdicts(root, data.verdicts, at_us)
            case ev.RunResumed():
                _note(root, names.RESUMED_EVENT, at_us, {names.STEP_ATTEMPT: data.attempt})
            case ev.StepHeld():
                held: dict[str, Value] = {
                    names.APPROVAL_ID: data.approval_id,
                    names.TOOL_NAME: data.tool.tool,
                }
                _note(root, names.HELD_EVENT, at_us, held)
                _note_verdicts(root, data.verdicts, at_us)
            case ev.ApprovalDecided():
                decided: dict[str, Value] = {
                    names.APPROVAL_ID: data.approval_id,
                    names.APPROVAL_DECISION: data.decision.value,
                }
                _note(root, names.DECIDED_EVENT, at_us, decided)
            case ev.RunFinished():
                root.attributes[names.RUN_STATUS] = data.status.value
                _note_verdicts(root, data.verdicts, at_us)
                if data.status is ev.RunStatus.FAILED:
                    root.error = data.error_code or data.reason or data.status.value
                self._show(root, names.OUTPUT_MESSAGES, self._answer(data.output_ref))
            case _:
                pass

    def _intended(self, data: ev.StepIntended, at_us: int) -> None:
        draft = self._steps.get(data.step_id)
        if draft is None:
            draft = self._steps[data.step_id] = self._begun(data, at_us)
        # Called again after a crash or a doubt: it is the same step, and not over after all.
        draft.end_us, draft.error = -1, ""
        draft.attributes[names.STEP_ATTEMPT] = data.attempt
        _note_verdicts(draft, data.verdicts, at_us)

    def _begun(self, data: ev.StepIntended, at_us: int) -> _Draft:
        if data.model is not None:
            model = data.model.requested or data.model.model
            draft = self._draft(names.CHAT, model, data.step_id, at_us)
            draft.client = True
            draft.attributes |= {names.PROVIDER_NAME: data.model.provider, names.REQUEST_MODEL: model}
        else:
            tool = data.tool.tool if data.tool is not None else ""
            draft = self._draft(names.EXECUTE_TOOL, tool, data.step_id, at_us)
            draft.attributes |= {names.TOOL_NAME: tool, names.TOOL_TYPE: names.FUNCTION}
            if data.tool is not None:
                self._show(draft, names.TOOL_CALL_ARGUMENTS, self._texts.get(data.tool.arguments_ref, ""))
        draft.attributes[names.STEP_KIND] = data.kind.value
        return draft

    def _refused(self, data: ev.StepRefused, at_us: int) -> None:
        draft = self._steps.get(data.step_id)
        if draft is None:
            operation = names.EXECUTE_TOOL if data.asked_by else names.CHAT
            draft = self._steps[data.step_id] = self._draft(operation, data.tool, data.step_id, at_us)
            if data.asked_by:
                draft.attributes |= {names.TOOL_NAME: data.tool, names.TOOL_TYPE: names.FUNCTION}
        draft.end_us, draft.error = at_us, data.code
        _note_verdicts(draft, data.verdicts, at_us)

    def _ended(self, data: ev.StepDone | ev.StepFailed, at_us: int) -> None:
        draft = self._steps[data.step_id]
        draft.end_us = at_us
        draft.cost_nano_usd += data.cost_nano_usd
        _note_verdicts(draft, data.verdicts, at_us)
        if data.usage is not None:
            draft.attributes |= {
                names.USAGE_INPUT_TOKENS: data.usage.input_tokens,
                names.USAGE_OUTPUT_TOKENS: data.usage.output_tokens,
                names.USAGE_CACHE_READ_INPUT_TOKENS: data.usage.cache_read_tokens,
                names.USAGE_CACHE_CREATION_INPUT_TOKENS: data.usage.cache_write_tokens,
                names.USAGE_REASONING_OUTPUT_TOKENS: data.usage.reasoning_tokens,
            }
        if draft.client:
            draft.attributes[names.COST_NANO_USD] = draft.cost_nano_usd
        if isinstance(data, ev.StepFailed):
            draft.error = data.code
        else:
            self._answered(draft, data)

    def _answered(self, draft: _Draft, data: ev.StepDone) -> None:
        if not draft.client:
            self._show(draft, names.TOOL_CALL_RESULT, self._text(data.content_ref))
            return
        draft.attributes |= {names.PROVIDER_NAME: data.provider, names.RESPONSE_MODEL: data.model}
        if data.finish_reason is not None:
            draft.attributes[names.RESPONSE_FINISH_REASONS] = (data.finish_reason.value,)
        self._show(draft, names.OUTPUT_MESSAGES, self._messages(data.content_ref))

    def _draft(self, operation: str, target: str, step_id: str, at_us: int) -> _Draft:
        own = {names.OPERATION_NAME: operation, **self._shared, names.STEP_ID: step_id}
        return _Draft(f"{operation} {target}".strip(), at_us, own)

    def _span(self, id: str, draft: _Draft) -> Span:
        error = {names.ERROR_TYPE: draft.error} if draft.error else {}
        return Span(
            trace_id=trace_id(self._run_id),
            span_id=span_id(id),
            parent_id=b"" if draft is self._root else span_id(self._run_id),
            name=draft.name,
            client=draft.client,
            start_us=draft.start_us,
            end_us=draft.end_us,
            attributes={**draft.attributes, **error},
            events=tuple(draft.events),
            error=draft.error,
        )

    # --- texts, for those who opt in ----------------------------------------------------------------------------------

    def _show(self, draft: _Draft, name: str, text: str) -> None:
        if text:
            draft.attributes[name] = text

    def _message(self, ref: str) -> Message | None:
        content = self._texts.get(ref)
        return _message_decoder.decode(content) if content else None

    def _text(self, ref: str) -> str:
        message = self._message(ref)
        return message.text if message is not None else ""

    def _messages(self, ref: str) -> str:
        """One message as the conventions write it: a list, with its parts."""
        message = self._message(ref)
        if message is None:
            return ""
        parts: list[dict[str, str]] = [{"type": "text", "content": message.text}] if message.text else []
        parts += [
            {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments}
            for call in message.tool_calls
        ]
        return msgspec.json.encode([{"role": message.role.value, "parts": parts}]).decode()

    def _answer(self, ref: str) -> str:
        text = self._texts.get(ref, "")
        said = [{"role": "assistant", "parts": [{"type": "text", "content": text}]}]
        return msgspec.json.encode(said).decode() if text else ""


def _note(draft: _Draft, name: str, at_us: int, attributes: Attributes) -> None:
    draft.events.append(SpanEvent(name=name, at_us=at_us, attributes=attributes))


def _note_verdicts(draft: _Draft, verdicts: Sequence[Verdict], at_us: int) -> None:
    """What guards said, but for `allow`, which goes without saying."""
    for verdict in verdicts:
        if verdict.decision is not Decision.ALLOW:
            said: dict[str, Value] = {
                names.GUARD_NAME: verdict.guard,
                names.GUARD_DECISION: verdict.decision.value,
            }
            if verdict.reason:
                said[names.GUARD_REASON] = verdict.reason
            _note(draft, names.GUARD_EVENT, at_us, said)
