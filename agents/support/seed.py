"""Fills an empty database with a small shop: 500 customers, 50 products, 1,000 orders, the knowledge base.

The same `today` and `seed` give the same shop. `today` is written into the database and is the shop's date from
then on, so that return windows hold whenever the shop is looked at. A few orders are fixed because stories, cases
and documentation speak of them (`KNOWN`).
"""

import random
import sqlite3
from collections.abc import Iterator
from datetime import date, timedelta
from typing import NamedTuple

from .catalogue import PRODUCTS
from .knowledge import ARTICLES, snapshot_of

RETURN_WINDOW_DAYS = 30

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE customers (
  id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE COLLATE NOCASE, name TEXT NOT NULL);
CREATE TABLE products (
  sku TEXT PRIMARY KEY, name TEXT NOT NULL, description TEXT NOT NULL,
  price_cents INTEGER NOT NULL CHECK (price_cents > 0), stock INTEGER NOT NULL CHECK (stock >= 0),
  returnable INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE orders (
  number INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers,
  status TEXT NOT NULL CHECK (status IN ('placed', 'shipped', 'delivered', 'cancelled')), address TEXT NOT NULL,
  placed_on TEXT NOT NULL, due_on TEXT NOT NULL, delivered_on TEXT, carrier TEXT, tracking TEXT);
CREATE INDEX orders_of_customer ON orders (customer_id, number);
CREATE TABLE order_items (
  order_number INTEGER NOT NULL REFERENCES orders, sku TEXT NOT NULL REFERENCES products,
  quantity INTEGER NOT NULL CHECK (quantity > 0), price_cents INTEGER NOT NULL,
  PRIMARY KEY (order_number, sku)) WITHOUT ROWID;
CREATE TABLE refunds (
  id INTEGER PRIMARY KEY, order_number INTEGER NOT NULL REFERENCES orders,
  amount_cents INTEGER NOT NULL CHECK (amount_cents > 0), reason TEXT NOT NULL,
  idempotency_key TEXT NOT NULL UNIQUE, made_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  taken_back_at TEXT);
CREATE INDEX refunds_of_order ON refunds (order_number);
CREATE TABLE address_changes (
  id INTEGER PRIMARY KEY, order_number INTEGER NOT NULL REFERENCES orders, address TEXT NOT NULL,
  previous TEXT NOT NULL, idempotency_key TEXT NOT NULL UNIQUE);
CREATE TABLE handovers (
  id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers, summary TEXT NOT NULL,
  idempotency_key TEXT NOT NULL UNIQUE, made_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')));
CREATE TABLE articles (id TEXT PRIMARY KEY, title TEXT NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
CREATE VIRTUAL TABLE search_index USING fts5 (
  kind UNINDEXED, ref UNINDEXED, title, body, tokenize = 'porter unicode61');
"""


class Known(NamedTuple):
    """An order that never changes; `days_ago` is the age of its last event (placed, shipped or delivered)."""

    number: int
    email: str
    status: str
    days_ago: int
    skus: tuple[str, ...]


KNOWN: tuple[Known, ...] = (
    Known(3, "ana@example.com", "cancelled", 20, ("TOA-02",)),
    Known(5, "ana@example.com", "delivered", 60, ("PAN-01",)),
    Known(8, "ana@example.com", "placed", 0, ("TEA-03",)),
    Known(9, "ana@example.com", "placed", 1, ("KET-02", "MUG-01")),
    Known(12, "ana@example.com", "shipped", 1, ("LMP-01",)),
    Known(14, "ana@example.com", "delivered", 10, ("GFT-50",)),
    Known(15, "ana@example.com", "delivered", 3, ("MUG-02",)),
    Known(17, "ana@example.com", "delivered", 5, ("COF-04",)),
    Known(16, "bo@example.com", "placed", 1, ("KET-01",)),
    Known(1041, "bo@example.com", "delivered", 4, ("COF-05",)),
)
# Numbers 21 to 61 were never given out: 20 + 980 = 1,000 orders, the last of which is 1041.
ORDER_NUMBERS = (*range(1, 21), *range(62, 1042))

FIRST_NAMES = (
    *(
        "Ana",
        "Bo",
        "Carla",
        "David",
        "Elena",
        "Finn",
        "Greta",
        "Hugo",
        "Ines",
        "Jonas",
        "Klara",
        "Leo",
        "Mara",
    ),
    *("Nils", "Olga", "Paul", "Rosa", "Sven", "Tara", "Uwe", "Vera", "Wim", "Yara", "Zoe", "Emil", "Faye"),
)
LAST_NAMES = (
    *(
        "Keller",
        "Novak",
        "Rossi",
        "Garcia",
        "Meyer",
        "Dubois",
        "Silva",
        "Jansen",
        "Nowak",
        "Larsen",
        "Kovacs",
    ),
    *("Popa", "Moreau", "Costa", "Weber", "Lind", "Fischer", "Marino", "Horvat", "Berg"),
)
KNOWN_CUSTOMERS = (("ana@example.com", "Ana"), ("bo@example.com", "Bo"), ("you@example.com", "You"))
STREETS = ("Harbour Street", "Mill Lane", "Station Road", "Garden Way", "Church Square", "Hill Street")
TOWNS = ("1010 Vienna", "20095 Hamburg", "3011 Bern", "75011 Paris", "1012 Amsterdam", "28004 Madrid")
CARRIERS = ("Post", "Parcel Express", "Green Wheels")


def fill(db: sqlite3.Connection, *, today: date, seed: int = 7) -> None:
    """Create all tables in an empty database and fill them; the caller commits."""
    db.executescript(SCHEMA)
    db.executemany("INSERT INTO customers VALUES (?, ?, ?)", customers())
    db.executemany("INSERT INTO products VALUES (?, ?, ?, ?, ?, ?)", PRODUCTS)
    db.executemany("INSERT INTO articles VALUES (?, ?, ?)", ARTICLES)
    db.execute("INSERT INTO search_index SELECT 'product', sku, name, description FROM products")
    db.execute("INSERT INTO search_index SELECT 'article', id, title, body FROM articles")
    rng = random.Random(seed)  # noqa: S311 - invented orders keep no secret
    known = {order.number: order for order in KNOWN}
    ids = {email: customer_id for customer_id, email, _ in customers()}
    others = [
        customer_id
        for email, customer_id in ids.items()
        if email not in ("ana@example.com", "bo@example.com")
    ]
    for number in ORDER_NUMBERS:
        order = known.get(number) or _random_order(rng, number)
        customer_id = ids[order.email] if order.email else rng.choice(others)
        _insert_order(db, rng, order=order, customer_id=customer_id, today=today)
    facts = {"today": today.isoformat(), "seed": str(seed), "snapshot_id": snapshot_of(ARTICLES)}
    db.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())


def customers() -> Iterator[tuple[int, str, str]]:
    """All 500 customers as (id, e-mail address, name)."""
    names = [(first, last) for last in LAST_NAMES for first in FIRST_NAMES]
    invented = [(f"{first}.{last}@example.com".lower(), f"{first} {last}") for first, last in names]
    everybody = (*KNOWN_CUSTOMERS, *invented[: 500 - len(KNOWN_CUSTOMERS)])
    return ((number, email, name) for number, (email, name) in enumerate(everybody, 1))


def _random_order(rng: random.Random, number: int) -> Known:
    status = rng.choices(("delivered", "shipped", "placed", "cancelled"), weights=(80, 8, 8, 4))[0]
    days_ago = rng.randint(1, 120) if status in ("delivered", "cancelled") else rng.randint(0, 2)
    skus = tuple(product.sku for product in rng.sample(PRODUCTS, rng.choice((1, 1, 1, 2, 2, 3))))
    return Known(number, "", status, days_ago, skus)


def _insert_order(
    db: sqlite3.Connection, rng: random.Random, *, order: Known, customer_id: int, today: date
) -> None:
    last_event = today - timedelta(days=order.days_ago)
    on_its_way = order.status in ("shipped", "delivered")
    placed_on = last_event - timedelta(days={"shipped": 1, "delivered": 3}.get(order.status, 0))
    address = f"{rng.choice(STREETS)} {rng.randint(1, 90)}, {rng.choice(TOWNS)}"
    carrier = rng.choice(CARRIERS)
    row = (
        order.number,
        customer_id,
        order.status,
        address,
        placed_on.isoformat(),
        (placed_on + timedelta(days=4)).isoformat(),
        last_event.isoformat() if order.status == "delivered" else None,
        carrier if on_its_way else None,
        f"{carrier[:2].upper()}{100000 + order.number}" if on_its_way else None,
    )
    db.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    prices = {product.sku: product.price_cents for product in PRODUCTS}
    db.executemany(
        "INSERT INTO order_items VALUES (?, ?, ?, ?)",
        [(order.number, sku, 1, prices[sku]) for sku in order.skus],
    )
