"""Turns an action of the loop into a plan: the events to record, and the calls to make once they are recorded.

A plan depends on nothing but the session's state, its texts, its bundle and the guards, so that replay can make the
same plan again and compare it with the record. Times in a plan are derived from recorded ones.
"""

from datetime import timedelta

import msgspec
from msgspec.structs import replace

from cattlegrid.calls.schemas import ToolSchemas
from cattlegrid.core.bundle import Bundle, Tool
from cattlegrid.core.canonical import canonical_json
from cattlegrid.core.cleared import Cleared
from cattlegrid.core.errors import ToolArgumentsInvalid
from cattlegrid.core.ids import approval_id, step_id
from cattlegrid.core.messages import Message, ModelRequest, Role, ToolCall
from cattlegrid.core.principal import Principal
from cattlegrid.core.requests import ToolRequest
from cattlegrid.core.verdicts import Crossing, Decision, Verdict
from cattlegrid.guards.chain import GuardChain, GuardContext
from cattlegrid.journal import events as ev
from cattlegrid.runtime import loop, wording
from cattlegrid.runtime.state import MessageRef, Part, Phase, Run, Session, Step
from cattlegrid.runtime.texts import Texts, bundle_ref


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """A call to make as soon as its intent is recorded; with an effect, as soon as that is durable."""

    step_id: str
    kind: ev.StepKind
    request: Cleared[ModelRequest] | Cleared[ToolRequest]
    timeout_s: float
    call_id: str = ""
    """The model's id of the call that this answers."""
    has_effect: bool = False
    subject: str = ""
    """For undo and reconcile: the step it is about."""


class Plan(msgspec.Struct, frozen=True):
    """What one action amounts to."""

    events: tuple[ev.NewEvent, ...]
    launches: tuple[Launch, ...] = ()


class Planner:
    """Makes plans for the open run of one session."""

    def __init__(
        self, *, bundle: Bundle, texts: Texts, guards: GuardChain, schemas: ToolSchemas, user: str
    ) -> None:
        self._bundle = bundle
        self._texts = texts
        self._guards = guards
        self._schemas = schemas
        self._user = user
        self._tools_ref = bundle_ref(canonical_json([bundle.offered_tools, bundle.models]).decode())
        self._prompt = Message(Role.SYSTEM, bundle.system_prompt)
        self._prompt_ref = bundle_ref(bundle.system_prompt)

    def plan(self, session: Session, action: loop.Action) -> Plan:
        """The plan for an action that records something (not `Rest`, not `Wait`)."""
        run = session.run
        if run is None:
            raise ValueError("no run is open")
        match action:
            case loop.CheckInput():
                data = self._check_input(session, run)
            case loop.Chat(tools_allowed=allowed):
                return self._chat(session, run, step_id(run.id, run.numbered + 1), tools_allowed=allowed)
            case loop.Summarise(span=span):
                return self._summarise(session, run, span)
            case loop.Compact(span=span, strategy=strategy):
                data = _compacted(run, span, strategy)
            case loop.StartCalls(places=places):
                return self._start_calls(session, run, places)
            case loop.RunApproved(step=step):
                return self._run_approved(session, run, step)
            case loop.RefuseHeld(step=step):
                data = self._refuse_held(session, run, step)
            case loop.RefuseRest(code=code):
                return Plan(tuple(self._refuse_rest(session, run, code)))
            case loop.Repeat(step=step):
                return self._repeat(session, run, step)
            case loop.Reconcile(step=step):
                return self._about(session, run, step, ev.StepKind.RECONCILE)
            case loop.Undo(step=step):
                return self._about(session, run, step, ev.StepKind.UNDO)
            case loop.HoldDoubt(step=step):
                data = _hold_doubt(step, self._call_digest(session, step.tool))
            case loop.Settle(step=step):
                data = self._settle(session, step)
            case loop.Finish(status=status, reason=reason):
                data = self._finish(session, run, status, reason)
            case loop.Rest() | loop.Wait():
                raise ValueError("nothing to plan")
        return Plan((ev.NewEvent(data, run.id),))

    def _context(self, session: Session, run: Run) -> GuardContext:
        return GuardContext(
            bundle=self._bundle, principal=self.principal(session, run), session_id=session.id
        )

    def principal(self, session: Session, run: Run) -> Principal:
        """Who asks in this run, as authentication has said."""
        tenant = session.opened.tenant if session.opened is not None else ""
        return Principal(tenant=tenant, user=self._user, roles=frozenset(run.roles))

    # input and model

    def _check_input(self, session: Session, run: Run) -> ev.InputChecked:
        message = self._texts.message(run.input.ref)
        judged = self._guards.judge(Crossing.INPUT, message, self._context(session, run))
        ref, size_bytes = self._texts.put_message(judged.content)
        return ev.InputChecked(
            decision=judged.decision, input_ref=ref, input_bytes=size_bytes, verdicts=judged.verdicts
        )

    def _chat(self, session: Session, run: Run, id: str, *, tools_allowed: bool, attempt: int = 1) -> Plan:
        tier = self._bundle.models["default"]
        sent = (*session.context, *session.pending)
        refs = tuple(message.ref for message in session.pending)
        if not session.context:
            sent = (MessageRef(self._prompt_ref, 0, Part.SYSTEM), *sent)
            refs = (self._prompt_ref, *refs)
        messages = (self._prompt, *(self._texts.message(message.ref) for message in sent[1:]))
        request = ModelRequest(
            provider=tier.provider,
            model=tier.model,
            messages=messages,
            tools=self._bundle.offered_tools,
            tools_allowed=tools_allowed,
            params=tier.params,
        )
        delta = ev.RequestDelta(base=session.base_step, kept=len(session.context), appended=refs)
        intent = ev.ModelIntent(
            tier="default",
            model=tier.name,
            request=delta,
            tools_ref=self._tools_ref,
            tools_allowed=tools_allowed,
        )
        return self._model_step(
            session, run, id, ev.StepKind.CHAT, request=request, intent=intent, attempt=attempt
        )

    def _summarise(self, session: Session, run: Run, span: loop.Span, id: str = "", attempt: int = 1) -> Plan:
        tier = self._bundle.models.get("summary", self._bundle.models["default"])
        part = session.context[span.start : span.stop]
        request = ModelRequest(
            provider=tier.provider,
            model=tier.model,
            messages=(
                Message(Role.SYSTEM, wording.SUMMARY_PROMPT),
                *(self._texts.message(message.ref) for message in part),
                Message(Role.USER, wording.SUMMARY_REQUEST),
            ),
            tools=(),
            tools_allowed=False,
            params=tier.params,
        )
        refs = (
            bundle_ref(wording.SUMMARY_PROMPT),
            *(message.ref for message in part),
            bundle_ref(wording.SUMMARY_REQUEST),
        )
        intent = ev.ModelIntent(
            tier="summary",
            model=tier.name,
            request=ev.RequestDelta(appended=refs),
            tools_ref=self._tools_ref,
            tools_allowed=False,
        )
        id = id or step_id(run.id, run.numbered + 1)
        return self._model_step(
            session, run, id, ev.StepKind.SUMMARY, request=request, intent=intent, attempt=attempt
        )

    def _model_step(
        self,
        session: Session,
        run: Run,
        id: str,
        kind: ev.StepKind,
        *,
        request: ModelRequest,
        intent: ev.ModelIntent,
        attempt: int,
    ) -> Plan:
        judged = self._guards.judge(Crossing.MODEL_REQUEST, request, self._context(session, run))
        if judged.cleared is None:
            ref, size_bytes = self._texts.put_message(Message(Role.ASSISTANT, ""))
            refused = ev.StepRefused(
                step_id=id,
                code="denied",
                tool="",
                content_ref=ref,
                content_bytes=size_bytes,
                verdicts=judged.verdicts,
            )
            return Plan((ev.NewEvent(refused, run.id),))
        intended = ev.StepIntended(
            step_id=id, kind=kind, model=intent, attempt=attempt, verdicts=judged.verdicts
        )
        limit_s = self._bundle.limits.model_call_s
        launch = Launch(step_id=id, kind=kind, request=judged.cleared, timeout_s=limit_s)
        return Plan((ev.NewEvent(intended, run.id),), (launch,))

    # tool calls

    def _start_calls(self, session: Session, run: Run, places: tuple[int, ...]) -> Plan:
        events: list[ev.NewEvent] = []
        launches: list[Launch] = []
        for offset, place in enumerate(places, start=1):
            id = step_id(run.id, run.numbered + offset)
            event, launch = self._start_call(session, run, place, id)
            events.append(ev.NewEvent(event, run.id))
            if launch is not None:
                launches.append(launch)
        return Plan(tuple(events), tuple(launches))

    def _start_call(self, session: Session, run: Run, place: int, id: str) -> tuple[ev.Data, Launch | None]:
        asked_by, call = self._asked_call(run, place)
        tool = self._bundle.tools.get(call.name)
        if place >= self._bundle.limits.tool_calls_per_turn:
            text = wording.too_many_calls(self._bundle.limits.tool_calls_per_turn)
            return self._refused(id, asked_by, place, call, code="too_many_calls", text=text), None
        if tool is None or not tool.offered:
            text = wording.unknown_tool(call.name, [spec.name for spec in self._bundle.offered_tools])
            return self._refused(id, asked_by, place, call, code="unknown_tool", text=text), None
        try:
            arguments = self._schemas.arguments(self._bundle.digest, tool, call.arguments)
        except ToolArgumentsInvalid as error:
            return self._refused(id, asked_by, place, call, code=error.code, text=error.message), None
        intent = ev.ToolIntent(
            tool=tool.name,
            arguments_ref=self._texts.put(arguments),
            asked_by=asked_by,
            call_index=place,
            effect=tool.effect,
            retry=tool.retry,
            idempotency_key=id,
        )
        request = self._tool_request(session, run, tool, arguments, key=id)
        judged = self._guards.judge(Crossing.TOOL_CALL, request, self._context(session, run))
        if judged.decision is Decision.HOLD:
            return self._held(session, run, id, intent, judged.verdicts), None
        if judged.cleared is None:
            text = wording.denied(tool.name, judged.reason)
            return self._refused(
                id, asked_by, place, call, code="denied", text=text, verdicts=judged.verdicts
            ), None
        return self._intended(id, intent, judged.cleared, tool, call_id=call.id, verdicts=judged.verdicts)

    def _intended(
        self,
        id: str,
        intent: ev.ToolIntent,
        cleared: Cleared[ToolRequest],
        tool: Tool,
        *,
        call_id: str,
        verdicts: tuple[Verdict, ...],
        step: Step | None = None,
        kind: ev.StepKind = ev.StepKind.EXECUTE_TOOL,
    ) -> tuple[ev.StepIntended, Launch]:
        # The guards may have changed the arguments; what is recorded is what leaves.
        intent = replace(intent, arguments_ref=self._texts.put(cleared.request.arguments))
        event = ev.StepIntended(
            step_id=id,
            kind=kind,
            tool=intent,
            attempt=1 if step is None else step.attempt + 1,
            approval_id="" if step is None else step.approval_id,
            verdicts=verdicts,
        )
        launch = Launch(
            step_id=id,
            kind=kind,
            request=cleared,
            timeout_s=tool.timeout_s,
            call_id=call_id,
            has_effect=intent.effect is not ev.Effect.READ,
            subject=intent.undoes,
        )
        return event, launch

    def _held(
        self, session: Session, run: Run, id: str, intent: ev.ToolIntent, verdicts: tuple[Verdict, ...]
    ) -> ev.StepHeld:
        return ev.StepHeld(
            step_id=id,
            approval_id=approval_id(id),
            hold=ev.HoldReason.APPROVAL,
            tool=intent,
            call_digest=self._call_digest(session, intent),
            expires_at=run.last_at + timedelta(seconds=self._bundle.limits.approval_s),
            verdicts=verdicts,
        )

    def _call_digest(self, session: Session, intent: ev.ToolIntent | None) -> str:
        if intent is None:
            raise ValueError("only a tool call can be held")
        arguments = self._texts.text(intent.arguments_ref)
        return self._texts.digest([intent.tool, arguments, session.id, self._bundle.digest])

    def _run_approved(self, session: Session, run: Run, step: Step) -> Plan:
        """Authorise an approved call again, at the moment of its execution."""
        intent = step.tool
        if intent is None:
            raise ValueError("only a tool call can be held")
        tool = self._bundle.tools[intent.tool]
        _, call = self._asked_call(run, intent.call_index)
        if self._call_digest(session, intent) != step.call_digest:
            return self._refuse(run, step, call, code="approval_mismatch", text=wording.denied(tool.name, ""))
        changed = step.decision is ev.ApprovalDecision.MODIFY
        raw = self._texts.text(step.arguments_ref if changed else intent.arguments_ref)
        try:
            arguments = self._schemas.arguments(self._bundle.digest, tool, raw)
        except ToolArgumentsInvalid as error:
            return self._refuse(run, step, call, code=error.code, text=error.message)
        request = self._tool_request(session, run, tool, arguments, key=step.id)
        judged = self._guards.judge(Crossing.TOOL_CALL, request, self._context(session, run), approved=True)
        if judged.cleared is None:
            return self._refuse(
                run,
                step,
                call,
                code="denied",
                text=wording.denied(tool.name, judged.reason),
                verdicts=judged.verdicts,
            )
        event, launch = self._intended(
            step.id, intent, judged.cleared, tool, call_id=call.id, verdicts=judged.verdicts, step=step
        )
        return Plan((ev.NewEvent(event, run.id),), (launch,))

    def _repeat(self, session: Session, run: Run, step: Step) -> Plan:
        if step.kind is ev.StepKind.CHAT and step.model is not None:
            repeated = replace(session, base_step=step.id, pending=())
            return self._chat(
                repeated, run, step.id, tools_allowed=step.model.tools_allowed, attempt=step.attempt + 1
            )
        if step.kind is ev.StepKind.SUMMARY and step.model is not None:
            count = len(step.model.request.appended) - 2
            first = step.model.request.appended[1]
            start = next(place for place, message in enumerate(session.context) if message.ref == first)
            return self._summarise(session, run, loop.Span(start, start + count), step.id, step.attempt + 1)
        intent = step.tool
        if intent is None:
            raise ValueError(f"{step.id} has neither a model nor a tool")
        tool = self._bundle.tools[intent.tool]
        call_id = self._asked_call(run, intent.call_index)[1].id if intent.asked_by else ""
        request = self._tool_request(
            session,
            run,
            tool,
            self._texts.text(intent.arguments_ref),
            key=intent.idempotency_key,
            undone=run.steps.get(intent.undoes) if step.kind is ev.StepKind.UNDO else None,
        )
        judged = self._guards.judge(Crossing.TOOL_CALL, request, self._context(session, run), approved=True)
        if judged.cleared is None:
            held = _hold_doubt(step, self._call_digest(session, intent))
            return Plan((ev.NewEvent(held, run.id),))
        event, launch = self._intended(
            step.id,
            intent,
            judged.cleared,
            tool,
            call_id=call_id,
            verdicts=judged.verdicts,
            step=step,
            kind=step.kind,
        )
        return Plan((ev.NewEvent(event, run.id),), (launch,))

    def _about(self, session: Session, run: Run, subject: Step, kind: ev.StepKind) -> Plan:
        """Call the undo or reconcile tool of an earlier step, with what its signature names of the first call."""
        if subject.tool is None:
            raise ValueError(f"{subject.id} called no tool")
        manifest = self._bundle.tools[subject.tool.tool]
        name = manifest.undo if kind is ev.StepKind.UNDO else manifest.reconcile
        tool = self._bundle.tools[name or ""]
        arguments = _named(tool, self._texts.text(subject.tool.arguments_ref))
        id = step_id(run.id, run.numbered + 1)
        # A reconcile asks about the first call, so it gets that call's key; an undo is an effect of its own.
        key = subject.tool.idempotency_key if kind is ev.StepKind.RECONCILE else id
        intent = ev.ToolIntent(
            tool=tool.name,
            arguments_ref=self._texts.put(arguments),
            effect=tool.effect,
            retry=tool.retry,
            idempotency_key=key,
            undoes=subject.id,
        )
        undone = subject if kind is ev.StepKind.UNDO else None
        request = self._tool_request(session, run, tool, arguments, key=key, undone=undone)
        judged = self._guards.judge(Crossing.TOOL_CALL, request, self._context(session, run), approved=True)
        if judged.cleared is None:
            refused = ev.StepFailed(
                step_id=subject.id, code="denied", settled_by="guard", verdicts=judged.verdicts
            )
            return Plan((ev.NewEvent(refused, run.id),))
        event, launch = self._intended(
            id, intent, judged.cleared, tool, call_id="", verdicts=judged.verdicts, kind=kind
        )
        return Plan((ev.NewEvent(event, run.id),), (launch,))

    def _tool_request(
        self, session: Session, run: Run, tool: Tool, arguments: str, *, key: str, undone: Step | None = None
    ) -> ToolRequest:
        return ToolRequest(
            bundle=self._bundle.digest,
            tool=tool,
            arguments=arguments,
            principal=self.principal(session, run),
            session_id=session.id,
            run_id=run.id,
            idempotency_key=key,
            undone_result=self.result_of(undone) if undone is not None else "",
        )

    def result_of(self, step: Step) -> str:
        """The JSON result of a settled tool step, empty when it has none."""
        if step.value_ref:
            return self._texts.text(step.value_ref)
        return self._texts.message(step.content.ref).text if step.content is not None else ""

    def _asked_call(self, run: Run, place: int) -> tuple[str, ToolCall]:
        """The call at this place of the answer whose calls are open, with the step that asked."""
        if run.asked is None:
            raise ValueError("no calls are open")
        content = run.steps[run.asked.step_id].content
        if content is None:
            raise ValueError(f"{run.asked.step_id} has no answer")
        return run.asked.step_id, self._texts.message(content.ref).tool_calls[place]

    # refusals, settlements, the end

    def _refused(
        self,
        id: str,
        asked_by: str,
        place: int,
        call: ToolCall,
        *,
        code: str,
        text: str,
        verdicts: tuple[Verdict, ...] = (),
        approval: str = "",
    ) -> ev.StepRefused:
        message = Message(Role.TOOL, text, tool_call_id=call.id)
        ref, size_bytes = self._texts.put_message(message)
        known = call.name if call.name in self._bundle.tools else ""
        return ev.StepRefused(
            step_id=id,
            code=code,
            tool=known,
            content_ref=ref,
            content_bytes=size_bytes,
            asked_by=asked_by,
            call_index=place,
            approval_id=approval,
            verdicts=verdicts,
        )

    def _refuse(
        self,
        run: Run,
        step: Step,
        call: ToolCall,
        *,
        code: str,
        text: str,
        verdicts: tuple[Verdict, ...] = (),
    ) -> Plan:
        intent = step.tool or ev.ToolIntent(tool="", arguments_ref="")
        refused = self._refused(
            step.id,
            intent.asked_by,
            intent.call_index,
            call,
            code=code,
            text=text,
            verdicts=verdicts,
            approval=step.approval_id,
        )
        return Plan((ev.NewEvent(refused, run.id),))

    def _refuse_held(self, session: Session, run: Run, step: Step) -> ev.Data:
        expired = step.decision is ev.ApprovalDecision.EXPIRED
        note = self._texts.text(step.note_ref) if step.note_ref else ""
        text = wording.EXPIRED if expired else wording.rejected(note)
        intent = step.tool or ev.ToolIntent(tool="", arguments_ref="")
        _, call = self._asked_call(run, intent.call_index)
        code = "approval_expired" if expired else "rejected"
        plan = self._refuse(run, step, call, code=code, text=text)
        return plan.events[0].data

    def _refuse_rest(self, session: Session, run: Run, code: str) -> list[ev.NewEvent]:
        events: list[ev.NewEvent] = []
        for step in run.steps.values():
            if step.phase in {Phase.HELD, Phase.DECIDED} and step.tool is not None:
                _, call = self._asked_call(run, step.tool.call_index)
                events.extend(self._refuse(run, step, call, code=code, text=wording.RUN_ENDED).events)
        if run.asked is None:
            return events
        number = run.numbered
        for place in range(len(run.asked.tools)):
            if place in run.asked.started:
                continue
            number += 1
            asked_by, call = self._asked_call(run, place)
            refused = self._refused(
                step_id(run.id, number), asked_by, place, call, code=code, text=wording.RUN_ENDED
            )
            events.append(ev.NewEvent(refused, run.id))
        return events

    def _settle(self, session: Session, step: Step) -> ev.Data:
        """Record the last word on a call whose outcome nobody knew."""
        if step.model is not None:
            return ev.StepFailed(step_id=step.id, code="model_unavailable", settled_by="attempts")
        note = self._texts.text(step.note_ref) if step.note_ref else ""
        happened = step.decision is ev.ApprovalDecision.DONE
        if step.decision is None:
            text, settled_by = wording.GAVE_UP, "attempts"
        else:
            text = wording.confirmed_done(note) if happened else wording.confirmed_not_done(note)
            settled_by = step.decided_by
        ref, size_bytes = self._texts.put_message(self.answer_to(session, step, text))
        if happened:
            return ev.StepDone(
                step_id=step.id, content_ref=ref, content_bytes=size_bytes, settled_by=settled_by
            )
        executed = ev.Executed.NO if step.decision is not None or not step.has_effect else ev.Executed.UNKNOWN
        return ev.StepFailed(
            step_id=step.id,
            code="in_doubt",
            executed=executed,
            content_ref=ref,
            content_bytes=size_bytes,
            settled_by=settled_by,
        )

    def answer_to(self, session: Session, step: Step, text: str) -> Message:
        """The message that answers the call of a step, with the model's own id of the call."""
        run = session.run
        if run is None or step.tool is None or not step.tool.asked_by or run.asked is None:
            return Message(Role.TOOL, text)
        return Message(Role.TOOL, text, tool_call_id=self._asked_call(run, step.tool.call_index)[1].id)

    def _finish(self, session: Session, run: Run, status: ev.RunStatus, reason: str) -> ev.RunFinished:
        text = self._final_text(run, status, reason)
        judged = self._guards.judge(
            Crossing.OUTPUT, Message(Role.ASSISTANT, text), self._context(session, run)
        )
        answer = judged.content
        if judged.cleared is None:
            status, reason = ev.RunStatus.DENIED, "output"
            answer = Message(Role.ASSISTANT, wording.DENIED_ANSWER)
        failed = status is ev.RunStatus.FAILED
        return ev.RunFinished(
            status=status,
            reason=reason,
            output_ref=self._texts.put(answer.text),
            decision=judged.decision,
            verdicts=judged.verdicts,
            error_code=reason if failed else "",
        )

    def _final_text(self, run: Run, status: ev.RunStatus, reason: str) -> str:
        if status is ev.RunStatus.COMPLETED and run.answer is not None:
            message = self._texts.message(run.answer.ref)
            return message.text or message.refusal or wording.EMPTY_ANSWER
        if status is ev.RunStatus.DENIED:
            return wording.DENIED_ANSWER
        spoken = ""
        done: list[str] = []
        undone = [
            step.tool.undoes for step in run.steps.values() if step.kind is ev.StepKind.UNDO and step.tool
        ]
        for step in run.steps.values():
            if step.kind is ev.StepKind.CHAT and step.phase is Phase.DONE and step.content is not None:
                spoken = self._texts.message(step.content.ref).text or spoken
            if (
                step.kind is ev.StepKind.EXECUTE_TOOL
                and step.phase is Phase.DONE
                and step.has_effect
                and step.tool
            ):
                suffix = " (taken back)" if step.id in undone else ""
                done.append(step.tool.tool + suffix)
        return wording.unfinished(self._bundle.degrade, reason=reason, spoken=spoken, done=done)


def _compacted(run: Run, span: loop.Span, strategy: str) -> ev.ContextCompacted:
    summary = run.summary
    return ev.ContextCompacted(
        strategy=strategy,
        start=span.start,
        stop=span.stop,
        summary_ref=summary.ref if summary is not None else "",
        summary_bytes=summary.size_bytes if summary is not None else 0,
    )


def _hold_doubt(step: Step, call_digest: str) -> ev.StepHeld:
    if step.tool is None:
        raise ValueError("only a tool call can be held")
    return ev.StepHeld(
        step_id=step.id,
        approval_id=approval_id(step.id) if step.hold is None else f"{approval_id(step.id)}x{step.attempt}",
        hold=ev.HoldReason.IN_DOUBT,
        tool=step.tool,
        call_digest=call_digest,
        expires_at=None,
    )


def _named(tool: Tool, arguments: str) -> str:
    """Those of the arguments that the tool's schema names, as canonical JSON."""
    schema = msgspec.json.decode(tool.spec.parameters, type=dict[str, object])
    properties = schema.get("properties")
    names = properties if isinstance(properties, dict) else {}
    given = msgspec.json.decode(arguments, type=dict[str, object])
    return canonical_json({name: value for name, value in given.items() if name in names}).decode()
