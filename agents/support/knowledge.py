"""The shop's knowledge base: short articles, and the id of the edition that a run answered from."""

import hashlib
import json
from typing import NamedTuple


class Article(NamedTuple):
    """One article; `id` is stable over editions."""

    id: str
    title: str
    body: str


ARTICLES: tuple[Article, ...] = (
    Article(
        "returns",
        "Return policy",
        "You can return most things within 30 days of delivery. We refund what you paid for them.",
    ),
    Article(
        "broken",
        "Something arrived broken or damaged",
        "Tell us within 30 days of delivery. You need not send a broken thing back; we refund it in full.",
    ),
    Article(
        "not-returnable",
        "What cannot be returned",
        "Gift cards and opened food cannot be returned or refunded.",
    ),
    Article(
        "refund-time",
        "How long a refund takes",
        "A refund reaches your account within 5 working days, by the way you paid.",
    ),
    Article(
        "refund-review",
        "Refunds that a colleague confirms",
        "A colleague confirms refunds of more than 50 euros, usually within one working day.",
    ),
    Article(
        "return-label",
        "Return label and return parcel",
        "Ask us for a return label. Returning a parcel costs nothing; the label is valid for 14 days.",
    ),
    Article(
        "exchange",
        "Exchange for another size or colour",
        "We do not exchange. Return the article and order the other one.",
    ),
    Article(
        "delivery-time",
        "How long delivery takes",
        "Standard delivery takes 2 to 4 working days, express delivery 1 working day.",
    ),
    Article(
        "delivery-cost",
        "What delivery costs",
        "Standard delivery costs 4.90 euros and nothing from 60 euros on. Express delivery costs 9.90 euros.",
    ),
    Article(
        "delivery-countries",
        "Countries we deliver to",
        "We deliver to all countries of the European Union, to Norway and to Switzerland.",
    ),
    Article(
        "delivery-late",
        "A parcel is late or lost",
        "Wait 3 working days after the expected day. Then we send the order again or refund it.",
    ),
    Article(
        "pickup",
        "Collect from a parcel shop",
        "You can collect from any parcel shop. Parcels wait there for 7 days.",
    ),
    Article(
        "customs",
        "Customs for Norway and Switzerland",
        "We pay customs for Norway and Switzerland. There is nothing to pay at the door.",
    ),
    Article(
        "cancel",
        "Cancel an order",
        "You can cancel an order until it is shipped. After that, return it.",
    ),
    Article(
        "change-address",
        "Change the delivery address",
        "You can change the address of an order until it is shipped.",
    ),
    Article(
        "payment",
        "How you can pay",
        "You can pay by card, bank transfer, PayPal or gift card.",
    ),
    Article(
        "charged",
        "When you are charged",
        "You are charged when the order is shipped. A cancelled order costs nothing.",
    ),
    Article(
        "invoice",
        "Invoices",
        "The invoice comes by e-mail on the day of shipping. You can have it sent again.",
    ),
    Article(
        "gift-card",
        "Gift cards",
        "Gift cards are valid for 3 years and can be used in parts.",
    ),
    Article(
        "gift-wrap",
        "Gift wrapping",
        "Gift wrapping costs 3.50 euros for each order. No price is printed inside.",
    ),
    Article(
        "warranty",
        "Warranty",
        "Electrical goods have a warranty of 2 years from delivery.",
    ),
    Article(
        "price-match",
        "Price match",
        "We do not match prices of other shops.",
    ),
    Article(
        "privacy",
        "Your data",
        "We keep orders for 10 years because the law asks for it. You can have the rest deleted.",
    ),
    Article(
        "opening-hours",
        "When colleagues answer",
        "Colleagues answer Monday to Friday from 8 to 18 o'clock, usually within 2 hours.",
    ),
    Article(
        "kettle-care",
        "Descale a kettle",
        "Boil 2 spoons of citric acid in a full kettle, wait 20 minutes and rinse twice.",
    ),
)


def snapshot_of(articles: tuple[Article, ...]) -> str:
    """The id of an edition: the same articles have the same id, one changed letter gives another."""
    text = json.dumps(articles, ensure_ascii=False, separators=(",", ":"))
    return f"kb-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
