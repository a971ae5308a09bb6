"""Crashes at every place: after each durable write, at each named point; effects are counted by the world outside."""

from typing import Final

import pytest

from cattlegrid.core.bundle import Bundle
from cattlegrid.journal import events as ev
from cattlegrid.runtime.streams import item_of
from cattlegrid.testing.models import Answer, answer
from cattlegrid.testing.world import World, tool_of
from tests.unit.runtime.bank import (
    Bank,
    Client,
    by_turn,
    crash_and_recover,
    decide_if_asked,
    till_it_stands,
    to_the_end,
    truthful,
)
from tests.unit.runtime.support import (
    ENDED,
    LOOK,
    PAY_FREE,
    PAY_KEYED,
    PAY_ONCE,
    Build,
    CrashAt,
    bundle,
    calls,
    disk,
    entries,
)

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("runtime:recovery")]

FOUND: Final = tool_of("find_payment", arguments={"id": "integer"})
PAY_FOUND: Final = tool_of(
    "pay_once", effect="write", retry="once", reconcile="find_payment", arguments={"id": "integer"}
)
POINTS: Final = (
    "run_started",
    "before_intent",
    "after_intent",
    "after_effect",
    "after_outcome",
    "inbox_posted",
    "after_inbox",
    "before_finish",
    "after_finish",
)
SCENES: Final[dict[str, tuple[Bundle, tuple[Answer, ...]]]] = {
    "words only": (bundle(), (answer("Hello."),)),
    "reads": (bundle(LOOK), (calls(("look", 1), ("look", 2)), calls(("look", 3)), answer("Seen."))),
    "free": (bundle(PAY_FREE), (calls(("pay_free", 1)), answer("Paid."))),
    "keyed": (bundle(PAY_KEYED), (calls(("pay_keyed", 1)), answer("Paid."))),
    "once": (bundle(PAY_ONCE), (calls(("pay_once", 1)), answer("Paid."))),
    "reconciled": (bundle(PAY_FOUND, FOUND), (calls(("pay_once", 1)), answer("Paid."))),
    "approved": (
        bundle(PAY_KEYED, PAY_ONCE, approve={"pay_once": "always", "pay_keyed": "always"}),
        (calls(("pay_once", 1)), calls(("pay_keyed", 2)), answer("Paid.")),
    ),
    "everything": (
        bundle(LOOK, PAY_KEYED, PAY_FOUND, FOUND, approve={"pay_keyed": "id > 5"}),
        (
            calls(("look", 1), ("pay_keyed", 9), ("look", 2), ("pay_once", 3)),
            calls(("pay_keyed", 4), ("look", 5)),
            answer("Done."),
        ),
    ),
}


def payments_of(scene: str) -> set[tuple[str, int]]:
    """The payments that the model of a scene asks for."""
    asked = [
        one
        for given in SCENES[scene][1]
        for one in getattr(getattr(given, "message", None), "tool_calls", ())
    ]
    return {(one.name, int(one.arguments[6:-1])) for one in asked if one.name.startswith("pay")}


async def keeps_its_promises(
    world: World, client: Client, bank: Bank, scene: str, *, rejecting: bool
) -> None:
    run = await to_the_end(
        world,
        client,
        truthful(bank, ev.ApprovalDecision.REJECT if rejecting else ev.ApprovalDecision.APPROVE),
    )
    assert run.status in ENDED
    assert len(await entries(world, "run")) == 1
    if run.status != "completed":
        assert run.reason == "cancelled", run
    for payment in payments_of(scene):
        if payment[0] != "pay_free":
            assert bank.paid[payment] <= 1, payment
        if not rejecting:
            assert bank.paid[payment] >= 1, payment
        assert len(bank.keys.get(payment, ())) <= 1, payment
    events = {event.seq: event for event in await world.events(run.session_id)}
    for item in client.seen:
        if item.place[1] == 0:
            assert item == item_of(events[item.place[0]]), "something was told that is not on record"


@pytest.mark.requirement("runtime:effects")
@pytest.mark.requirement("runtime:retry")
@pytest.mark.parametrize("rejecting", [False, True], ids=["repeating", "rejecting"])
@pytest.mark.parametrize("scene", SCENES)
async def test_a_process_that_dies_after_any_durable_write_doubles_and_loses_nothing(
    build: Build, scene: str, *, rejecting: bool
) -> None:
    of, answers = SCENES[scene]
    writes, crashed = 0, True
    while crashed:
        bank = Bank()
        world = build(of, by_turn(*answers), functions=bank.functions())
        disk(world).writes_left = writes
        client = Client(world)
        client.ask()
        await till_it_stands(world)
        while not disk(world).stopped and await decide_if_asked(world):
            pass
        crashed = disk(world).stopped
        if crashed:
            await crash_and_recover(world, client)
        await keeps_its_promises(world, client, bank, scene, rejecting=rejecting)
        writes += 1
    assert writes >= len(answers) * 2


@pytest.mark.requirement("fault:crash-points")
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("scene", SCENES)
async def test_a_process_that_dies_at_any_named_point_doubles_and_loses_nothing(
    build: Build, scene: str, point: str
) -> None:
    of, answers = SCENES[scene]
    for occurrence in range(1, 12):
        bank = Bank()
        crash = CrashAt(point, occurrence)
        world = build(of, by_turn(*answers), functions=bank.functions(), crash=crash)
        client = Client(world)
        client.ask()
        await till_it_stands(world)
        while crash.reached[point] < occurrence and await decide_if_asked(world):
            pass
        crashed = crash.reached[point] >= occurrence
        if crashed:
            await crash_and_recover(world, client)
        await keeps_its_promises(world, client, bank, scene, rejecting=False)
        if not crashed:
            return
    raise AssertionError("the point is reached without end")
