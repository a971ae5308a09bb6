"""One customer's order as the database has it, and the shop's rules about it: nothing here speaks to a model."""

import sqlite3
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from cattlegrid import NotExecuted

from .seed import RETURN_WINDOW_DAYS

# The customer is part of the question, so somebody else's order looks like one that does not exist.
OWN_ORDER = """
SELECT o.status, o.address, o.placed_on, o.due_on, o.delivered_on, o.carrier, o.tracking,
  (SELECT sum(quantity * price_cents) FROM order_items WHERE order_number = o.number) AS total_cents,
  (SELECT coalesce(sum(amount_cents), 0) FROM refunds
    WHERE order_number = o.number AND taken_back_at IS NULL) AS refunded_cents,
  (SELECT min(returnable) FROM order_items JOIN products USING (sku) WHERE order_number = o.number) AS returnable
FROM orders AS o JOIN customers AS c ON c.id = o.customer_id
WHERE o.number = ? AND c.email = ?
"""


@dataclass(frozen=True)
class OwnOrder:
    """An order that belongs to the customer who asks: its number, and the columns of `OWN_ORDER` in their order."""

    number: int
    status: str
    address: str
    placed_on: str
    due_on: str
    delivered_on: str | None
    carrier: str | None
    tracking: str | None
    total_cents: int
    refunded_cents: int
    returnable: int

    @property
    def left_cents(self) -> int:
        """What was paid and not yet refunded. An order is charged when it is shipped."""
        charged = self.status in ("shipped", "delivered")
        return self.total_cents - self.refunded_cents if charged else 0


def own_order(db: sqlite3.Connection, number: int, email: str) -> OwnOrder:
    """Raises NotExecuted, with the same words, for an order that is missing and for one of somebody else."""
    row = db.execute(OWN_ORDER, (number, email)).fetchone()
    if row is None:
        raise NotExecuted(f"There is no order {number} for this customer.")
    return OwnOrder(number, *row)


def today_of(db: sqlite3.Connection) -> date:
    """The shop's date, written when it was seeded."""
    return date.fromisoformat(fact(db, "today"))


def fact(db: sqlite3.Connection, name: str) -> str:
    """A value of the shop's table of facts."""
    return str(db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0])


def why_not_returnable(order: OwnOrder, today: date) -> str | None:
    """The reason why nothing can be refunded for the order, or None when something can."""
    if order.status != "delivered" or order.delivered_on is None:
        return f"Order {order.number} is {order.status}, not delivered."
    if not order.returnable:
        return f"Order {order.number} holds an article that cannot be returned."
    last_day = date.fromisoformat(order.delivered_on) + timedelta(days=RETURN_WINDOW_DAYS)
    if today > last_day:
        return f"Order {order.number} could be returned until {last_day.isoformat()}."
    if order.left_cents == 0:
        return f"Order {order.number} has been refunded in full."
    return None


def euros(cents: int) -> float:
    """Cents as euros, with at most two decimals."""
    return round(cents / 100, 2)


def cents(amount_eur: float) -> int:
    """Euros as cents. Raises NotExecuted for what is no amount of money."""
    exact = Decimal(str(amount_eur)) * 100
    if not exact.is_finite() or exact <= 0 or exact != exact.to_integral_value():
        raise NotExecuted(f"{amount_eur} is not an amount in euros and cents.")
    return int(exact)
