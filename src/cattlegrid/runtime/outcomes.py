"""Turns what came back from a call, or what went wrong with it, into the event that records it.

The guards of `model_response` and `tool_result` judge here. A result that they withhold is still an effect that
happened: the model is told that it was withheld, not that it failed.
"""

import traceback
from typing import Final

import msgspec
from msgspec.structs import replace

from cattlegrid.calls.retry import attempts_of
from cattlegrid.core.bundle import Bundle
from cattlegrid.core.errors import (
    CattlegridError,
    ModelProtocolError,
    ToolArgumentsInvalid,
    ToolResultInvalid,
)
from cattlegrid.core.messages import Message, Role
from cattlegrid.core.requests import ModelOutcome, ToolOutcome
from cattlegrid.core.tools import NotExecuted
from cattlegrid.core.verdicts import Crossing, Decision
from cattlegrid.guards.chain import GuardChain, GuardContext
from cattlegrid.journal import events as ev
from cattlegrid.runtime import wording
from cattlegrid.runtime.plan import Launch
from cattlegrid.runtime.state import RECONCILED_BY
from cattlegrid.runtime.texts import Texts

_DETAIL_CHARACTERS: Final = 16_384


class Recorder:
    """Makes the events of what came back, for one session."""

    def __init__(self, *, bundle: Bundle, texts: Texts, guards: GuardChain) -> None:
        self._bundle = bundle
        self._texts = texts
        self._guards = guards

    def answered(
        self, launch: Launch, outcome: ModelOutcome, context: GuardContext
    ) -> ev.StepDone | ev.StepFailed:
        """A model has answered."""
        response = outcome.response
        judged = self._guards.judge(Crossing.MODEL_RESPONSE, response.message, context)
        message = judged.content
        if launch.kind is ev.StepKind.SUMMARY:
            # Only its words stay in the conversation: a call in it would never be answered.
            message = Message(Role.ASSISTANT, message.text.strip())
            if not message.text:
                return self._no_summary(launch, outcome)
        ref, size_bytes = self._texts.put_message(message)
        return ev.StepDone(
            step_id=launch.step_id,
            content_ref=ref,
            content_bytes=size_bytes,
            calls=tuple(self._offered(call.name) for call in message.tool_calls),
            finish_reason=response.finish_reason,
            usage=response.usage,
            cost_nano_usd=outcome.cost_nano_usd,
            provider=outcome.provider,
            model=response.model,
            duration_s=round(outcome.duration_s, 6),
            first_delta_s=outcome.first_delta_s,
            attempts=outcome.attempts,
            decision=judged.decision,
            verdicts=judged.verdicts,
        )

    def _no_summary(self, launch: Launch, outcome: ModelOutcome) -> ev.StepFailed:
        return ev.StepFailed(
            step_id=launch.step_id,
            code=ModelProtocolError.code,
            duration_s=round(outcome.duration_s, 6),
            attempts=outcome.attempts,
            usage=outcome.response.usage,
            cost_nano_usd=outcome.cost_nano_usd,
        )

    def _offered(self, name: str) -> str:
        tool = self._bundle.tools.get(name)
        return name if tool is not None and tool.offered else ""

    def returned(
        self, launch: Launch, outcome: ToolOutcome, context: GuardContext, *, tool: str
    ) -> ev.StepDone:
        """A tool has returned a result of its declared shape."""
        message = Message(Role.TOOL, _text_of(outcome.value), tool_call_id=launch.call_id)
        judged = self._guards.judge(Crossing.TOOL_RESULT, message, context)
        passed = judged.content
        if judged.decision is Decision.DENY:
            passed = replace(message, text=wording.withheld(tool))
        ref, size_bytes = self._texts.put_message(passed)
        same = passed.text == outcome.value
        return ev.StepDone(
            step_id=launch.step_id,
            content_ref=ref,
            content_bytes=size_bytes,
            value_ref="" if same else self._texts.put(outcome.value),
            duration_s=round(outcome.duration_s, 6),
            attempts=outcome.attempts,
            decision=judged.decision,
            verdicts=judged.verdicts,
        )

    def failed(self, launch: Launch, error: CattlegridError, *, duration_s: float) -> ev.StepFailed:
        """A call came to nothing, or nobody knows what it came to."""
        executed = _executed(launch, error)
        content_ref, content_bytes = "", 0
        if launch.kind in {ev.StepKind.EXECUTE_TOOL, ev.StepKind.UNDO, ev.StepKind.RECONCILE}:
            text = wording.tool_failed(error.message, unknown=executed is ev.Executed.UNKNOWN)
            message = Message(Role.TOOL, text, tool_call_id=launch.call_id)
            content_ref, content_bytes = self._texts.put_message(message)
        detail = error.detail or "".join(traceback.format_exception_only(error))
        return ev.StepFailed(
            step_id=launch.step_id,
            code=error.code,
            executed=executed,
            content_ref=content_ref,
            content_bytes=content_bytes,
            detail_ref=self._texts.put(detail[:_DETAIL_CHARACTERS]),
            duration_s=round(duration_s, 6),
            attempts=attempts_of(error),
        )

    def reconciled(self, subject: str, value: str, answer: Message) -> ev.StepDone | ev.StepFailed:
        """The reconcile tool has told what became of a call in doubt: a result, or `null` for `it did not happen`.

        Nobody is told of a call that did not happen: it is called again.
        """
        if value == "null":
            return ev.StepFailed(step_id=subject, code=NotExecuted.code, settled_by=RECONCILED_BY)
        ref, size_bytes = self._texts.put_message(replace(answer, text=_text_of(value)))
        same = _text_of(value) == value
        return ev.StepDone(
            step_id=subject,
            content_ref=ref,
            content_bytes=size_bytes,
            value_ref="" if same else self._texts.put(value),
            settled_by=RECONCILED_BY,
        )


def _text_of(value: str) -> str:
    """What the model reads: the JSON itself, but the bare text of a result that is one text."""
    return msgspec.json.decode(value, type=str) if value.startswith('"') else value


def _executed(launch: Launch, error: CattlegridError) -> ev.Executed:
    if not launch.has_effect or isinstance(error, NotExecuted | ToolArgumentsInvalid):
        return ev.Executed.NO
    return ev.Executed.YES if isinstance(error, ToolResultInvalid) else ev.Executed.UNKNOWN
