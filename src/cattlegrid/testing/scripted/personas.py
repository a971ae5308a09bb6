"""Five ways to behave, each a pure function from a conversation and a seed to a reply.

careful    the right behaviour
gullible   does what text in tool results tells it to do and to say
looping    never has enough: it searches again and again until it may call no more
inventive  calls tools that do not exist, or with wrong arguments, and then claims what was never done
flaky      careful, behind a service that fails now and then (see `faults.py`)
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, cast, get_args

import msgspec

from cattlegrid.core.errors import InvalidRequest
from cattlegrid.testing.scripted.conversation import Call, Conversation, Offered
from cattlegrid.testing.scripted.reply import Reply, pick
from cattlegrid.testing.scripted.rules import careful
from cattlegrid.testing.scripted.rules.english import Wish, read, words_of
from cattlegrid.testing.scripted.rules.generic import spelled_out

Persona = Literal["careful", "gullible", "looping", "inventive", "flaky"]
PERSONAS: tuple[Persona, ...] = get_args(Persona)
AMOUNT_THAT_NOBODY_NAMED = 50.0

_ORDERS_A_MODEL = re.compile(
    r"\b(?:ignore|disregard|forget)\b.{0,60}\b(?:instructions?|rules?|prompt)\b|\b(?:system|assistant|ai)\s*[:,]"
    r"|\byou must\b|\bnew instructions?\b|\bimportant\s*:",
    re.IGNORECASE | re.DOTALL,
)
_TELLS_TO_SAY = re.compile(
    r"\b(?:tell the (?:customer|user)|say|reply|answer)(?: that|:| with)\s+(.+)", re.IGNORECASE
)


def as_persona(name: str) -> Persona:
    """Check a persona's name. Raises InvalidRequest."""
    for persona in PERSONAS:
        if persona == name:
            return persona
    raise InvalidRequest(f"'{name}' is no persona: write one of {', '.join(PERSONAS)}")


def respond(conversation: Conversation, *, persona: Persona, seed: int) -> Reply:
    """What the persona says next."""
    return _BEHAVIOUR[persona](conversation, seed)


def _careful(conversation: Conversation, _: int) -> Reply:
    return careful(conversation)


def _gullible(conversation: Conversation, _: int) -> Reply:
    orders = [
        text for done in conversation.done for text in _texts(done.result) if _ORDERS_A_MODEL.search(text)
    ]
    known = [done.call for done in conversation.done]
    calls: list[Call] = []
    for call in (call for text in orders for call in _ordered(text)):
        if call.name in conversation.tools and call not in known and call not in calls:
            calls.append(call)
    if calls and conversation.may_call:
        return Reply(calls=tuple(calls if conversation.parallel else calls[:1]))
    reply = careful(conversation)
    said = [found[1].strip() for text in orders if (found := _TELLS_TO_SAY.search(text))]
    return reply if reply.calls else Reply(text=" ".join((reply.text, *said)))


def _looping(conversation: Conversation, _: int) -> Reply:
    tool = _preferred(conversation, ("search", "find", "list", "look", "get"))
    if tool is None:
        return careful(conversation)
    turns = len(conversation.done)
    if not conversation.may_call:
        last = conversation.done[-1].result[:200] if turns else "nothing"
        return Reply(text=f"I have looked {turns} times and would have gone on looking. So far: {last}")
    words = words_of(conversation.user)
    variants = (words, words, f"{words} more", f"more about {words}", f"{words} details {turns}")
    return Reply(calls=(Call(tool.name, _arguments_like(variants[turns % len(variants)], tool.parameters)),))


def _inventive(conversation: Conversation, seed: int) -> Reply:
    turns = len(conversation.done)
    if conversation.may_call and turns == 0:
        amount = 10.0 + pick(90, "credit", seed, conversation.user)
        return Reply(calls=(Call("issue_store_credit", {"customer": "everybody", "amount": amount}),))
    tool = _preferred(conversation, ("refund", "cancel", "change"))
    if conversation.may_call and turns == 1 and tool is not None:
        return Reply(calls=(Call(tool.name, {"order": "seventeen", "amount": "all of it"}),))
    order = next((wish.order for wish in read(conversation.user, conversation.before) if wish.order), 17)
    days = 100 + pick(900, "days", seed, conversation.user)
    return Reply(
        text=f"I have refunded everything you paid for order {order} and put a voucher of 25.00 euros on top."
        f" By the way, you can return anything within {days} days, and your parcel arrives tomorrow before noon."
    )


_BEHAVIOUR: dict[Persona, Callable[[Conversation, int], Reply]] = {
    "careful": _careful,
    "gullible": _gullible,
    "looping": _looping,
    "inventive": _inventive,
    "flaky": _careful,
}


def _texts(result: str) -> Iterator[str]:
    """All texts in a tool result, however deep in its JSON."""
    try:
        value = msgspec.json.decode(result)
    except msgspec.DecodeError:
        value = result
    todo: list[object] = [value]
    while todo:
        item = todo.pop(0)
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            todo.extend(cast("dict[str, object]", item).values())
        elif isinstance(item, list):
            todo.extend(cast("list[object]", item))


def _ordered(text: str) -> list[Call]:
    """The calls that a text asks for, spelled out or in plain English."""
    wishes = read(text)
    amount = next((wish.amount for wish in wishes if wish.amount), AMOUNT_THAT_NOBODY_NAMED)
    called = (_call_for(wish, wish.amount or amount) for wish in wishes)
    return [*spelled_out(text), *(call for call in called if call is not None)]


def _call_for(wish: Wish, amount: float) -> Call | None:
    match wish:
        case Wish(kind="refund", order=int(order)):
            return Call("refund", {"order": order, "amount": amount, "reason": "as instructed"})
        case Wish(kind="cancel", order=int(order)):
            return Call("cancel_order", {"order": order})
        case Wish(kind="address", order=int(order), text=address):
            return Call("change_address", {"order": order, "address": address})
        case Wish(kind="person", text=text):
            return Call("hand_over", {"summary": text})
        case _:
            return None


def _preferred(conversation: Conversation, beginnings: tuple[str, ...]) -> Offered | None:
    """The offered tool whose name begins as wished, else the first one, else None."""
    names = sorted(conversation.tools)
    fitting = (name for beginning in beginnings for name in names if name.startswith(beginning))
    name = next(fitting, names[0] if names else "")
    return conversation.tools.get(name)


def _arguments_like(text: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Arguments that a schema most likely accepts: the text for strings, 1 for numbers."""
    properties: dict[str, dict[str, Any]] = parameters.get("properties", {})
    required: list[str] = parameters.get("required", [])
    return {name: _value_like(text, properties.get(name, {})) for name in required}


def _value_like(text: str, schema: dict[str, Any]) -> object:
    if schema.get("enum"):
        return schema["enum"][0]
    plain: dict[str, object] = {"integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}
    return plain.get(str(schema.get("type", "string")), text)
