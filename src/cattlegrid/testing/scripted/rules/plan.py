"""Runs plans: what a speaker wants to find out, do and say, over a conversation that shows what was done so far.

A plan is a generator: it yields the call that it needs next, is sent what came back, and returns what to say. Since a
plan is run anew from the calls that the request shows, nothing is remembered between requests; a call that was not
made yet ends the turn. Several plans go on side by side, so their calls are made in parallel.
"""

from collections.abc import Generator

from cattlegrid.testing.scripted.conversation import Call, Conversation, Done
from cattlegrid.testing.scripted.reply import Reply
from cattlegrid.testing.scripted.rules.outcome import MISSING, Outcome, outcome_of

MAX_CALLS = 8
Plan = Generator[Call, Outcome, str]


def follow(plans: list[Plan], conversation: Conversation) -> Reply:
    """Bring all plans as far as they come: the calls that they need now, or else all that they have to say."""
    said: list[str] = []
    needed: list[Call] = []
    for plan in plans:
        step = _advance(plan, conversation)
        if isinstance(step, str):
            said.append(step)
        elif step not in needed:
            needed.append(step)
    if needed and conversation.may_call:
        return Reply(calls=tuple(needed[: MAX_CALLS if conversation.parallel else 1]))
    unfinished = [f"I could not finish looking into this: {call.name.replace('_', ' ')}." for call in needed]
    return Reply(text=" ".join(dict.fromkeys((*said, *unfinished))))


def _advance(plan: Plan, conversation: Conversation) -> Call | str:
    try:
        call = next(plan)
        while True:
            if call.name not in conversation.tools:
                call = plan.send(MISSING)
                continue
            result = _result_of(call, conversation.done)
            if result is None:
                return call
            call = plan.send(outcome_of(result))
    except StopIteration as end:
        return str(end.value)


def _result_of(call: Call, done: tuple[Done, ...]) -> str | None:
    return next((made.result for made in reversed(done) if made.call == call), None)
