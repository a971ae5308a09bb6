"""Turns the recorded differences between the model requests of a session back into the requests.

A request is a sequence of references. Only the session's last chat request is a base: `RequestDelta.base` names its
step, `ContextCompacted` cuts a piece out of it, and a call that is made again has itself as its base.
"""

from collections.abc import Iterable, Iterator, Sequence

from cattlegrid.core.errors import IntegrityError
from cattlegrid.journal.events import ContextCompacted, Event, StepIntended
from cattlegrid.journal.parts import RequestDelta, StepKind

Refs = tuple[str, ...]


def apply_delta(previous: Sequence[str], delta: RequestDelta) -> Refs:
    """The request that a difference leads to.

    Raises:
        IntegrityError: it keeps more than there is.
    """
    if delta.kept > len(previous):
        detail = f"{delta.kept} of {len(previous)} references kept"
        raise IntegrityError("The record of this session does not add up.", detail=detail)
    return (*previous[: delta.kept], *delta.appended)


def compact(request: Sequence[str], compacted: ContextCompacted) -> Refs:
    """What a compaction leaves of the last request; one that lies behind it drops what was never sent."""
    if compacted.start >= len(request):
        return tuple(request)
    summary = (compacted.summary_ref,) if compacted.summary_ref else ()
    return (*request[: compacted.start], *summary, *request[compacted.stop :])


def requests(events: Iterable[Event]) -> Iterator[tuple[Event, Refs]]:
    """Each intended model call of a session with the whole request that it made, oldest first.

    Raises:
        IntegrityError: a difference to something else than the last chat request.
    """
    step, request = "", Refs()
    for event in events:
        data = event.data
        if isinstance(data, ContextCompacted):
            request = compact(request, data)
        elif isinstance(data, StepIntended) and data.model is not None:
            delta = data.model.request
            if delta.base not in {"", step}:
                detail = f"{event.stream} {event.seq}: {data.step_id} is based on {delta.base}, not on {step}"
                raise IntegrityError("The record of this session does not add up.", detail=detail)
            made = apply_delta(request if delta.base else (), delta)
            if data.kind is StepKind.CHAT:
                step, request = data.step_id, made
            yield event, made
