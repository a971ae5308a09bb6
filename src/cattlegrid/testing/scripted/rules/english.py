"""Reads what a customer of a shop wants from plain English: one message in, one or more wishes out.

No language model: a table of patterns, in the order in which they are tried. What no pattern knows is a question for
the knowledge base.
"""

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from cattlegrid.testing.scripted.conversation import Line

Kind = Literal[
    "address",
    "cancel",
    "chat",
    "complaint",
    "eligibility",
    "find",
    "list",
    "note",
    "person",
    "policy",
    "product",
    "recall",
    "refund",
    "where",
]


class Wish(msgspec.Struct, frozen=True):
    """One thing that is wanted. `text` is the clause, or the new address."""

    kind: Kind
    text: str
    order: int | None = None
    amount: float | None = None


_ORDER = re.compile(
    r"\b(?:order|package|parcel)(?:s|\s+(?:number|no\.?|nr\.?))?\s*#?\s*(\d+)|#(\d+)", re.IGNORECASE
)
_BARE_NUMBER = re.compile(r"(?:order\s*)?#?(\d+)", re.IGNORECASE)
_MONEY = re.compile(
    r"(?:€|\$|\beur(?:os?)?)\s*(\d+(?:[.,]\d{1,2})?)\b|\b(\d+[.,]\d{2})\b|\b(\d+)\s*(?:€|\$|eur(?:os?)?\b)",
    re.IGNORECASE,
)
_STARTS = (
    r"(?:please\s+)?(?:can|cancel|could|deliver|do|does|how|i|is|my|refund|send|tell|what|when|where|which)\b"
)
_END_OF_ADDRESS = (
    rf"(?=[?!\n]|\.(?:\s|$)|,?\s+(?:and|also)\s+{_STARTS}|,?\s+(?:please|instead|thanks|thank you)\b|$)"
)
_ADDRESS = re.compile(
    r"\b(?:(?:change|update|correct|set)\b[^.?!\n]{0,60}?\baddress\b[^.?!\n]{0,40}?\bto"
    r"|(?:send|deliver|ship)\s+(?:my\s+)?(?:order|it|that)\b[^.?!\n]{0,20}?\bto"
    rf"|new\s+address\b[^.?!\n]{{0,40}}?\bis):?\s+(?P<address>[^?!\n]*?\d[^?!\n]*?){_END_OF_ADDRESS}",
    re.IGNORECASE,
)
_CLAUSES = re.compile(rf"[?!;\n]+|\.(?=\s|$)|,?\s+(?:and|also|plus|then)\s+|,\s+(?={_STARTS})", re.IGNORECASE)

_MY = r"my (?P<thing>name|(?:secret|magic) word|nickname|birthday|favourite \w+|phone number)"

_TABLE: tuple[tuple[Kind, str], ...] = (
    ("person", r"\b(?:human|real person|a person|colleague|representative|manager|supervisor|complain to)\b"),
    ("person", r"\b(?:talk|speak) (?:to|with) (?:someone|somebody|anyone)\b|\bhand me over\b"),
    ("note", rf"\b{_MY} is\b"),
    ("recall", rf"^(?:and |so )?(?:what|do you (?:know|remember))\b.*\b{_MY}"),
    ("policy", r"\b(?:policy|warranty|how long|how do i|how can i|what happens)\b"),
    ("policy", r"\b(?:can|may) i (?:cancel|return|change) (?:an|any|my) orders?\b(?!.*\d)"),
    (
        "policy",
        r"\b(?:how much|what)\b.*\b(?:delivery|shipping|express|gift[- ]?wrap\w*|return)\b.*\bcosts?\b",
    ),
    ("policy", r"\bhow much\b.*\b(?:delivery|shipping|gift[- ]?wrap\w*)\b"),
    ("cancel", r"\bcancel\b"),
    ("refund", r"\brefund|\breimburse|\bmoney back\b|\bwant\b.*\bback\b|\b(?:give|pay|get)\b.*\d.*\bback\b"),
    ("address", r"\b(?:change|update|correct|wrong)\b.*\baddress\b"),
    ("eligibility", r"\breturn(?:ed|ing)?\b(?! label| parcel)|\bsend\b.*\bback\b"),
    ("where", r"\b(?:never|not|hasn't|didn't)\b.*\b(?:got|arrived?|received?|come)\b|\b(?:late|lost)\b"),
    ("where", r"\bwhere\b.*\b(?:order|orders|parcel|package|it|delivery)\b|\btrack(?:ing)?\b|\bstatus\b"),
    ("where", r"\bwhen\b.*\b(?:arrive|come|get here|delivered)\b|\bhas\b.*\b(?:shipped|arrived|left)\b"),
    ("complaint", r"\b(?:broken|broke|damaged|defective|faulty|cracked|leaks?|leaking|dented|scratched)\b"),
    ("complaint", r"\b(?:doesn't|does not|stopped) work|\bwrong (?:item|colour|color|size|article|thing)\b"),
    ("list", r"\b(?:my|all|list|show)\b.*\borders\b|\bwhat (?:have|did) i order"),
    (
        "find",
        r"\bwhat(?:'s| is| was) in\b.*\border\b|\b(?:show|look up|details|total)\b.*\border\b|\bdid i pay\b",
    ),
    (
        "product",
        r"\b(?:do|does) (?:you|the shop) (?:sell|have|stock|carry|offer)\b|\bin stock\b|\bprice of\b|\bhow much\b",
    ),
    ("product", r"\blooking for\b|\bwant to buy\b|\bavailable\b"),
    ("policy", r"^(?:and |but |so )?(?:what|how|when|do|does|can|could|is|are|which|who|may|why|where)\b"),
    (
        "chat",
        r"^(?:hi|hello|hey|good (?:morning|evening|day|afternoon)|thanks|thank you|ok|okay|great|bye|goodbye)\b",
    ),
)
_RULES: tuple[tuple[Kind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _TABLE
)
_NOTED = re.compile(rf"\b{_MY} is (?P<value>[^.?!,;\n]+?)(?= and |[.?!,;\n]|$)", re.IGNORECASE)
_YES = re.compile(r"^\W*(?:yes|yeah|yep|sure|please do|go ahead|ok(?:ay)?,? do)\b", re.IGNORECASE)
_OFFERED_REFUND = re.compile(r"Shall I refund (\d+\.\d\d) euros for order (\d+)\?")
_OFFERED_PERSON = re.compile(r"Shall I hand you over")
_ASKED_ADDRESS = re.compile(r"What is the new address for order (\d+)\?")
_ASKED_ORDER = re.compile(r"Which order do you mean")


def read(text: str, before: tuple[Line, ...] = ()) -> tuple[Wish, ...]:
    """All wishes of a message, each once; a bare "yes" or an order number answers the question before it."""
    answered = _answer(text.strip(), before)
    if answered is not None:
        return (answered,)
    addresses = [
        Wish("address", found["address"].strip(" ,."), _order_in(found[0]))
        for found in _ADDRESS.finditer(text)
    ]
    wishes = [*addresses, *_clauses(_ADDRESS.sub("\n", text))]
    if not wishes:
        wishes = [Wish("chat", text)]
    wishes = _with_orders(wishes, text, before)
    refunded = {wish.order for wish in wishes if wish.kind == "refund"}
    covered = ("complaint", "eligibility")
    told = [wish for wish in wishes if not (wish.kind in covered and wish.order in refunded)]
    serious = [wish for wish in told if wish.kind != "chat"] or told[:1]
    unique = {
        (wish.kind, wish.order, wish.amount, wish.text if wish.order is None else ""): wish
        for wish in serious
    }
    return tuple(unique.values())


def noted(texts: Iterable[str]) -> dict[str, str]:
    """What customers said of themselves, such as `my name is Ana`: thing to value, the latest one counts."""
    found = (match for text in texts for match in _NOTED.finditer(text))
    return {match["thing"].lower(): match["value"].strip() for match in found}


def asked_about(text: str) -> str:
    """The thing that a customer wants to be reminded of; empty when there is none."""
    found = re.search(_MY, text, re.IGNORECASE)
    return found["thing"].lower() if found else ""


def words_of(text: str) -> str:
    """What a search should look for: the words of a question that mean something."""
    empty = (
        r"\b(?:a|about|also|an|and|any|are|can|could|do|does|for|have|hello|hi|how|i|in|is|it|looking|me|much|my|of"
        r"|offer|or|our|please|price|sell|some|stock|tell|the|there|to|us|want|buy|we|what|when|which|will|with|would"
        r"|you|your|available)\b"
    )
    kept = re.sub(r"[^\w\s'-]", " ", re.sub(empty, " ", text.lower()))
    return " ".join(kept.split()) or " ".join(text.split())


def _answer(text: str, before: tuple[Line, ...]) -> Wish | None:
    last = next((line.text for line in reversed(before) if line.role == "assistant"), "")
    if _YES.match(text) and (offer := _OFFERED_REFUND.search(last)):
        return Wish("refund", _complaint_in(before), int(offer[2]), float(offer[1]))
    if _YES.match(text) and _OFFERED_PERSON.search(last):
        return Wish("person", text)
    if (asked := _ASKED_ADDRESS.search(last)) and re.search(r"\d", text) and not _kind_of(text):
        return Wish("address", text, int(asked[1]))
    if _ASKED_ORDER.search(last) and (number := re.fullmatch(r"\D{0,30}(\d+)\D{0,20}", text)):
        asked_for = next((line.text for line in reversed(before) if line.role == "user"), "")
        return msgspec.structs.replace(read(asked_for)[0], order=int(number[1]))
    return None


def _clauses(text: str) -> list[Wish]:
    wishes: list[Wish] = []
    loose: list[str] = []
    for clause in (part.strip(" ,") for part in _CLAUSES.split(text)):
        if not clause:
            continue
        kind, number = _kind_of(clause), _BARE_NUMBER.fullmatch(clause)
        if number and wishes:
            wishes.append(Wish(wishes[-1].kind, wishes[-1].text, int(number[1])))
        elif kind is None and wishes and wishes[-1].kind == "product":
            wishes[-1] = msgspec.structs.replace(wishes[-1], text=f"{wishes[-1].text} {clause}")
        elif kind is not None:
            wishes.append(Wish(kind, clause, _order_in(clause), _amount_in(clause)))
        elif len(clause.split()) > 2 and not _order_in(clause):
            loose.append(clause)
    # What is no wish and stands beside one explains it; alone, it is looked up.
    return wishes or [Wish("policy", clause) for clause in loose[:1]]


def _with_orders(wishes: list[Wish], text: str, before: tuple[Line, ...]) -> list[Wish]:
    """Give a wish without a number the one last mentioned before it, else the next one, else one from the history."""
    earlier = next((number for line in reversed(before) if (number := _order_in(line.text))), None)
    fallback = _order_in(text) or earlier
    completed: list[Wish] = []
    for wish in wishes:
        last = next((done.order for done in reversed(completed) if done.order), fallback)
        needs = wish.kind in ("address", "cancel", "complaint", "eligibility", "find", "refund", "where")
        completed.append(msgspec.structs.replace(wish, order=last) if needs and wish.order is None else wish)
    return completed


def _kind_of(clause: str) -> Kind | None:
    return next((kind for kind, pattern in _RULES if pattern.search(clause)), None)


def _order_in(text: str) -> int | None:
    found = _ORDER.search(text)
    return int(found[1] or found[2]) if found else None


def _amount_in(text: str) -> float | None:
    found = _MONEY.search(_ORDER.sub(" ", text))
    return float(next(group for group in found.groups() if group).replace(",", ".")) if found else None


def _complaint_in(before: tuple[Line, ...]) -> str:
    said = (line.text for line in reversed(before) if line.role == "user")
    return next((text for text in said if _kind_of(text) == "complaint"), "as agreed")
