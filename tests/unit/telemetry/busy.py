"""A world with something to trace, and the trace of one of its runs."""

from collections.abc import Callable, Iterable, Mapping

from cattlegrid.core.messages import ModelRequest
from cattlegrid.journal import events as ev
from cattlegrid.telemetry.spans import Span, content_refs, trace_of
from cattlegrid.testing.models import Answer, answer, call
from cattlegrid.testing.world import World, bundle_of, tool_of

SECRET = "xyzzy-plugh-4711"
LOOK = tool_of("look", arguments={"word": "string"})
REFUND = tool_of("refund", effect="write", retry="keyed", arguments={"amount": "number"})


def _talk(request: ModelRequest) -> Answer:
    """Looks, refunds first when asked to, and repeats what it was told."""
    said = [message for message in request.messages if message.role.value == "user"][-1].text
    results = [message for message in request.messages if message.role.value == "tool"]
    if said.startswith("Refund") and not results:
        return answer(calls=[call("refund", amount=79.9)])
    if len(results) < 1 + said.startswith("Refund"):
        return answer(calls=[call("look", call_id=f"c{len(results)}", word=said)])
    return answer(f"Done: {said}")


def held_world(
    *,
    model: Iterable[Answer] | Callable[[ModelRequest], Answer] = _talk,
    functions: Mapping[str, Callable[..., object]] | None = None,
) -> World:
    """A world with a tool that reads and one whose calls above 50 need a person."""
    own: dict[str, Callable[..., object]] = {
        "look": lambda word: {"found": word},
        "refund": lambda amount: amount,
    }
    return World(
        bundle_of("support", tools=[LOOK, REFUND], approve={"refund": "amount > 50"}),
        model=model,
        functions={**own, **(functions or {})},
    )


async def traced(world: World, run_id: str, *, content: bool = False) -> list[Span]:
    """The trace of a run, from the journal alone."""
    entry = await world.store.entry("run", run_id)
    assert entry is not None
    everything = await world.events(entry.stream)
    events = [event for event in everything if event.run_id == run_id]
    opened = everything[0].data
    assert isinstance(opened, ev.SessionOpened)
    found = await world.vault.read(entry.owner, content_refs(events)) if content else {}
    return trace_of(opened, events, texts={ref: text.decode() for ref, text in found.items()})
