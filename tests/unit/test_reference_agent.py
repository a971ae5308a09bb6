"""The tools of the reference agent, called as the tool gateway calls them, over a freshly seeded shop."""

import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from agents.support import seed, shop, tools
from agents.support.answers import AddressChange, Refund
from agents.support.knowledge import ARTICLES, snapshot_of
from cattlegrid import Context, NotExecuted
from cattlegrid.core.principal import Principal
from cattlegrid.core.tools import Effect, Retry, declaration_of
from cattlegrid.release.build import build
from cattlegrid.release.project import load_project

ANA = "ana@example.com"


def context(user: str = ANA, key: str = "key-1") -> Context:
    return Context(
        principal=Principal(tenant="shop", user=user),
        session_id="ses_1",
        run_id="run_1",
        idempotency_key=key,
        deadline_s=10.0,
        log=logging.getLogger("test"),
    )


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "data" / "shop.db"
    monkeypatch.setenv("SUPPORT_DB", str(path))
    return path


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


@pytest.mark.requirement("support:shop")
def all_at_once(action: Callable[[int], object], times: int) -> list[object]:
    def outcome(number: int) -> object:
        try:
            return action(number)
        except NotExecuted as refusal:
            return refusal

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(outcome, range(times)))


@pytest.mark.requirement("support:shop")
def test_the_shop_has_the_promised_numbers_of_everything(database: Path) -> None:
    tools.snapshot_id()
    counts = [
        rows(database, f"SELECT count(*) FROM {table}")[0][0]
        for table in ("customers", "products", "orders", "articles")
    ]
    assert counts == [500, 50, 1000, 25]
    assert rows(database, "SELECT max(number) FROM orders") == [(1041,)]
    assert rows(database, "SELECT count(*) FROM customers WHERE email = 'ana.keller@example.com'") == [(1,)]


def test_the_same_day_and_seed_give_the_same_shop_and_another_seed_another() -> None:
    def dump(number: int) -> list[str]:
        with closing(sqlite3.connect(":memory:")) as db:
            seed.fill(db, today=date(2026, 11, 21), seed=number)
            return list(db.iterdump())

    assert dump(7) == dump(7)
    assert dump(7) != dump(8)


def test_the_shop_is_seeded_once_by_twenty_threads_that_come_first(database: Path) -> None:
    outcomes = all_at_once(lambda number: tools.refund(15, 1.0, "scratch", context(key=f"k{number}")), 20)
    assert all(isinstance(outcome, Refund) for outcome in outcomes)
    assert rows(database, "SELECT count(*) FROM refunds") == [(20,)]
    assert sorted(file.name for file in database.parent.iterdir()) == ["shop.db"]


@pytest.mark.requirement("support:tools")
def test_the_database_lies_in_the_nearest_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPPORT_DB")
    (tmp_path / "cattlegrid.yaml").touch()
    deep = tmp_path / "agents" / "support"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert shop.database_path() == tmp_path / ".cattlegrid" / "shop.db"


def test_an_order_shows_items_total_and_address() -> None:
    order = tools.find_order(17, context())
    assert (order.status, order.total_eur, order.refunded_eur) == ("delivered", 79.9, 0.0)
    assert [item.name for item in order.items] == ["Pour-over coffee set"]
    assert order.address


@pytest.mark.requirement("support:own-orders")
@pytest.mark.parametrize("number", [1041, 40, 99999, -1])
def test_another_customers_order_looks_like_one_that_does_not_exist(number: int) -> None:
    calls: list[Callable[[], object]] = [
        lambda: tools.find_order(number, context()),
        lambda: tools.delivery_status(number, context()),
        lambda: tools.return_eligibility(number, context()),
        lambda: tools.refund(number, 1.0, "mine", context()),
        lambda: tools.change_address(number, "Mill Lane 1, 1010 Vienna", context()),
        lambda: tools.cancel_order(number, context()),
        lambda: tools.cancellation_of(number, context()),
    ]
    for call in calls:
        with pytest.raises(NotExecuted, match=f"^There is no order {number} for this customer.$"):
            call()


@pytest.mark.requirement("support:own-orders")
@pytest.mark.requirement("support:tools")
def test_orders_are_listed_newest_first_for_the_customer_alone() -> None:
    listed = tools.list_orders(context(), limit=50)
    assert {order.order for order in listed} == {3, 5, 8, 9, 12, 14, 15, 17}
    assert [order.placed_on for order in listed] == sorted(
        (order.placed_on for order in listed), reverse=True
    )
    assert [order.order for order in tools.list_orders(context(), "shipped")] == [12]
    assert tools.list_orders(context("nobody@example.com")) == []


def test_a_delivery_tells_when_it_comes_or_came() -> None:
    on_its_way, there = tools.delivery_status(12, context()), tools.delivery_status(17, context())
    assert (on_its_way.status, on_its_way.delivered_on) == ("shipped", None)
    assert on_its_way.carrier
    assert on_its_way.tracking
    assert on_its_way.expected_on
    assert (there.status, there.expected_on) == ("delivered", None)
    assert there.delivered_on


@pytest.mark.requirement("support:tools")
@pytest.mark.parametrize(
    ("number", "eligible", "reason", "refundable_eur"),
    [
        (17, True, "within the return window", 79.9),
        (5, False, "could be returned until", 0.0),
        (14, False, "cannot be returned", 0.0),
        (12, False, "is shipped, not delivered", 0.0),
        (3, False, "is cancelled, not delivered", 0.0),
    ],
)
def test_eligibility_gives_the_reason_and_the_amount(
    number: int, *, eligible: bool, reason: str, refundable_eur: float
) -> None:
    answer = tools.return_eligibility(number, context())
    assert (answer.eligible, answer.refundable_eur) == (eligible, refundable_eur)
    assert reason in answer.reason


@pytest.mark.requirement("support:tools")
def test_a_refund_is_recorded_and_lowers_what_is_left(database: Path) -> None:
    assert tools.refund(17, 30.0, "lid broken", context()) == Refund(1, 17, 30.0, 49.9)
    assert tools.find_order(17, context()).refunded_eur == 30.0
    assert tools.return_eligibility(17, context()).refundable_eur == 49.9
    assert rows(database, "SELECT order_number, amount_cents, reason FROM refunds") == [
        (17, 3000, "lid broken")
    ]


def test_twenty_threads_with_one_key_refund_once(database: Path) -> None:
    outcomes = all_at_once(lambda _: tools.refund(17, 79.90, "broken", context()), 20)
    assert outcomes == [Refund(1, 17, 79.9, 0.0)] * 20
    assert rows(database, "SELECT count(*), sum(amount_cents) FROM refunds") == [(1, 7990)]


@pytest.mark.requirement("support:tools")
def test_twenty_threads_with_different_keys_never_refund_more_than_was_paid(database: Path) -> None:
    outcomes = all_at_once(lambda number: tools.refund(17, 30.0, "broken", context(key=f"k{number}")), 20)
    assert sum(isinstance(outcome, Refund) for outcome in outcomes) == 2
    assert rows(database, "SELECT count(*), sum(amount_cents) FROM refunds") == [(2, 6000)]


def test_refunding_more_than_was_paid_is_refused_with_the_amount_that_is_left(database: Path) -> None:
    with pytest.raises(NotExecuted, match=r"At most 79\.90 euros can be refunded for order 17, not 79\.91"):
        tools.refund(17, 79.91, "broken", context())
    assert rows(database, "SELECT count(*) FROM refunds") == [(0,)]


@pytest.mark.parametrize("number", [5, 9, 12, 14])
def test_an_order_that_cannot_be_returned_is_not_refunded(number: int, database: Path) -> None:
    with pytest.raises(NotExecuted):
        tools.refund(number, 1.0, "please", context())
    assert rows(database, "SELECT count(*) FROM refunds") == [(0,)]


@pytest.mark.parametrize("amount", [0.0, -5.0, 1.005, float("nan"), float("inf"), 1e300])
def test_what_is_no_amount_of_money_is_refused(amount: float) -> None:
    with pytest.raises(NotExecuted):
        tools.refund(17, amount, "broken", context())


def test_a_key_cannot_be_used_for_another_refund() -> None:
    tools.refund(17, 10.0, "lid", context())
    for number, amount in ((17, 11.0), (15, 10.0)):
        with pytest.raises(NotExecuted, match="belongs to another refund"):
            tools.refund(number, amount, "lid", context())


@pytest.mark.requirement("support:tools")
def test_a_refund_that_is_taken_back_frees_its_amount_and_stays_taken_back() -> None:
    made = tools.refund(17, 79.9, "broken", context())
    tools.cancel_refund(made)
    tools.cancel_refund(made)
    assert tools.return_eligibility(17, context()).refundable_eur == 79.9
    with pytest.raises(NotExecuted, match="taken back"):
        tools.refund(17, 79.9, "broken", context())
    assert tools.refund(17, 79.9, "broken", context(key="key-2")).left_eur == 0.0


def test_an_address_is_changed_once_for_a_key_and_can_be_restored() -> None:
    before = tools.find_order(8, context()).address
    change = tools.change_address(8, " Hill Street 4,\n1010 Vienna ", context())
    assert change == AddressChange(1, 8, "Hill Street 4, 1010 Vienna", before)
    assert tools.change_address(8, "Hill Street 4, 1010 Vienna", context()) == change
    tools.restore_address(change)
    assert tools.find_order(8, context()).address == before


def test_restoring_an_address_leaves_a_later_change_alone() -> None:
    first = tools.change_address(8, "Hill Street 4, 1010 Vienna", context())
    tools.change_address(8, "Mill Lane 9, 3011 Bern", context(key="key-2"))
    tools.restore_address(first)
    assert tools.find_order(8, context()).address == "Mill Lane 9, 3011 Bern"


@pytest.mark.requirement("support:tools")
@pytest.mark.parametrize("number", [12, 17, 3])
def test_the_address_of_what_is_no_longer_here_cannot_be_changed(number: int) -> None:
    with pytest.raises(NotExecuted, match="can no longer be changed"):
        tools.change_address(number, "Hill Street 4, 1010 Vienna", context())


def test_a_cancellation_is_seen_by_its_reconcile_tool() -> None:
    assert tools.cancellation_of(9, context()) is None
    cancelled = tools.cancel_order(9, context())
    assert tools.cancellation_of(9, context()) == cancelled
    with pytest.raises(NotExecuted, match="is cancelled: it can no longer be cancelled"):
        tools.cancel_order(9, context())


@pytest.mark.requirement("support:tools")
def test_a_shipped_order_cannot_be_cancelled() -> None:
    with pytest.raises(NotExecuted, match="is shipped"):
        tools.cancel_order(12, context())


@pytest.mark.requirement("support:tools")
def test_a_handover_makes_one_ticket_for_a_key(database: Path) -> None:
    ticket = tools.hand_over("wants a person", context())
    assert tools.hand_over("wants a person", context()) == ticket
    assert rows(database, "SELECT count(*) FROM handovers") == [(1,)]
    with pytest.raises(NotExecuted):
        tools.hand_over("who am I", context("nobody@example.com", "key-2"))


def test_search_finds_products_and_articles_best_first() -> None:
    assert tools.search("blue kettle").products[0].name == "Kettle Fjord, blue"
    assert tools.search("What is your return policy?").articles[0].id == "returns"
    assert tools.search("do you deliver to Norway").articles[0].id == "delivery-countries"
    assert tools.search("xylophone") == replace(tools.search(""), products=[], articles=[])


@pytest.mark.parametrize(
    "query", ['"', "kettle OR", "NEAR(", "title:kettle*", "'; DROP TABLE orders; --", "", "🫖", "\x00"]
)
def test_search_takes_any_text_as_words(query: str) -> None:
    found = tools.search(query, limit=-5)
    assert len(found.products) + len(found.articles) <= 1


def test_the_snapshot_id_changes_with_one_letter_of_one_article() -> None:
    changed = (*ARTICLES[:-1], ARTICLES[-1]._replace(body=ARTICLES[-1].body + "!"))
    assert tools.snapshot_id() == snapshot_of(ARTICLES) != snapshot_of(changed)


def test_the_agent_builds_as_a_bundle() -> None:
    bundle = build(load_project(Path.cwd()), "support").bundle
    offered = {tool.name for tool in bundle.offered_tools}
    assert set(bundle.tools) - offered == {"cancel_refund", "restore_address", "cancellation_of"}
    assert len(offered) == 9
    assert bundle.approve == {"refund": "amount > 50"}
    assert bundle.snapshot == "snapshot_id"


def test_every_tool_declares_what_it_does_to_the_world() -> None:
    declared = {name: declaration_of(value) for name, value in vars(tools).items()}
    effects = {name: (found.effect, found.retry) for name, found in declared.items() if found}
    assert effects == {
        "search": (Effect.READ, Retry.FREE),
        "find_order": (Effect.READ, Retry.FREE),
        "list_orders": (Effect.READ, Retry.FREE),
        "delivery_status": (Effect.READ, Retry.FREE),
        "return_eligibility": (Effect.READ, Retry.FREE),
        "refund": (Effect.WRITE, Retry.KEYED),
        "cancel_refund": (Effect.WRITE, Retry.FREE),
        "change_address": (Effect.WRITE, Retry.KEYED),
        "restore_address": (Effect.WRITE, Retry.FREE),
        "cancel_order": (Effect.DESTRUCTIVE, Retry.ONCE),
        "cancellation_of": (Effect.READ, Retry.FREE),
        "hand_over": (Effect.EGRESS, Retry.KEYED),
    }
