"""Plans for what ends: refused and settled calls, compaction's record, and the answer that ends the run."""

from cattlegrid.core.ids import step_id
from cattlegrid.core.messages import Message, Role
from cattlegrid.core.verdicts import Crossing
from cattlegrid.journal import events as ev
from cattlegrid.runtime import wording
from cattlegrid.runtime.context import Span
from cattlegrid.runtime.plan import Desk, Plan, plan_of
from cattlegrid.runtime.state import Part, Phase, Run, Session, Step


class EndPlans:
    """See the module."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def refuse_held(self, run: Run, step: Step) -> Plan:
        """A person said no, or nobody answered in time."""
        expired = step.decision is ev.ApprovalDecision.EXPIRED
        text = wording.EXPIRED if expired else wording.rejected(self._note(step))
        refusal = self._desk.refusal(
            self._desk.asked_of(run, step),
            code="approval_expired" if expired else "rejected",
            text=text,
            approval_id=step.approval_id,
        )
        return plan_of(run, [refusal])

    def refuse_rest(self, run: Run, code: str) -> Plan:
        """Refuse what waits for a person and what has not left yet, since the run ends."""
        waiting = [
            step
            for step in run.steps.values()
            if step.phase in {Phase.HELD, Phase.DECIDED} and step.tool is not None
        ]
        asked = [self._desk.asked_of(run, step) for step in waiting]
        if run.asked is not None:
            places = [place for place in range(len(run.asked.tools)) if place not in run.asked.started]
            numbered = enumerate(places, start=run.numbered + 1)
            asked += [self._desk.asked(run, place, step_id(run.id, number)) for number, place in numbered]
        return plan_of(run, [self._desk.refusal(call, code=code, text=wording.RUN_ENDED) for call in asked])

    def settle(self, run: Run, step: Step) -> Plan:
        """The last word on a call whose outcome nobody knew: a person's, or that it was tried often enough."""
        if step.model is not None:
            return plan_of(
                run, [ev.StepFailed(step_id=step.id, code="model_unavailable", settled_by="attempts")]
            )
        happened = step.decision is ev.ApprovalDecision.DONE
        settled_by = step.decided_by if step.decision is not None else "attempts"
        if step.phase is Phase.ABSENT:
            text = wording.NOT_DONE
        elif step.decision is None:
            text = wording.GAVE_UP
        else:
            text = (wording.confirmed_done if happened else wording.confirmed_not_done)(self._note(step))
        ref, size_bytes = self._desk.texts.put_message(self._desk.answer_to(run, step, text))
        if happened:
            done = ev.StepDone(
                step_id=step.id, content_ref=ref, content_bytes=size_bytes, settled_by=settled_by
            )
            return plan_of(run, [done])
        known = step.decision is not None or not step.has_effect or step.phase is Phase.ABSENT
        failed = ev.StepFailed(
            step_id=step.id,
            code=step.code if step.phase is Phase.ABSENT else "in_doubt",
            executed=ev.Executed.NO if known else ev.Executed.UNKNOWN,
            content_ref=ref,
            content_bytes=size_bytes,
            settled_by=settled_by,
        )
        return plan_of(run, [failed])

    def _note(self, step: Step) -> str:
        return self._desk.texts.text(step.note_ref) if step.note_ref else ""

    def compact(self, run: Run, span: Span, strategy: str) -> Plan:
        """Drop a part of the history, in favour of the summary if there is one."""
        compacted = ev.ContextCompacted(
            strategy=strategy,
            start=span.start,
            stop=span.stop,
            summary_ref=run.summary.ref if run.summary is not None else "",
            summary_bytes=run.summary.size_bytes if run.summary is not None else 0,
        )
        return plan_of(run, [compacted])

    def drop_unsent(self, session: Session, run: Run) -> Plan:
        """Put a word about it in the place of what the run cannot send; what the run before it said stays."""
        pending, sent = session.pending, len(session.context)
        places = [place for place, message in enumerate(pending) if message.part is Part.INPUT]
        message = Message(Role.ASSISTANT, wording.dropped(_effects(run)))
        ref, size_bytes = self._desk.texts.put_message(message)
        dropped = ev.ContextCompacted(
            strategy="dropped",
            start=sent + (places[-1] if places else 0),
            stop=sent + len(pending),
            summary_ref=ref,
            summary_bytes=size_bytes,
        )
        return plan_of(run, [dropped])

    def check_input(self, session: Session, run: Run) -> Plan:
        """Let the guards judge what the user said."""
        message = self._desk.texts.message(run.input.ref)
        judged = self._desk.guards.judge(Crossing.INPUT, message, self._desk.context(session, run))
        ref, size_bytes = self._desk.texts.put_message(judged.content)
        checked = ev.InputChecked(
            decision=judged.decision, input_ref=ref, input_bytes=size_bytes, verdicts=judged.verdicts
        )
        return plan_of(run, [checked])

    def finish(self, session: Session, run: Run, status: ev.RunStatus, reason: str) -> Plan:
        """The answer, as the output guards leave it."""
        answer = Message(Role.ASSISTANT, self._final_text(run, status, reason))
        judged = self._desk.guards.judge(Crossing.OUTPUT, answer, self._desk.context(session, run))
        text = judged.content.text
        if judged.cleared is None:
            status, reason, text = ev.RunStatus.DENIED, "output", wording.DENIED_ANSWER
        finished = ev.RunFinished(
            status=status,
            reason=reason,
            output_ref=self._desk.texts.put(text),
            decision=judged.decision,
            verdicts=judged.verdicts,
            error_code=reason if status is ev.RunStatus.FAILED else "",
        )
        return plan_of(run, [finished])

    def _final_text(self, run: Run, status: ev.RunStatus, reason: str) -> str:
        if status is ev.RunStatus.COMPLETED and run.answer is not None:
            message = self._desk.texts.message(run.answer.ref)
            return message.text or message.refusal or wording.EMPTY_ANSWER
        if status is ev.RunStatus.DENIED:
            return wording.DENIED_ANSWER
        return wording.unfinished(
            self._desk.bundle.degrade, reason=reason, spoken=self._last_words(run), done=_effects(run)
        )

    def _last_words(self, run: Run) -> str:
        """What the model had said by then, if anything."""
        spoken = ""
        for step in run.steps.values():
            if step.kind is ev.StepKind.CHAT and step.phase is Phase.DONE and step.content is not None:
                spoken = self._desk.texts.message(step.content.ref).text or spoken
        return spoken


def _effects(run: Run) -> list[str]:
    """The tools that have changed something in this run, and whether that was taken back."""
    taken_back = {
        step.tool.undoes
        for step in run.steps.values()
        if step.kind is ev.StepKind.UNDO and step.phase is Phase.DONE and step.tool is not None
    }
    return [
        f"{step.tool.tool} (taken back)" if step.id in taken_back else step.tool.tool
        for step in run.steps.values()
        if step.kind is ev.StepKind.EXECUTE_TOOL
        and step.phase is Phase.DONE
        and step.has_effect
        and step.tool
    ]
