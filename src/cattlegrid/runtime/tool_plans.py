"""Plans for calls of tools: checked, judged, held or let out; approved ones again; undo and reconcile.

Arguments are validated before the guards see them, and what the guards have made of them is what is recorded and leaves.
"""

from datetime import timedelta

import msgspec
from msgspec.structs import replace

from cattlegrid.core.bundle import Tool
from cattlegrid.core.canonical import canonical_json
from cattlegrid.core.cleared import Cleared
from cattlegrid.core.errors import ToolArgumentsInvalid
from cattlegrid.core.ids import approval_id, step_id
from cattlegrid.core.requests import ToolRequest
from cattlegrid.core.tools import Effect
from cattlegrid.core.verdicts import Crossing, Decision, Verdict
from cattlegrid.guards.chain import Judgement
from cattlegrid.journal import events as ev
from cattlegrid.runtime import wording
from cattlegrid.runtime.plan import Asked, Desk, Launch, Plan, plan_of
from cattlegrid.runtime.state import Run, Session, Step


class ToolPlans:
    """See the module."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def start(self, session: Session, run: Run, places: tuple[int, ...]) -> Plan:
        """Let some of the asked calls out, hold them, or refuse them."""
        data: list[ev.Data] = []
        launches: list[Launch] = []
        for number, place in enumerate(places, start=run.numbered + 1):
            asked = self._desk.asked(run, place, step_id(run.id, number))
            event, launch = self._start(session, run, asked)
            data.append(event)
            launches.extend([launch] if launch is not None else [])
        return plan_of(run, data, launches)

    def _start(self, session: Session, run: Run, asked: Asked) -> tuple[ev.Data, Launch | None]:
        bundle = self._desk.bundle
        tool = bundle.tools.get(asked.call.name)
        if asked.place >= bundle.limits.tool_calls_per_turn:
            text = wording.too_many_calls(bundle.limits.tool_calls_per_turn)
            return self._desk.refusal(asked, code="too_many_calls", text=text), None
        if tool is None or not tool.offered:
            text = wording.unknown_tool(asked.call.name, [spec.name for spec in bundle.offered_tools])
            return self._desk.refusal(asked, code="unknown_tool", text=text), None
        try:
            arguments = self._desk.schemas.arguments(bundle.digest, tool, asked.call.arguments)
        except ToolArgumentsInvalid as error:
            return self._desk.refusal(asked, code=error.code, text=error.message), None
        request = self._request(session, run, tool, arguments, key=asked.step_id)
        judged = self._judge(session, run, request, approved=False)
        intent = replace(
            _intent(tool, self._desk.texts.put(judged.content.arguments), key=asked.step_id),
            asked_by=asked.asked_by,
            call_index=asked.place,
        )
        if judged.decision is Decision.HOLD:
            return self._held(session, run, asked.step_id, intent, judged.verdicts), None
        if judged.cleared is None:
            text = wording.denied(tool.name, judged.reason)
            return self._desk.refusal(asked, code="denied", text=text, verdicts=judged.verdicts), None
        event = ev.StepIntended(
            step_id=asked.step_id, kind=ev.StepKind.EXECUTE_TOOL, tool=intent, verdicts=judged.verdicts
        )
        return event, _launch(event, judged.cleared, tool, call_id=asked.call.id)

    def _held(
        self, session: Session, run: Run, id: str, intent: ev.ToolIntent, verdicts: tuple[Verdict, ...]
    ) -> ev.StepHeld:
        return ev.StepHeld(
            step_id=id,
            approval_id=approval_id(id),
            hold=ev.HoldReason.APPROVAL,
            tool=intent,
            call_digest=self._desk.call_digest(session, intent),
            expires_at=run.last_at + timedelta(seconds=self._desk.bundle.limits.approval_s),
            verdicts=verdicts,
        )

    def hold_doubt(self, session: Session, run: Run, step: Step) -> Plan:
        """Ask a person what became of a call."""
        intent = _tool_of(step)
        first = approval_id(step.id)
        held = ev.StepHeld(
            step_id=step.id,
            # An approval is decided once; a second doubt about the same call is another question.
            approval_id=f"{first}.{step.holds}" if step.holds else first,
            hold=ev.HoldReason.IN_DOUBT,
            tool=intent,
            call_digest=self._desk.call_digest(session, intent),
            expires_at=None,
        )
        return plan_of(run, [held])

    def approved(self, session: Session, run: Run, step: Step) -> Plan:
        """Authorise an approved call again, at the moment of its execution, and let it out."""
        intent, asked = _tool_of(step), self._desk.asked_of(run, step)
        tool = self._desk.bundle.tools[intent.tool]
        if self._desk.call_digest(session, intent) != step.call_digest:
            text = wording.denied(tool.name, "")
            return plan_of(run, [self._refusal(asked, step, "approval_mismatch", text)])
        changed = step.decision is ev.ApprovalDecision.MODIFY
        raw = self._desk.texts.text(step.arguments_ref if changed else intent.arguments_ref)
        try:
            arguments = self._desk.schemas.arguments(self._desk.bundle.digest, tool, raw)
        except ToolArgumentsInvalid as error:
            return plan_of(run, [self._refusal(asked, step, error.code, error.message)])
        request = self._request(session, run, tool, arguments, key=step.id)
        judged = self._judge(session, run, request, approved=True)
        if judged.cleared is None:
            refusal = self._refusal(asked, step, "denied", wording.denied(tool.name, judged.reason))
            return plan_of(run, [replace(refusal, verdicts=judged.verdicts)])
        return self._leave(run, step, intent, judged, call_id=asked.call.id)

    def _refusal(self, asked: Asked, step: Step, code: str, text: str) -> ev.StepRefused:
        return self._desk.refusal(asked, code=code, text=text, approval_id=step.approval_id)

    def again(self, session: Session, run: Run, step: Step) -> Plan:
        """Make a call again with the same key; a person decides if it is no longer permitted."""
        intent = _tool_of(step)
        tool = self._desk.bundle.tools[intent.tool]
        arguments = self._desk.texts.text(intent.arguments_ref)
        request = self._request(session, run, tool, arguments, key=intent.idempotency_key)
        if step.kind is ev.StepKind.UNDO:
            request = replace(request, undone_result=self._result_of(run.steps[intent.undoes]))
        judged = self._judge(session, run, request, approved=True)
        if judged.cleared is None:
            return self.hold_doubt(session, run, step)
        call_id = self._desk.asked_of(run, step).call.id if intent.asked_by else ""
        return self._leave(run, step, intent, judged, call_id=call_id)

    def about(self, session: Session, run: Run, subject: Step, kind: ev.StepKind) -> Plan:
        """Call the undo or reconcile tool of an earlier step, with what its signature names of the first call."""
        first = _tool_of(subject)
        manifest = self._desk.bundle.tools[first.tool]
        name = manifest.undo if kind is ev.StepKind.UNDO else manifest.reconcile
        tool = self._desk.bundle.tools[name or ""]
        arguments = _named(tool, self._desk.texts.text(first.arguments_ref))
        id = step_id(run.id, run.numbered + 1)
        # A reconcile asks about the first call, so it gets that call's key; an undo is an effect of its own.
        key = first.idempotency_key if kind is ev.StepKind.RECONCILE else id
        request = self._request(session, run, tool, arguments, key=key)
        if kind is ev.StepKind.UNDO:
            request = replace(request, undone_result=self._result_of(subject))
        judged = self._judge(session, run, request, approved=True)
        intent = replace(_intent(tool, self._desk.texts.put(arguments), key=key), undoes=subject.id)
        step = Step(id=id, kind=kind, phase=subject.phase)
        if judged.cleared is None and kind is ev.StepKind.RECONCILE:
            return self.hold_doubt(session, run, subject)
        if judged.cleared is None:
            tried = ev.StepIntended(step_id=id, kind=kind, tool=intent, verdicts=judged.verdicts)
            return plan_of(run, [tried, ev.StepFailed(step_id=id, code="denied", settled_by="guard")])
        return self._leave(run, step, intent, judged, call_id="")

    def _leave(
        self, run: Run, step: Step, intent: ev.ToolIntent, judged: Judgement[ToolRequest], *, call_id: str
    ) -> Plan:
        if judged.cleared is None:
            raise ValueError("only a cleared call may leave")
        event = ev.StepIntended(
            step_id=step.id,
            kind=step.kind,
            tool=replace(intent, arguments_ref=self._desk.texts.put(judged.content.arguments)),
            attempt=step.attempt + 1,
            approval_id=step.approval_id,
            verdicts=judged.verdicts,
        )
        tool = judged.content.tool
        return plan_of(run, [event], [_launch(event, judged.cleared, tool, call_id=call_id)])

    def _judge(
        self, session: Session, run: Run, request: ToolRequest, *, approved: bool
    ) -> Judgement[ToolRequest]:
        context = self._desk.context(session, run)
        return self._desk.guards.judge(Crossing.TOOL_CALL, request, context, approved=approved)

    def _request(self, session: Session, run: Run, tool: Tool, arguments: str, *, key: str) -> ToolRequest:
        return ToolRequest(
            bundle=self._desk.bundle.digest,
            tool=tool,
            arguments=arguments,
            principal=self._desk.principal(session, run),
            session_id=session.id,
            run_id=run.id,
            idempotency_key=key,
        )

    def _result_of(self, step: Step) -> str:
        """The JSON result of a settled tool step, empty when it has none."""
        if step.value_ref:
            return self._desk.texts.text(step.value_ref)
        return self._desk.texts.message(step.content.ref).text if step.content is not None else ""


def _tool_of(step: Step) -> ev.ToolIntent:
    if step.tool is None:
        raise ValueError(f"{step.id} calls no tool")
    return step.tool


def _intent(tool: Tool, arguments_ref: str, *, key: str) -> ev.ToolIntent:
    return ev.ToolIntent(
        tool=tool.name,
        arguments_ref=arguments_ref,
        effect=tool.effect,
        retry=tool.retry,
        idempotency_key=key,
    )


def _launch(event: ev.StepIntended, cleared: Cleared[ToolRequest], tool: Tool, *, call_id: str) -> Launch:
    return Launch(
        step_id=event.step_id,
        kind=event.kind,
        request=cleared,
        timeout_s=tool.timeout_s,
        call_id=call_id,
        has_effect=tool.effect is not Effect.READ,
        subject=event.tool.undoes if event.tool is not None else "",
    )


def _named(tool: Tool, arguments: str) -> str:
    """Those of the arguments that the tool's schema names, as canonical JSON."""
    names = msgspec.json.decode(tool.spec.parameters, type=_Schema).properties
    given = msgspec.json.decode(arguments, type=dict[str, object])
    return canonical_json({name: value for name, value in given.items() if name in names}).decode()


class _Schema(msgspec.Struct):
    properties: dict[str, object] = {}
