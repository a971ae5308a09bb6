"""Decides when the history no longer fits the model's context, and which part of it goes.

Sizes are upper bounds: what the provider counted for the last request plus a token for every three bytes since. What
goes is a range of messages that were already sent: earlier runs first, then earlier turns of the open run, always
whole turns, down to half of the limit, so that the kept prefix stays the same for many turns (and a provider's prompt
cache with it).
"""

from typing import Final

import msgspec

from cattlegrid.core.bundle import Bundle
from cattlegrid.runtime.state import MessageRef, Part, Session

_BYTES_PER_TOKEN: Final = 3
_SYSTEM: Final = 1


class Span(msgspec.Struct, frozen=True):
    """Messages `start` to `stop` (exclusive) of the session's context."""

    start: int
    stop: int


def estimated_tokens(session: Session, bundle: Bundle) -> int:
    """An upper bound of the next request's input tokens."""
    new_bytes = _bytes(session.pending)
    if session.context_tokens:
        return session.context_tokens + new_bytes // _BYTES_PER_TOKEN
    return (_fixed_bytes(bundle) + _bytes(session.context) + new_bytes) // _BYTES_PER_TOKEN


def span_to_drop(session: Session, bundle: Bundle) -> Span | None:
    """The messages to drop so that half of the limit is left free; None when nothing more can go.

    A summary goes together with what came after it; alone only when there is nothing else.
    """
    context = session.context
    place = _open_input(session)
    earlier = _SYSTEM, _stops(context, _SYSTEM, len(context) if place is None else place, Part.INPUT)
    first = len(context) if place is None else place + 1
    own = first, _stops(context, first, len(context), Part.ASSISTANT)
    summary_alone = [2] if len(context) > _SYSTEM and context[_SYSTEM].part is Part.SUMMARY else []
    for start, stops in (earlier, own, (_SYSTEM, summary_alone)):
        if stops:
            target_bytes = bundle.context.max_tokens * _BYTES_PER_TOKEN // 2
            excess = _fixed_bytes(bundle) + _bytes(context) + _bytes(session.pending) - target_bytes
            enough = (stop for stop in stops if _bytes(context[start:stop]) >= excess)
            return Span(start, next(enough, stops[-1]))
    return None


def holds_turns(session: Session, span: Span) -> bool:
    """Whether a part of the history is more than a summary of what went before."""
    return any(message.part is not Part.SUMMARY for message in session.context[span.start : span.stop])


def _stops(context: tuple[MessageRef, ...], start: int, end: int, first: Part) -> list[int]:
    """Where a span from `start` may end: before a message that begins a turn, or at `end`; never a summary alone."""
    places = [place for place in range(start + 1, end) if context[place].part is first]
    if end > start:
        places.append(end)
    return [stop for stop in places if any(part.part is not Part.SUMMARY for part in context[start:stop])]


def _open_input(session: Session) -> int | None:
    """Where the open run's input stands in the context; None while it is still pending."""
    if session.run is None or any(message.part is Part.INPUT for message in session.pending):
        return None
    places = [place for place, message in enumerate(session.context) if message.part is Part.INPUT]
    return places[-1] if places else None


def _fixed_bytes(bundle: Bundle) -> int:
    tools = sum(len(tool.description) + len(tool.parameters) for tool in bundle.offered_tools)
    return len(bundle.system_prompt) + tools


def _bytes(messages: tuple[MessageRef, ...]) -> int:
    return sum(message.size_bytes for message in messages)
