"""Turns the recorded events of a run into what people read: steps with their guards, held calls, the whole run."""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from cattlegrid.core.messages import Message, Role, Usage
from cattlegrid.core.verdicts import Crossing, Decision, Verdict
from cattlegrid.journal import events as ev
from cattlegrid.journal.store import Entry
from cattlegrid.runtime.fold import fold_all
from cattlegrid.runtime.requests import ApprovalView, RunView, StepView
from cattlegrid.runtime.texts import BUNDLE_PREFIX

_ERASED = "(erased)"
_MODEL_KINDS = frozenset({"chat", "summary"})
STEP_EVENTS: Final = (ev.StepIntended, ev.StepDone, ev.StepFailed, ev.StepRefused)
"""Events whose texts are for those who may see the steps; a held call stands in its approval as well."""
_message_decoder = msgspec.json.Decoder(Message)


class Texts(msgspec.Struct, frozen=True):
    """The texts that some events refer to; those of an erased user are gone."""

    known: dict[str, str]

    def text(self, ref: str) -> str:
        return self.known.get(ref, _ERASED) if ref else ""

    def message(self, ref: str) -> Message:
        """A message that an event refers to."""
        content = self.known.get(ref)
        return Message(Role.ASSISTANT, _ERASED) if content is None else _message_decoder.decode(content)


def bundle_name(opened: ev.SessionOpened) -> str:
    """`support#17 (3f9c2ab1)`."""
    return f"{opened.agent}#{opened.bundle_number} ({opened.bundle[:8]})"


def run_view(events: Sequence[ev.Event], opened: ev.SessionOpened, texts: Texts, entry: Entry) -> RunView:
    """A run as people see it, from its own events."""
    started = next(event for event in events if isinstance(event.data, ev.RunStarted))
    finished = next((event for event in events if isinstance(event.data, ev.RunFinished)), None)
    ended = finished.data if finished is not None and isinstance(finished.data, ev.RunFinished) else None
    steps = _steps(events, texts)
    approvals = _approvals(events, opened, texts, entry)
    request = started.data.input_ref if isinstance(started.data, ev.RunStarted) else ""
    said = texts.message(request)
    calls = [step for step in steps if step.status not in {"held", "refused"}]
    return RunView(
        id=entry.id,
        session_id=entry.stream,
        agent=opened.agent,
        bundle=bundle_name(opened),
        status=ended.status.value if ended is not None else entry.status,
        reason=ended.reason if ended is not None else "",
        input=said.text[said.material :],
        files=said.files,
        output=texts.text(ended.output_ref) if ended is not None else "",
        started_at=started.at,
        finished_at=finished.at if finished is not None else None,
        active_s=_active_s(events),
        model_calls=sum(step.kind in {"chat", "summary"} for step in calls),
        tool_calls=sum(step.kind not in {"chat", "summary"} for step in calls),
        usage=_total([step.usage for step in steps if step.usage is not None]),
        cost_nano_usd=sum(step.cost_nano_usd for step in steps),
        approvals=approvals,
        steps=steps,
        guards=_said_of_ends(events),
    )


def _active_s(events: Sequence[ev.Event]) -> float:
    """Seconds of the run without the time on hold, counted as the loop counts them."""
    if not any(isinstance(event.data, ev.StepHeld | ev.RunParked) for event in events):
        return (events[-1].at - events[0].at).total_seconds()
    state = fold_all(
        events[0].stream, [event for event in events if not isinstance(event.data, ev.RunFinished)]
    )
    return replace(state.run, last_at=events[-1].at).active_s if state.run is not None else 0.0


def _total(usages: Sequence[Usage]) -> Usage:
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
        cache_read_tokens=sum(usage.cache_read_tokens for usage in usages),
        cache_write_tokens=sum(usage.cache_write_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
        estimated=any(usage.estimated for usage in usages),
    )


def _said(crossing: Crossing, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """What the guards of a crossing said, a line each."""
    return tuple(
        " ".join(filter(None, (crossing.value, verdict.guard, verdict.decision.value, verdict.reason)))
        for verdict in verdicts
    )


def _said_of_ends(events: Sequence[ev.Event]) -> tuple[str, ...]:
    said: list[str] = []
    for event in events:
        if isinstance(event.data, ev.InputChecked):
            said.extend(_said(Crossing.INPUT, event.data.verdicts))
        elif isinstance(event.data, ev.RunFinished):
            said.extend(_said(Crossing.OUTPUT, event.data.verdicts))
    return tuple(said)


def _approvals(
    events: Sequence[ev.Event], opened: ev.SessionOpened, texts: Texts, entry: Entry
) -> tuple[ApprovalView, ...]:
    decided = {
        event.data.approval_id: event.data for event in events if isinstance(event.data, ev.ApprovalDecided)
    }
    over = any(isinstance(event.data, ev.RunFinished) for event in events)
    views: list[ApprovalView] = []
    for event in events:
        held = event.data
        if not isinstance(held, ev.StepHeld):
            continue
        reason = next((verdict.reason for verdict in held.verdicts if verdict.decision is Decision.HOLD), "")
        waiting = "in_doubt" if held.hold is ev.HoldReason.IN_DOUBT else "pending"
        answer = decided.get(held.approval_id)
        views.append(
            ApprovalView(
                id=held.approval_id,
                session_id=entry.stream,
                run_id=entry.id,
                agent=opened.agent,
                status=answer.decision.value if answer is not None else "void" if over else waiting,
                reason=held.hold.value,
                tool=held.tool.tool,
                arguments=texts.text(held.tool.arguments_ref),
                condition=reason,
                user=texts.text(opened.principal_ref),
                requested_at=event.at,
                expires_at=held.expires_at,
                decided_by=answer.by if answer is not None else "",
                note=texts.text(answer.note_ref) if answer is not None else "",
            )
        )
    return tuple(views)


def _steps(events: Sequence[ev.Event], texts: Texts) -> tuple[StepView, ...]:
    views: dict[str, StepView] = {}
    for event in events:
        match event.data:
            case ev.StepHeld() | ev.StepIntended() | ev.StepRefused() as data:
                views[data.step_id] = _begun(event, data, texts, views.get(data.step_id))
            case ev.StepDone() | ev.StepFailed() as data if data.step_id in views:
                views[data.step_id] = _ended(views[data.step_id], data, texts)
            case _:
                pass
    return tuple(views.values())


def _begun(
    event: ev.Event,
    data: ev.StepHeld | ev.StepIntended | ev.StepRefused,
    texts: Texts,
    known: StepView | None,
) -> StepView:
    """A step that waits, has left or may not leave; what the guards said before stays with it."""
    before = known.guards if known is not None else ()
    match data:
        case ev.StepHeld():
            view = _blank(event, data.step_id, "execute_tool", data.tool.tool)
            given = texts.text(data.tool.arguments_ref)
            view = replace(view, status="held", given=given, why=data.hold.value)
        case ev.StepIntended(model=model, tool=tool):
            name = model.model if model is not None else tool.tool if tool is not None else ""
            view = replace(_blank(event, data.step_id, data.kind.value, name), attempt=data.attempt)
            given = texts.text(tool.arguments_ref) if tool is not None else ""
            view = replace(view, given=given, why="approved" if data.approval_id else "")
        case ev.StepRefused():
            kind = "execute_tool" if data.asked_by else "chat"
            view = known or _blank(event, data.step_id, kind, data.tool or "(unknown tool)")
            answer = texts.message(data.content_ref).text
            view = replace(view, status="refused", answer=answer, why=data.code)
    crossing = Crossing.MODEL_REQUEST if view.kind in _MODEL_KINDS else Crossing.TOOL_CALL
    return replace(view, guards=(*before, *_said(crossing, data.verdicts)))


def _blank(event: ev.Event, id: str, kind: str, name: str) -> StepView:
    return StepView(
        id=id, kind=kind, name=name, status="running", attempt=0, started_at=event.at, duration_s=0.0
    )


def _ended(view: StepView, data: ev.StepDone | ev.StepFailed, texts: Texts) -> StepView:
    """A step that has come back, or come to nothing."""
    crossing = Crossing.MODEL_RESPONSE if view.kind in _MODEL_KINDS else Crossing.TOOL_RESULT
    view = replace(
        view,
        duration_s=data.duration_s,
        cost_nano_usd=view.cost_nano_usd + data.cost_nano_usd,
        guards=(*view.guards, *_said(crossing, data.verdicts)),
    )
    if isinstance(data, ev.StepFailed):
        answer = texts.message(data.content_ref).text if data.content_ref else ""
        return replace(view, status="failed", answer=answer, why=data.code)
    message = texts.message(data.content_ref)
    asked = ", ".join(f"{call.name}({call.arguments})" for call in message.tool_calls)
    settled = f"settled by {data.settled_by}" if data.settled_by else view.why
    return replace(
        view,
        status="done",
        usage=data.usage,
        answer=message.text or asked or message.refusal,
        why=settled,
    )


def refs_of(data: msgspec.Struct) -> set[str]:
    """Every reference to a body of the session's user that an event holds, its own parts included."""
    refs: set[str] = set()
    for name in data.__struct_fields__:  # `msgspec.structs.fields` resolves annotations anew each time
        value: object = getattr(data, name)
        if isinstance(value, msgspec.Struct):
            refs |= refs_of(value)
        elif isinstance(value, str) and value and name.endswith("_ref"):
            refs.add(value)
    return {ref for ref in refs if not ref.startswith(BUNDLE_PREFIX)}
