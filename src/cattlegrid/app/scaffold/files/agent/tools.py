"""The tools of a small shop's customer service, over a SQLite file that is filled on first use.

Tools act for the signed-in customer (`ctx.principal`), never for one that the model names. Money is integer cents in
the database. `NotExecuted` says: refused, and nothing happened.
"""
# ruff: noqa: D417 - `Args` is what the model is told, and it is not told of `ctx`

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from cattlegrid import Context, NotExecuted, tool

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
  number INTEGER PRIMARY KEY, customer TEXT NOT NULL, item TEXT NOT NULL, paid_cents INTEGER NOT NULL,
  status TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS refunds (
  id INTEGER PRIMARY KEY, order_number INTEGER NOT NULL REFERENCES orders, amount_cents INTEGER NOT NULL,
  reason TEXT NOT NULL, idempotency_key TEXT NOT NULL UNIQUE);
"""
ORDERS = (
    (12, "you@example.com", "Table lamp", 6490, "shipped"),
    (17, "you@example.com", "Pour-over coffee set", 7990, "delivered"),
    (18, "you@example.com", "Mug", 1290, "delivered"),
    (1041, "bo@example.com", "Espresso maker", 12900, "delivered"),
)
ARTICLES = (
    ("Return policy", "You can return what was delivered. We refund what you paid for it."),
    ("How long a refund takes", "A refund reaches your account within 5 working days."),
    ("Delivery time and cost", "Delivery takes 2 to 4 working days and costs 4.90 euros."),
)


@dataclass(frozen=True)
class Order:
    """An order of the customer. `status` is shipped or delivered."""

    order: int
    item: str
    status: str
    total_eur: float
    refunded_eur: float


@dataclass(frozen=True)
class Article:
    """An article of the knowledge base."""

    title: str
    text: str


@dataclass(frozen=True)
class Found:
    """What a search found."""

    articles: list[Article]


@dataclass(frozen=True)
class Refund:
    """A refund that was made."""

    refund: int
    order: int
    amount_eur: float


@tool()
def search(query: str) -> Found:
    """Search the knowledge base (returns, refunds, delivery).

    Args:
        query: A few words, for example "return policy".
    """
    words = [word for word in query.lower().split() if len(word) > 3]
    hits = [
        (sum(word in f"{title} {text}".lower() for word in words), title, text) for title, text in ARTICLES
    ]
    best = sorted((hit for hit in hits if hit[0]), key=lambda hit: -hit[0])
    return Found([Article(title, text) for _, title, text in best])


@tool()
def find_order(order: int, ctx: Context) -> Order:
    """Look up one order of the customer: what was ordered, its state, total and refunds so far.

    Args:
        order: The number of the order.
    """
    with transaction() as db:
        return own_order(db, order, ctx)


@tool(effect="write", retry="keyed")
def refund(order: int, amount: float, reason: str, ctx: Context) -> Refund:
    """Refund money for a delivered order of the customer.

    Args:
        order: The number of the order.
        amount: How much, in euros with at most two decimals.
        reason: Why, in a few words.
    """
    cents = Decimal(str(amount)) * 100
    if not cents.is_finite() or cents <= 0 or cents != cents.to_integral_value():
        raise NotExecuted(f"{amount} is not an amount in euros and cents.")
    with transaction() as db:
        own = own_order(db, order, ctx)
        # The key is the same each time this call is tried: what was refunded under it is not refunded again.
        made = db.execute(
            "SELECT id, order_number, amount_cents FROM refunds WHERE idempotency_key = ?",
            (ctx.idempotency_key,),
        ).fetchone()
        if made is not None:
            if made[1:] != (order, cents):
                raise NotExecuted("This idempotency key belongs to another refund.")
            return Refund(made[0], order, amount)
        left_cents = round((own.total_eur - own.refunded_eur) * 100)
        if own.status != "delivered":
            raise NotExecuted(f"Order {order} is {own.status}, not delivered.")
        if cents > left_cents:
            raise NotExecuted(
                f"At most {left_cents / 100:.2f} euros can be refunded for order {order}, not {amount:.2f}."
            )
        number = db.execute(
            "INSERT INTO refunds (order_number, amount_cents, reason, idempotency_key) VALUES (?, ?, ?, ?)"
            " RETURNING id",
            (order, int(cents), reason, ctx.idempotency_key),
        ).fetchone()[0]
    ctx.log.info("refunded %s cents for order %s", cents, order)
    return Refund(number, order, amount)


def own_order(db: sqlite3.Connection, number: int, ctx: Context) -> Order:
    """Somebody else's order looks like one that does not exist."""
    row = db.execute(
        "SELECT item, status, paid_cents, (SELECT coalesce(sum(amount_cents), 0) FROM refunds"
        " WHERE order_number = number) FROM orders WHERE number = ? AND customer = ?",
        (number, ctx.principal.user),
    ).fetchone()
    if row is None:
        raise NotExecuted(f"There is no order {number} for this customer.")
    item, status, paid_cents, refunded_cents = row
    return Order(number, item, status, paid_cents / 100, refunded_cents / 100)


@contextmanager
def transaction() -> Generator[sqlite3.Connection]:
    """A transaction that no other one can come between, on a database that is filled on first use."""
    path = database_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=5.0, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        try:
            for statement in SCHEMA.split(";")[:-1]:
                db.execute(statement)
            db.executemany("INSERT OR IGNORE INTO orders VALUES (?, ?, ?, ?, ?)", ORDERS)
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")


def database_path() -> Path:
    """`SHOP_DB`, or `.cattlegrid/shop.db` in the nearest folder that has a `cattlegrid.yaml`."""
    if declared := os.environ.get("SHOP_DB"):
        return Path(declared)
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / "cattlegrid.yaml").is_file()), here)
    return root / ".cattlegrid" / "shop.db"
