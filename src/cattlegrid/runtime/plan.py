"""What an action of the loop amounts to: the events to record, and the calls to make once they are recorded.

A plan depends on nothing but the session's state, its texts, its bundle and the guards, so that replay can make the
same plan again and compare it with the record. Times in a plan are derived from recorded ones. `planner.py` picks who
makes the plan: `model_plans.py`, `tool_plans.py` or `end_plans.py`.
"""

from collections.abc import Sequence

import msgspec

from cattlegrid.calls.schemas import ToolSchemas
from cattlegrid.core.bundle import Bundle
from cattlegrid.core.cleared import Cleared
from cattlegrid.core.messages import Message, ModelRequest, Role, ToolCall
from cattlegrid.core.principal import Principal
from cattlegrid.core.requests import ToolRequest
from cattlegrid.core.verdicts import Verdict
from cattlegrid.guards.chain import GuardChain, GuardContext
from cattlegrid.journal import events as ev
from cattlegrid.runtime.state import Run, Session, Step
from cattlegrid.runtime.texts import Texts


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


def plan_of(run: Run, data: Sequence[ev.Data], launches: Sequence[Launch] = ()) -> Plan:
    """A plan whose events all belong to the run."""
    return Plan(tuple(ev.NewEvent(part, run.id) for part in data), tuple(launches))


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call that a model has asked for, and the step that it is or would be."""

    step_id: str
    asked_by: str
    place: int
    call: ToolCall


class Desk:
    """What all plans of one session are made with."""

    def __init__(
        self, *, bundle: Bundle, texts: Texts, guards: GuardChain, schemas: ToolSchemas, user: str
    ) -> None:
        self.bundle = bundle
        self.texts = texts
        self.guards = guards
        self.schemas = schemas
        self._user = user

    def principal(self, session: Session, run: Run) -> Principal:
        """Who asks in this run, as authentication has said."""
        tenant = session.opened.tenant if session.opened is not None else ""
        return Principal(tenant=tenant, user=self._user, roles=frozenset(run.roles))

    def context(self, session: Session, run: Run) -> GuardContext:
        """What guards may know."""
        return GuardContext(bundle=self.bundle, principal=self.principal(session, run), session_id=session.id)

    def asked(self, run: Run, place: int, step_id: str) -> Asked:
        """The call at a place of the answer whose calls are open. Raises ValueError when none are."""
        if run.asked is None:
            raise ValueError("no calls are open")
        content = run.steps[run.asked.step_id].content
        if content is None:
            raise ValueError(f"{run.asked.step_id} has no answer")
        call = self.texts.message(content.ref).tool_calls[place]
        return Asked(step_id=step_id, asked_by=run.asked.step_id, place=place, call=call)

    def asked_of(self, run: Run, step: Step) -> Asked:
        """The call that an existing step answers."""
        return self.asked(run, step.tool.call_index if step.tool is not None else 0, step.id)

    def answer_to(self, run: Run, step: Step, text: str) -> Message:
        """The message that answers the call of a step, with the model's own id of the call if a model asked."""
        if step.tool is None or not step.tool.asked_by or run.asked is None:
            return Message(Role.TOOL, text)
        return Message(Role.TOOL, text, tool_call_id=self.asked_of(run, step).call.id)

    def refusal(
        self, asked: Asked, *, code: str, text: str, verdicts: tuple[Verdict, ...] = (), approval_id: str = ""
    ) -> ev.StepRefused:
        """A call that does not leave; `text` is what the model is told."""
        ref, size_bytes = self.texts.put_message(Message(Role.TOOL, text, tool_call_id=asked.call.id))
        return ev.StepRefused(
            step_id=asked.step_id,
            code=code,
            tool=asked.call.name if asked.call.name in self.bundle.tools else "",
            content_ref=ref,
            content_bytes=size_bytes,
            asked_by=asked.asked_by,
            call_index=asked.place,
            approval_id=approval_id,
            verdicts=verdicts,
        )

    def call_digest(self, session: Session, intent: ev.ToolIntent) -> str:
        """What an approval binds to: tool, exact arguments, session and bundle."""
        arguments = self.texts.text(intent.arguments_ref)
        return self.texts.digest([intent.tool, arguments, session.id, self.bundle.digest])
