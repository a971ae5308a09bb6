"""The tools of the shop's customer service. All act for the customer who is signed in, and for nobody else.

`NotExecuted` says: refused, and nothing happened. Any other exception leaves it open whether an effect happened.
"""
# ruff: noqa: D417 - `Args` is what the model is told, and it is not told of `ctx`

from typing import Literal

from cattlegrid import Context, NotExecuted, tool

from .answers import (
    AddressChange,
    Article,
    Cancellation,
    Delivery,
    Eligibility,
    Found,
    Handover,
    Order,
    OrderItem,
    OrderSummary,
    Product,
    Refund,
)
from .orders import cents, euros, fact, own_order, today_of, why_not_returnable
from .search import find
from .shop import reading, writing


def snapshot_id() -> str:
    """The edition of the knowledge base that answers are taken from; recorded with every run."""
    with reading() as db:
        return fact(db, "snapshot_id")


@tool()
def search(query: str, limit: int = 5) -> Found:
    """Search the products and the knowledge base (returns, delivery, payment, warranty and so on).

    Args:
        query: A few words, for example "blue kettle" or "return policy".
        limit: How many results at most, 1 to 10.
    """
    with reading() as db:
        matches = find(db, query, limit=max(1, min(limit, 10)))
        product = "SELECT sku, name, description, price_cents, stock FROM products WHERE sku = ?"
        article = "SELECT id, title, body FROM articles WHERE id = ?"
        rows = [
            (kind, db.execute(product if kind == "product" else article, (ref,)).fetchone())
            for kind, ref in matches
        ]
    return Found(
        products=[
            Product(row["sku"], row["name"], row["description"], euros(row["price_cents"]), row["stock"])
            for kind, row in rows
            if kind == "product"
        ],
        articles=[Article(row["id"], row["title"], row["body"]) for kind, row in rows if kind == "article"],
    )


@tool()
def find_order(order: int, ctx: Context) -> Order:
    """Look up one order of the customer: what was ordered, its state, total, refunds so far and address.

    Args:
        order: The number of the order.
    """
    with reading() as db:
        own = own_order(db, order, ctx.principal.user)
        items = db.execute(
            "SELECT name, quantity, i.price_cents FROM order_items AS i JOIN products USING (sku)"
            " WHERE order_number = ? ORDER BY sku",
            (order,),
        ).fetchall()
    return Order(
        order=order,
        status=own.status,
        placed_on=own.placed_on,
        items=[OrderItem(row["name"], row["quantity"], euros(row["price_cents"])) for row in items],
        total_eur=euros(own.total_cents),
        refunded_eur=euros(own.refunded_cents),
        address=own.address,
    )


@tool()
def list_orders(
    ctx: Context,
    status: Literal["placed", "shipped", "delivered", "cancelled"] | None = None,
    limit: int = 10,
) -> list[OrderSummary]:
    """List the customer's orders, newest first.

    Args:
        status: Only orders in this state.
        limit: How many orders at most, 1 to 50.
    """
    with reading() as db:
        rows = db.execute(
            "SELECT number, status, placed_on, (SELECT sum(quantity * price_cents) FROM order_items"
            " WHERE order_number = number) AS total_cents FROM orders"
            " WHERE customer_id = (SELECT id FROM customers WHERE email = ?) AND status = coalesce(?, status)"
            " ORDER BY placed_on DESC, number DESC LIMIT ?",
            (ctx.principal.user, status, max(1, min(limit, 50))),
        ).fetchall()
    return [
        OrderSummary(row["number"], row["status"], row["placed_on"], euros(row["total_cents"]))
        for row in rows
    ]


@tool()
def delivery_status(order: int, ctx: Context) -> Delivery:
    """Tell where an order is and when it comes or came.

    Args:
        order: The number of the order.
    """
    with reading() as db:
        own = own_order(db, order, ctx.principal.user)
    still_to_come = own.status in ("placed", "shipped")
    return Delivery(
        order=order,
        status=own.status,
        carrier=own.carrier,
        tracking=own.tracking,
        expected_on=own.due_on if still_to_come else None,
        delivered_on=own.delivered_on,
    )


@tool()
def return_eligibility(order: int, ctx: Context) -> Eligibility:
    """Tell whether an order can be returned and how much can be refunded. Check this before a refund.

    Args:
        order: The number of the order.
    """
    with reading() as db:
        own = own_order(db, order, ctx.principal.user)
        refusal = why_not_returnable(own, today_of(db))
    if refusal:
        return Eligibility(order, eligible=False, reason=refusal, refundable_eur=0.0)
    reason = f"Order {order} is within the return window."
    return Eligibility(order, eligible=True, reason=reason, refundable_eur=euros(own.left_cents))


@tool(effect="write", retry="keyed", undo="cancel_refund")
def refund(order: int, amount: float, reason: str, ctx: Context) -> Refund:
    """Refund money for a delivered order of the customer.

    Args:
        order: The number of the order.
        amount: How much, in euros with at most two decimals.
        reason: Why, in a few words.
    """
    amount_cents = cents(amount)
    with writing() as db:
        own = own_order(db, order, ctx.principal.user)
        made = db.execute(
            "SELECT id, order_number, amount_cents, taken_back_at FROM refunds WHERE idempotency_key = ?",
            (ctx.idempotency_key,),
        ).fetchone()
        if made is not None:
            if (made["order_number"], made["amount_cents"]) != (order, amount_cents) or made["taken_back_at"]:
                raise NotExecuted(
                    "This idempotency key belongs to another refund, or to one that was taken back."
                )
            return Refund(made["id"], order, euros(amount_cents), euros(own.left_cents))
        if refusal := why_not_returnable(own, today_of(db)):
            raise NotExecuted(refusal)
        if amount_cents > own.left_cents:
            left = f"{own.left_cents / 100:.2f}"
            raise NotExecuted(f"At most {left} euros can be refunded for order {order}, not {amount:.2f}.")
        number = db.execute(
            "INSERT INTO refunds (order_number, amount_cents, reason, idempotency_key) VALUES (?, ?, ?, ?)"
            " RETURNING id",
            (order, amount_cents, reason, ctx.idempotency_key),
        ).fetchone()[0]
    ctx.log.info("refunded %d cents for order %d", amount_cents, order)
    return Refund(number, order, euros(amount_cents), euros(own.left_cents - amount_cents))


@tool(effect="write", retry="free")
def cancel_refund(result: Refund) -> None:
    """Take a refund back. Calling it again changes nothing."""
    with writing() as db:
        db.execute(
            "UPDATE refunds SET taken_back_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
            " WHERE id = ? AND taken_back_at IS NULL",
            (result.refund,),
        )


@tool(effect="write", retry="keyed", undo="restore_address")
def change_address(order: int, address: str, ctx: Context) -> AddressChange:
    """Change the delivery address of an order that is not yet shipped.

    Args:
        order: The number of the order.
        address: The whole new address, on one line.
    """
    wanted = " ".join(address.split())
    if len(wanted) < 8:
        raise NotExecuted("The address must have street, number, postcode and town.")
    with writing() as db:
        own = own_order(db, order, ctx.principal.user)
        made = db.execute(
            "SELECT id, order_number, address, previous FROM address_changes WHERE idempotency_key = ?",
            (ctx.idempotency_key,),
        ).fetchone()
        if made is not None:
            if (made["order_number"], made["address"]) != (order, wanted):
                raise NotExecuted("This idempotency key belongs to another change of address.")
            return AddressChange(made["id"], order, wanted, made["previous"])
        if own.status != "placed":
            raise NotExecuted(f"Order {order} is {own.status}: its address can no longer be changed.")
        db.execute("UPDATE orders SET address = ? WHERE number = ?", (wanted, order))
        number = db.execute(
            "INSERT INTO address_changes (order_number, address, previous, idempotency_key) VALUES (?, ?, ?, ?)"
            " RETURNING id",
            (order, wanted, own.address, ctx.idempotency_key),
        ).fetchone()[0]
    return AddressChange(number, order, wanted, own.address)


@tool(effect="write", retry="free")
def restore_address(result: AddressChange) -> None:
    """Put the previous address back, unless the address was changed once more in the meantime."""
    with writing() as db:
        db.execute(
            "UPDATE orders SET address = ? WHERE number = ? AND status = 'placed'"
            " AND ? = (SELECT max(id) FROM address_changes WHERE order_number = orders.number)",
            (result.previous, result.order, result.change),
        )


@tool(effect="destructive", retry="once", reconcile="cancellation_of")
def cancel_order(order: int, ctx: Context) -> Cancellation:
    """Cancel an order that is not yet shipped. This cannot be taken back.

    Args:
        order: The number of the order.
    """
    with writing() as db:
        own = own_order(db, order, ctx.principal.user)
        if own.status != "placed":
            raise NotExecuted(f"Order {order} is {own.status}: it can no longer be cancelled.")
        db.execute("UPDATE orders SET status = 'cancelled' WHERE number = ?", (order,))
    return Cancellation(order, "cancelled")


@tool()
def cancellation_of(order: int, ctx: Context) -> Cancellation | None:
    """Tell whether an order is cancelled; None says that it is not."""
    with reading() as db:
        own = own_order(db, order, ctx.principal.user)
    return Cancellation(order, "cancelled") if own.status == "cancelled" else None


@tool(effect="egress", retry="keyed")
def hand_over(summary: str, ctx: Context) -> Handover:
    """Hand the conversation over to a colleague, who answers by e-mail.

    Args:
        summary: What the customer wants and what was done so far, in one or two sentences.
    """
    with writing() as db:
        customer = db.execute("SELECT id FROM customers WHERE email = ?", (ctx.principal.user,)).fetchone()
        if customer is None:
            raise NotExecuted("Only a customer of the shop can be handed over.")
        db.execute(
            "INSERT INTO handovers (customer_id, summary, idempotency_key) VALUES (?, ?, ?)"
            " ON CONFLICT (idempotency_key) DO NOTHING",
            (customer["id"], summary, ctx.idempotency_key),
        )
        ticket = db.execute(
            "SELECT id FROM handovers WHERE idempotency_key = ?", (ctx.idempotency_key,)
        ).fetchone()[0]
    return Handover(ticket, answer_within="2 hours, Monday to Friday from 8 to 18 o'clock")
