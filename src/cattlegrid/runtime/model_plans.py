"""Plans for calls of a model: the next turn, a summary of old turns, and both again after a crash.

A request is recorded as the difference to the session's previous one. The system prompt and the built-in texts belong
to the bundle and to the program; they are referred to by digest, so that a changed character shows in replay.
"""

from msgspec.structs import replace

from cattlegrid.core.bundle import ModelTier
from cattlegrid.core.canonical import canonical_json
from cattlegrid.core.ids import step_id
from cattlegrid.core.messages import Message, ModelRequest, Role, ToolSpec
from cattlegrid.core.verdicts import Crossing
from cattlegrid.journal import events as ev
from cattlegrid.journal.parts import RequestDelta
from cattlegrid.runtime import wording
from cattlegrid.runtime.context import Span, span_to_drop
from cattlegrid.runtime.plan import Desk, Launch, Plan, plan_of
from cattlegrid.runtime.state import Run, Session, Step
from cattlegrid.runtime.texts import bundle_ref


class ModelPlans:
    """See the module."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._prompt = Message(Role.SYSTEM, desk.bundle.system_prompt)
        self._prompt_ref = bundle_ref(desk.bundle.system_prompt)
        self._tools = desk.bundle.offered_tools
        self._tools_ref = bundle_ref(canonical_json([self._tools, desk.bundle.models]).decode())

    def chat(self, session: Session, run: Run, *, tools_allowed: bool, again: Step | None = None) -> Plan:
        """The next turn of the conversation, or `again` one whose answer was lost."""
        if again is not None:
            session = replace(session, base_step=again.id, pending=())
        refs = tuple(message.ref for message in session.pending)
        if not session.context:
            refs = (self._prompt_ref, *refs)
        # The first message of a context is the system prompt.
        told = (*session.context[1:], *session.pending)
        tier = self._desk.bundle.models["default"]
        request = self._request(
            tier,
            (self._prompt, *(self._desk.texts.message(message.ref) for message in told)),
            self._tools,
            tools_allowed=tools_allowed,
        )
        intent = ev.ModelIntent(
            tier="default",
            model=tier.name,
            request=RequestDelta(base=session.base_step, kept=len(session.context), appended=refs),
            tools_ref=self._tools_ref,
            tools_allowed=tools_allowed,
            provider=tier.provider,
            requested=tier.model,
        )
        return self._step(session, run, request, intent, again)

    def summary(self, session: Session, run: Run, span: Span, *, again: Step | None = None) -> Plan:
        """A summary of some messages, for the conversation to go on with."""
        models = self._desk.bundle.models
        tier = models.get("summary", models["default"])
        part = session.context[span.start : span.stop]
        told = (
            Message(Role.SYSTEM, wording.SUMMARY_PROMPT),
            *(self._desk.texts.message(message.ref) for message in part),
            Message(Role.USER, wording.SUMMARY_REQUEST),
        )
        refs = (
            bundle_ref(wording.SUMMARY_PROMPT),
            *(message.ref for message in part),
            bundle_ref(wording.SUMMARY_REQUEST),
        )
        intent = ev.ModelIntent(
            tier="summary",
            model=tier.name,
            request=RequestDelta(appended=refs),
            tools_ref=self._tools_ref,
            tools_allowed=False,
            provider=tier.provider,
            requested=tier.model,
        )
        request = self._request(tier, told, (), tools_allowed=False)
        return self._step(session, run, request, intent, again)

    def again(self, session: Session, run: Run, step: Step) -> Plan:
        """The same request as before, whose answer was lost. Raises ValueError for a step that asks no model."""
        if step.model is None:
            raise ValueError(f"{step.id} asks no model")
        if step.kind is ev.StepKind.CHAT:
            return self.chat(session, run, tools_allowed=step.model.tools_allowed, again=step)
        # Nothing was sent since, so that the same part of the history has to go.
        span = span_to_drop(session, self._desk.bundle)
        if span is None:
            raise ValueError(f"{step.id} summarises nothing")
        return self.summary(session, run, span, again=step)

    def _step(
        self, session: Session, run: Run, request: ModelRequest, intent: ev.ModelIntent, again: Step | None
    ) -> Plan:
        kind = ev.StepKind.SUMMARY if intent.tier == "summary" else ev.StepKind.CHAT
        id = again.id if again is not None else step_id(run.id, run.numbered + 1)
        judged = self._desk.guards.judge(Crossing.MODEL_REQUEST, request, self._desk.context(session, run))
        if judged.cleared is None:
            ref, size_bytes = self._desk.texts.put_message(Message(Role.ASSISTANT))
            refused = ev.StepRefused(
                step_id=id,
                code="denied",
                tool="",
                content_ref=ref,
                content_bytes=size_bytes,
                verdicts=judged.verdicts,
            )
            return plan_of(run, [refused])
        attempt = again.attempt + 1 if again is not None else 1
        intended = ev.StepIntended(
            step_id=id, kind=kind, model=intent, attempt=attempt, verdicts=judged.verdicts
        )
        limit_s = self._desk.bundle.limits.model_call_s
        return plan_of(
            run, [intended], [Launch(step_id=id, kind=kind, request=judged.cleared, timeout_s=limit_s)]
        )

    def _request(
        self,
        tier: ModelTier,
        messages: tuple[Message, ...],
        tools: tuple[ToolSpec, ...],
        *,
        tools_allowed: bool,
    ) -> ModelRequest:
        return ModelRequest(
            provider=tier.provider,
            model=tier.model,
            messages=messages,
            tools=tools,
            tools_allowed=tools_allowed,
            params=tier.params,
            images=self._desk.texts.images(messages),
        )
