"""Plays the customer service of a shop: a plan for each wish, over the tools of the reference agent and the scaffold.

The plans say only what tools said. How a plan is run is in `plan.py`, how wishes are read in `english.py`.
"""

import re
from collections.abc import Callable

from cattlegrid.testing.scripted.conversation import Call, Conversation
from cattlegrid.testing.scripted.reply import Reply
from cattlegrid.testing.scripted.rules.english import Kind, Wish, asked_about, noted, read, words_of
from cattlegrid.testing.scripted.rules.outcome import MISSING, Outcome
from cattlegrid.testing.scripted.rules.plan import Plan, follow

_REASONS = (
    ("arrived broken", r"\bbrok|\bcrack|\bshatter"),
    ("arrived damaged", r"\bdamag|\bdent|\bscratch"),
    ("does not work", r"\bdefect|\bfault|\bwork|\bleak"),
    ("wrong article", r"\bwrong\b"),
)


def shop(conversation: Conversation) -> Reply | None:
    """Play the shop's agent; None when the tools are not those of a shop."""
    if not {"find_order", "refund"} <= conversation.tools.keys():
        return None
    return follow(plans_of(conversation), conversation)


def plans_of(conversation: Conversation) -> list[Plan]:
    """One plan for each wish of the last message."""
    wishes = read(conversation.user, conversation.before)
    return [PLANS[wish.kind](wish, conversation) for wish in wishes]


def _refund(wish: Wish, conversation: Conversation) -> Plan:
    if wish.order is None:
        return (yield from _ask_for_order())
    order = wish.order
    found = yield _on_order("find_order", order)
    if not found.ok:
        return f"I could not look up order {order}: {found.reason}"
    checked = yield _on_order("return_eligibility", order)
    if checked.ok and not checked.field("eligible"):
        return f"I cannot refund order {order}: {checked.text('reason')}"
    if not checked.ok and checked is not MISSING:
        return f"I could not check whether order {order} can be returned: {checked.reason}"
    left = (
        checked.number("refundable_eur")
        if checked.ok
        else found.number("total_eur") - found.number("refunded_eur")
    )
    amount = round(wish.amount or left, 2)
    if left <= 0:
        return f"Nothing is left to refund for order {order}."
    if amount > left + 0.001:
        return (
            f"At most {left:.2f} euros can be refunded for order {order}, so I have not refunded {amount:.2f}."
            f" Shall I refund {left:.2f} euros for order {order}?"
        )
    reason = _reason(f"{conversation.user} {wish.text}")
    made = yield Call("refund", {"order": order, "amount": amount, "reason": reason})
    what = f"The refund of {amount:.2f} euros for order {order}"
    return (
        _not_done(what, made)
        or f"I have refunded {made.number('amount_eur') or amount:.2f} euros for order {order}."
    )


def _cancel(wish: Wish, _: Conversation) -> Plan:
    if wish.order is None:
        return (yield from _ask_for_order())
    found = yield _on_order("find_order", wish.order)
    if not found.ok:
        return f"I could not look up order {wish.order}: {found.reason}"
    if found.text("status") != "placed":
        return f"I cannot cancel order {wish.order}: it is {found.text('status')}."
    made = yield _on_order("cancel_order", wish.order)
    return (
        _not_done(f"The cancellation of order {wish.order}", made) or f"I have cancelled order {wish.order}."
    )


def _address(wish: Wish, _: Conversation) -> Plan:
    if wish.order is None:
        return (yield from _ask_for_order())
    if not re.search(r"\d", _without_order(wish.text)):
        return f"What is the new address for order {wish.order}?"
    made = yield Call("change_address", {"order": wish.order, "address": wish.text})
    done = f"The address of order {wish.order} is now: {made.text('address') or wish.text}."
    return _not_done(f"The change of address of order {wish.order}", made) or done


def _where(wish: Wish, _: Conversation) -> Plan:
    if wish.order is None:
        return (yield from _ask_for_order())
    found = yield _on_order("delivery_status", wish.order)
    if found is MISSING:
        found = yield _on_order("find_order", wish.order)
    if not found.ok:
        return f"I could not look up order {wish.order}: {found.reason}"
    parts = [f"Order {wish.order} is {found.text('status')}"]
    if carrier := found.text("carrier"):
        parts.append(f"with {carrier}, tracking {found.text('tracking')}")
    if expected := found.text("expected_on"):
        parts.append(f"expected on {expected}")
    if delivered := found.text("delivered_on"):
        parts.append(f"delivered on {delivered}")
    return ", ".join(parts) + "."


def _eligibility(wish: Wish, _: Conversation) -> Plan:
    if wish.order is None:
        return (yield from _ask_for_order())
    checked = yield _on_order("return_eligibility", wish.order)
    if checked is MISSING:
        return (yield from _find(wish, _))
    if not checked.ok:
        return f"I could not check order {wish.order}: {checked.reason}"
    if not checked.field("eligible"):
        return f"No refund is possible for order {wish.order}: {checked.text('reason')}"
    left = f"{checked.number('refundable_eur'):.2f}"
    offer = f"Shall I refund {left} euros for order {wish.order}?"
    return f"{checked.text('reason')} Up to {left} euros can be refunded. {offer}"


def _find(wish: Wish, _: Conversation) -> Plan:
    if wish.order is None:
        return (yield from _ask_for_order())
    found = yield _on_order("find_order", wish.order)
    if not found.ok:
        return f"I could not look up order {wish.order}: {found.reason}"
    items = ", ".join(f"{item.text('quantity')} x {item.text('name')}" for item in found.items("items"))
    total = f"{found.number('total_eur'):.2f} euros"
    refunded = found.number("refunded_eur")
    tail = f", of which {refunded:.2f} euros were refunded" if refunded else ""
    return f"Order {wish.order} ({items}) is {found.text('status')}; its total is {total}{tail}."


def _list(_: Wish, __: Conversation) -> Plan:
    found = yield Call("list_orders", {})
    if not found.ok:
        return f"I could not list your orders: {found.reason}"
    return f"Your orders: {_orders(found)}." if found.items() else "I found no orders of yours."


def _product(wish: Wish, _: Conversation) -> Plan:
    query = words_of(re.sub(r"\bcosts?\b", " ", wish.text))
    found = yield Call("search", {"query": query})
    if not found.ok:
        return f"I could not search: {found.reason}"
    products = found.items("products")
    named = [product for product in products if _speaks_of(product, query)]
    if named:
        return f"Yes: {'; '.join(_offer(product) for product in named[:3])}."
    closest = f" The closest: {'; '.join(_offer(product) for product in products[:2])}." if products else ""
    return f"I found no {query} in our shop.{closest}"


def _policy(wish: Wish, _: Conversation) -> Plan:
    found = yield Call("search", {"query": words_of(wish.text)})
    if not found.ok:
        return f"I could not search: {found.reason}"
    articles = found.items("articles")
    if articles:
        return f"{articles[0].text('title')}: {articles[0].text('text')}"
    return "I found nothing about that in our knowledge base. Shall I hand you over to a colleague?"


def _person(wish: Wish, conversation: Conversation) -> Plan:
    said = [line.text for line in conversation.before if line.role == "user"]
    summary = " / ".join((*said[-2:], conversation.user or wish.text))[:300]
    made = yield Call("hand_over", {"summary": f"The customer asks for a person. {summary}"})
    ticket = f" (ticket {made.text('ticket')})" if made.text("ticket") else ""
    answer = f" You get an answer within {made.text('answer_within')}." if made.text("answer_within") else ""
    return _not_done("The handover", made) or f"I have handed this over to a colleague{ticket}.{answer}"


def _complaint(wish: Wish, conversation: Conversation) -> Plan:
    answer = yield from _eligibility(wish, conversation)
    return f"I am sorry about that. {answer}"


def _note(_: Wish, conversation: Conversation) -> Plan:
    yield from ()
    told = ", ".join(f"your {thing} is {value}" for thing, value in noted([conversation.user]).items())
    return f"Thank you, I have noted: {told or 'that'}."


def _recall(wish: Wish, conversation: Conversation) -> Plan:
    yield from ()
    thing = asked_about(wish.text)
    value = noted([*(line.text for line in conversation.before), conversation.user]).get(thing)
    return f"You told me that your {thing} is {value}." if value else f"You have not told me your {thing}."


def _chat(wish: Wish, _: Conversation) -> Plan:
    yield from ()
    if re.match(r"\s*(?:thank|bye|goodbye|great|ok)", wish.text, re.IGNORECASE):
        return "You are welcome."
    return (
        "Hello! I can help with orders, deliveries, returns, refunds and our products. What can I do for you?"
    )


PLANS: dict[Kind, Callable[[Wish, Conversation], Plan]] = {
    "address": _address,
    "cancel": _cancel,
    "chat": _chat,
    "complaint": _complaint,
    "eligibility": _eligibility,
    "find": _find,
    "list": _list,
    "note": _note,
    "person": _person,
    "policy": _policy,
    "product": _product,
    "recall": _recall,
    "refund": _refund,
    "where": _where,
}


def _on_order(name: str, order: int) -> Call:
    return Call(name, {"order": order})


def _ask_for_order() -> Plan:
    found = yield Call("list_orders", {})
    orders = f" Your orders: {_orders(found)}." if found.ok and found.items() else ""
    return f"Which order do you mean? Please give me its number.{orders}"


def _orders(found: Outcome) -> str:
    return "; ".join(
        f"{order.text('order')} ({order.text('status')}, {order.number('total_eur'):.2f} euros)"
        for order in found.items()
    )


def _not_done(what: str, made: Outcome) -> str:
    """What to say of an effect that did not surely happen; empty when it did."""
    if made.ok and isinstance(made.value, dict):
        return ""
    if made.ok:
        return f"{what} may or may not have been made: the answer was not clear. A colleague has to look into it."
    if made.waits:
        return f"{what} waits for a colleague to confirm it."
    if made.open:
        return f"{what} may or may not have been made: {made.reason} A colleague has to look into it."
    return f"{what} was not made: {made.reason}"


def _offer(product: Outcome) -> str:
    return f"{product.text('name')}, {product.number('price_eur'):.2f} euros, {product.text('in_stock')} in stock"


def _speaks_of(product: Outcome, query: str) -> bool:
    text = f"{product.text('name')} {product.text('description')}".lower()
    return all(word.rstrip("s") in text for word in query.split())


def _reason(text: str) -> str:
    return next(
        (reason for reason, pattern in _REASONS if re.search(pattern, text, re.IGNORECASE)), "customer asked"
    )


def _without_order(text: str) -> str:
    return re.sub(r"\border\s*#?\d+", " ", text, flags=re.IGNORECASE)
