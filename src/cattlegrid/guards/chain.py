"""Turns what is about to cross into a judgement: every guard's verdict, the decision, and the content that may pass.

Guards run in their order; each sees what the ones before it have made of the content. The strictest verdict decides,
and a denial ends the chain. A guard that raises denies. This is the only module that makes `Cleared`: what goes out
through `calls.perform` has been here.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar, cast

import msgspec

from cattlegrid.core.bundle import Bundle
from cattlegrid.core.cleared import Cleared
from cattlegrid.core.principal import Principal
from cattlegrid.core.verdicts import Crossing, Decision, Verdict

T = TypeVar("T")

_STRICTNESS: Final = tuple(Decision)


class GuardContext(msgspec.Struct, frozen=True, kw_only=True):
    """For whom and for which version the content crosses."""

    bundle: Bundle
    principal: Principal
    session_id: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a guard says of a content: a decision, the reason as a word, and the content it would rather have."""

    decision: Decision
    reason: str = ""
    content: object = None
    """Only with `modify`: of the same type as what was judged."""


ALLOWED: Final = Finding(decision=Decision.ALLOW)


_FAILED: Final = Finding(decision=Decision.DENY, reason="guard_failed")


class Guard(Protocol):
    """A check. Pure: it decides by what it is given and calls nothing."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def crossings(self) -> frozenset[Crossing]: ...

    def judge(self, crossing: Crossing, content: object, context: GuardContext) -> Finding:
        """The content's type is that of its crossing.

        A `Message` at `input`, `model_response`, `tool_result` and `output`; a `ModelRequest` at `model_request`; a
        `ToolRequest` at `tool_call`.
        """
        ...


class Judgement(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """The outcome of one crossing. `cleared` is there when the content may pass."""

    decision: Decision
    verdicts: tuple[Verdict, ...]
    content: T
    cleared: Cleared[T] | None

    @property
    def reason(self) -> str:
        """The reason of the verdict that decided."""
        deciding = (verdict.reason for verdict in self.verdicts if verdict.decision is self.decision)
        return next(deciding, "")


class GuardChain:
    """The guards of all six crossings, in order."""

    def __init__(self, guards: Sequence[Guard]) -> None:
        self._by_crossing: Mapping[Crossing, tuple[Guard, ...]] = {
            crossing: tuple(guard for guard in guards if crossing in guard.crossings) for crossing in Crossing
        }

    def judge(
        self, crossing: Crossing, content: T, context: GuardContext, *, approved: bool = False
    ) -> Judgement[T]:
        """Judge one content. With `approved`, a person has agreed to this very call: `hold` no longer stops it."""
        decision = Decision.ALLOW
        verdicts: list[Verdict] = []
        for guard in self._by_crossing[crossing]:
            finding = _judge_safely(guard, crossing, content, context)
            verdict = Verdict(
                guard=guard.name, version=guard.version, decision=finding.decision, reason=finding.reason
            )
            verdicts.append(verdict)
            decision = max(decision, finding.decision, key=_STRICTNESS.index)
            if finding.decision is Decision.DENY:
                break
            if finding.decision is Decision.MODIFY and isinstance(finding.content, type(content)):
                content = finding.content
        passes = decision in {Decision.ALLOW, Decision.MODIFY} or (approved and decision is Decision.HOLD)
        return Judgement(
            decision=decision,
            verdicts=tuple(verdicts),
            content=content,
            cleared=Cleared(content) if passes else None,
        )


def _judge_safely(guard: Guard, crossing: Crossing, content: object, context: GuardContext) -> Finding:
    try:
        finding = cast("object", guard.judge(crossing, content, context))
    except Exception:  # noqa: BLE001 - whatever goes wrong in a guard, the answer is no
        return _FAILED
    if not isinstance(finding, Finding):
        return _FAILED
    changes = finding.decision is Decision.MODIFY
    return _FAILED if changes and not isinstance(finding.content, type(content)) else finding
