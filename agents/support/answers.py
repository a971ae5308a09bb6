"""What the tools of the shop answer. Amounts are euros with two decimals, dates are ISO 8601."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Product:
    """A product as customers see it."""

    sku: str
    name: str
    description: str
    price_eur: float
    in_stock: int


@dataclass(frozen=True)
class Article:
    """An article of the knowledge base."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class Found:
    """What a search found, best first."""

    products: list[Product]
    articles: list[Article]


@dataclass(frozen=True)
class OrderItem:
    """One line of an order; the price is for one piece."""

    name: str
    quantity: int
    price_eur: float


@dataclass(frozen=True)
class Order:
    """An order of the customer. `status` is placed, shipped, delivered or cancelled."""

    order: int
    status: str
    placed_on: str
    items: list[OrderItem]
    total_eur: float
    refunded_eur: float
    address: str


@dataclass(frozen=True)
class OrderSummary:
    """An order in a list."""

    order: int
    status: str
    placed_on: str
    total_eur: float


@dataclass(frozen=True)
class Delivery:
    """Where an order is. `expected_on` is set until it is delivered, `delivered_on` from then on."""

    order: int
    status: str
    carrier: str | None
    tracking: str | None
    expected_on: str | None
    delivered_on: str | None


@dataclass(frozen=True)
class Eligibility:
    """Whether an order can be returned, why, and how much can be refunded at most."""

    order: int
    eligible: bool
    reason: str
    refundable_eur: float


@dataclass(frozen=True)
class Refund:
    """A refund that was made. `left_eur` is what could still be refunded."""

    refund: int
    order: int
    amount_eur: float
    left_eur: float


@dataclass(frozen=True)
class AddressChange:
    """A changed delivery address; `change` is its number."""

    change: int
    order: int
    address: str
    previous: str


@dataclass(frozen=True)
class Cancellation:
    """An order that is cancelled. It was never charged."""

    order: int
    status: str


@dataclass(frozen=True)
class Handover:
    """A conversation that a colleague goes on with."""

    ticket: int
    answer_within: str
