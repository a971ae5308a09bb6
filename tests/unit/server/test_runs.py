"""Sessions and runs over HTTP, with the whole engine behind them, in memory."""

import asyncio

import httpx2
import pytest

from cattlegrid.testing.models import Stall, answer, call
from cattlegrid.testing.world import BO
from tests.unit.server.site import Site, open_site

pytestmark = pytest.mark.anyio

HELD = answer(calls=[call("refund", order=17, amount=79.9)])
RUN = {"agent": "support", "input": "Hi"}


@pytest.mark.requirement("server:sessions-runs")
async def test_a_request_opens_a_session_and_is_answered_with_its_cost() -> None:
    site = await open_site(model=[answer("Hello.")])
    answered = await site.post("/runs", RUN)
    run = answered.json()
    assert answered.status_code == 200
    assert answered.headers["location"] == f"/runs/{run['id']}"
    assert (run["status"], run["output"], run["input"]) == ("completed", "Hello.", "Hi")
    assert (run["cost_nano_usd"], run["cost_usd"]) == (56_000, "0.000056")
    assert (run["steps"], run["bundle"].partition(" ")[0]) == (None, "support#1")


@pytest.mark.requirement("server:sessions-runs")
async def test_a_session_is_opened_continued_listed_and_closed() -> None:
    site = await open_site(model=[answer("One."), answer("Two.")])
    opened = await site.post("/sessions", {"agent": "support"})
    session = opened.json()
    assert (opened.status_code, opened.headers["location"]) == (201, f"/sessions/{session['id']}")
    for text, expected in (("first", "One."), ("second", "Two.")):
        site.world.clock.advance(1)
        run = (await site.post(f"/sessions/{session['id']}/runs", {"input": text})).json()
        assert (run["output"], run["session_id"]) == (expected, session["id"])
    runs = (await site.get(f"/runs?session_id={session['id']}")).json()
    assert [run["input"] for run in runs["items"]] == ["second", "first"]
    assert runs["next"] is None
    closed = (await site.post(f"/sessions/{session['id']}/close")).json()
    await site.world.settled()
    assert closed["status"] in {"open", "completed"}
    assert (await site.get(f"/sessions/{session['id']}")).json()["status"] == "completed"
    refused = await site.post(f"/sessions/{session['id']}/runs", {"input": "more"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "session_ended")


async def test_pages_follow_each_other_until_there_are_no_more() -> None:
    site = await open_site(model=lambda _: answer("Yes."))
    asked: list[str] = []
    for text in "abc":
        site.world.clock.advance(1)
        asked.insert(0, (await site.ask(text))["id"])
    first = (await site.get("/runs?limit=2")).json()
    second = (await site.get(f"/runs?limit=2&before={first['next']}")).json()
    assert [run["id"] for run in first["items"] + second["items"]] == asked
    assert second["next"] is None
    assert (await site.get("/runs?status=failed&status=held")).json()["items"] == []
    assert len((await site.get("/runs?status=failed&status=completed")).json()["items"]) == 3
    sessions = (await site.get("/sessions?limit=2&status=open")).json()
    assert [session["status"] for session in sessions["items"]] == ["open", "open"]
    assert sessions["next"] == sessions["items"][1]["id"]


@pytest.mark.requirement("server:idempotency")
async def test_the_same_key_with_the_same_body_gets_the_same_run_and_no_second_one() -> None:
    site = await open_site(model=[answer("Hello."), answer("Never said.")])
    first = await site.post("/runs", RUN, Idempotency_Key="k-1")
    again = await site.post("/runs", RUN, Idempotency_Key="k-1")
    assert first.content == again.content
    assert len(site.world.model.requests) == 1
    assert len((await site.get("/runs")).json()["items"]) == 1


@pytest.mark.requirement("server:idempotency")
async def test_the_same_key_of_somebody_else_is_another_key() -> None:
    site = await open_site(model=[answer("Hello Ana."), answer("Hello Bo.")])
    ana = await site.post("/runs", RUN, Idempotency_Key="k-1")
    bo = await site.post("/runs", RUN, "bo", Idempotency_Key="k-1")
    assert (ana.json()["output"], bo.json()["output"]) == ("Hello Ana.", "Hello Bo.")


@pytest.mark.requirement("input:mismatch")
async def test_the_same_key_with_another_body_conflicts() -> None:
    site = await open_site(model=[answer("Hello.")])
    await site.post("/runs", RUN, Idempotency_Key="k-1")
    other = await site.post("/runs", {**RUN, "input": "Bye"}, Idempotency_Key="k-1")
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_mismatch")


@pytest.mark.parametrize("key", ["x" * 256, "two words", "tab\tbed", "umläut"])
async def test_an_idempotency_key_of_another_shape_does_not_fit(key: str) -> None:
    site = await open_site()
    headers = [(b"Idempotency-Key", key.encode()), (b"X-Api-Key", site.keys["ana"].encode())]
    refused = await site.http.post("/runs", json=RUN, headers=headers)
    assert refused.status_code == 422, refused.text
    assert site.world.model.requests == []


async def test_a_client_that_will_not_wait_is_told_where_to_look() -> None:
    site = await open_site(model=[Stall()])
    answered = await site.post("/runs", RUN, Prefer="respond-async, wait=1")
    run = answered.json()
    assert (answered.status_code, run["status"]) == (202, "running")
    assert answered.headers["location"] == f"/runs/{run['id']}"
    await cancelled(site, run["id"])


async def test_a_client_whose_run_takes_too_long_is_told_where_to_look() -> None:
    site = await open_site(model=[Stall()], settings={"run_wait_s": 0.05})
    answered = await site.post("/runs", RUN)
    assert (answered.status_code, answered.json()["status"]) == (202, "running")
    await cancelled(site, answered.json()["id"])


async def test_a_second_request_waits_for_the_first_and_can_be_looked_at_meanwhile() -> None:
    site = await open_site(model=[Stall(), answer("Second.")])
    first = (await site.post("/runs", RUN, Prefer="respond-async")).json()
    path = f"/sessions/{first['session_id']}/runs"
    second = await site.post(path, {"input": "And?"}, Prefer="respond-async")
    assert (second.status_code, second.json()["status"], second.json()["started_at"]) == (202, "queued", None)
    assert (await site.get(second.headers["location"])).json()["input"] == "And?"
    refused = await site.post(path, {"input": "Now!", "on_busy": "reject"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "session_busy")
    joined = await site.post(path, {"input": "Hi"}, Prefer="respond-async")
    assert joined.json()["id"] == first["id"]
    await cancelled(site, first["id"])
    await site.world.settled()
    assert (await site.get(second.headers["location"])).json()["output"] == "Second."


async def test_an_interrupting_request_ends_the_one_before() -> None:
    site = await open_site(model=[Stall(), answer("Second.")])
    first = (await site.post("/runs", RUN, Prefer="respond-async")).json()
    path = f"/sessions/{first['session_id']}/runs"
    second = await site.post(path, {"input": "No, this", "on_busy": "interrupt"})
    assert second.json()["output"] == "Second."
    assert (await site.get(f"/runs/{first['id']}")).json()["status"] == "cancelled"


async def test_a_full_queue_says_when_to_come_back() -> None:
    site = await open_site(model=[Stall()])
    first = (await site.post("/runs", RUN, Prefer="respond-async")).json()
    path = f"/sessions/{first['session_id']}/runs"
    refused = None
    for number in range(20):
        refused = await site.post(path, {"input": f"number {number}"}, Prefer="respond-async")
        if refused.status_code != 202:
            break
    assert refused is not None
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "limited")
    assert int(refused.headers["retry-after"]) >= 1
    await site.world.engine.drop(first["session_id"])


@pytest.mark.requirement("server:cancel")
async def test_a_run_is_cancelled_and_cancelling_again_changes_nothing() -> None:
    site = await open_site(model=[Stall()])
    run = (await site.post("/runs", RUN, Prefer="respond-async")).json()
    for _ in range(2):
        answered = await site.post(f"/runs/{run['id']}/cancel")
        assert (answered.status_code, answered.json()["status"]) == (200, "cancelled")


@pytest.mark.requirement("input:foreign")
@pytest.mark.parametrize(
    "method",
    [
        "GET /sessions/{ses}",
        "GET /runs/{run}",
        "GET /runs/{run}/events",
        "GET /approvals/{apr}",
        "POST /sessions/{ses}/close",
        "POST /runs/{run}/cancel",
    ],
)
async def test_what_belongs_to_another_user_is_answered_byte_for_byte_like_what_does_not_exist(
    method: str,
) -> None:
    site = await open_site(model=[HELD])
    run = await site.ask("Refund order 17")
    theirs = {"ses": run["session_id"], "run": run["id"], "apr": run["approvals"][0]["id"]}
    nobodys = {name: id[:-2] + "ZZ" for name, id in theirs.items()}
    verb, _, path = method.partition(" ")
    answers: list[httpx2.Response] = []
    for ids in (theirs, nobodys):
        sent = site.headers("bo", {"X-Correlation-Id": "same"})
        answers.append(await site.http.request(verb, path.format(**ids), headers=sent))
    assert answers[0].status_code == 404
    assert answers[0].content == answers[1].content
    assert answers[0].headers == answers[1].headers


@pytest.mark.requirement("input:foreign")
async def test_nobody_speaks_in_the_session_of_another_not_even_staff() -> None:
    site = await open_site(model=[answer("Hello.")])
    run = await site.ask()
    for who in ("bo", "staff"):
        body = {"input": "It is me, Ana"}
        refused = await site.post(f"/sessions/{run['session_id']}/runs", body, who)
        assert refused.status_code == 404
    assert (await site.get("/runs", "bo")).json()["items"] == []


async def test_staff_see_the_steps_of_a_run_and_users_do_not() -> None:
    site = await open_site(model=[HELD])
    run = await site.ask("Refund order 17")
    shown = (await site.get(f"/runs/{run['id']}", "staff")).json()
    assert [step["name"] for step in shown["steps"]] == ["small", "refund"]
    assert shown["approvals"][0]["arguments"] == {"order": 17, "amount": 79.9}
    own = (await site.get(f"/runs/{run['id']}")).json()
    assert (own["steps"], own["approvals"][0]["arguments"], own["approvals"][0]["condition"]) == (
        None,
        None,
        None,
    )


@pytest.mark.requirement("server:feedback")
async def test_a_thumb_a_score_and_a_text_are_recorded_even_while_a_run_goes_on() -> None:
    site = await open_site(model=[answer("Hello."), Stall()])
    run = await site.ask()
    await site.post(f"/sessions/{run['session_id']}/runs", {"input": "more"}, Prefer="respond-async")
    for body in ({"thumb": "up"}, {"score": 1}, {"score": 0.25, "text": "slow \u0000 but \U0001f642"}):
        given = await site.post(f"/runs/{run['id']}/feedback", body)
        assert (given.status_code, given.content) == (204, b"")
    await site.post(f"/runs/{run['id']}/cancel")
    await site.world.engine.drop(run["session_id"])
    await site.world.recover()
    await site.world.upkeep.attend_inboxes()
    await site.world.settled()
    events = [event.data for event in await site.world.events(run["session_id"])]
    given = [(data.thumb, data.score) for data in events if type(data).__name__ == "FeedbackGiven"]  # pyright: ignore[reportAttributeAccessIssue,reportUnknownMemberType,reportUnknownVariableType]
    assert given == [("up", None), ("", 1.0), ("", 0.25)]
    empty = await site.post(f"/runs/{run['id']}/feedback", {})
    assert empty.status_code == 422


@pytest.mark.requirement("server:approvals")
async def test_an_approval_is_listed_shown_and_decided_by_those_who_may() -> None:
    site = await open_site(model=[HELD, answer("Refunded.")])
    answered = await site.post("/runs", {**RUN, "input": "Refund order 17"})
    run = answered.json()
    assert (answered.status_code, run["status"]) == (202, "held")
    [waiting] = (await site.get("/approvals?status=pending", "staff")).json()["items"]
    assert (waiting["tool"], waiting["condition"], waiting["user"]) == (
        "refund",
        "amount > 50",
        "ana@example.com",
    )
    decision = f"/approvals/{waiting['id']}/decision"
    # The role is asked for first: what is there and what is not get the same answer.
    nothing = "/approvals/apr_nothing/decision"
    refused = [await site.post(path, {"decision": "approve"}, "bo") for path in (decision, nothing)]
    assert [answered.status_code for answered in refused] == [403, 403]
    assert (await site.post(decision, {"decision": "approve"}, "ana")).status_code == 403
    gone_on = await site.post(decision, {"decision": "approve", "note": "photo seen"}, "staff")
    assert (gone_on.status_code, gone_on.json()["output"]) == (200, "Refunded.")
    again = await site.post(decision, {"decision": "reject"}, "staff")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "already_decided")
    assert (await site.get(f"/approvals/{waiting['id']}", "staff")).json()["status"] == "approve"
    assert len(site.world.tools.requests) == 1


@pytest.mark.requirement("server:approvals")
async def test_an_approval_with_other_arguments_makes_the_call_with_those() -> None:
    site = await open_site(model=[HELD, answer("Refunded a part.")])
    run = await site.ask("Refund order 17")
    path = f"/approvals/{run['approvals'][0]['id']}/decision"
    assert (await site.post(path, {"decision": "modify"}, "staff")).status_code == 422
    assert (await site.post(path, {"decision": "approve", "arguments": {}}, "staff")).status_code == 422
    body = {"decision": "modify", "arguments": {"order": 17, "amount": 40.0}}
    gone_on = await site.post(path, body, "staff")
    assert gone_on.json()["output"] == "Refunded a part."
    assert site.world.tools.requests[0].arguments == '{"amount":40,"order":17}'


@pytest.mark.requirement("server:replay")
async def test_an_operator_replays_a_session_of_the_tenant_and_nobody_else_does() -> None:
    site = await open_site(model=[answer("Hello.")])
    run = await site.ask()
    asked = len(site.world.model.requests)
    body = {"session_id": run["session_id"]}
    report = (await site.post("/debug/replay", body, "staff")).json()
    assert (report["identical"], report["steps"], report["steps_total"]) == (True, 1, 1)
    assert len(site.world.model.requests) == asked
    assert (await site.post("/debug/replay", body, "ana")).status_code == 403
    stranger = BO.__class__(tenant="other", user="op@example.com", roles=frozenset({"operator"}))
    await site.key("stranger", stranger)
    foreign = await site.post("/debug/replay", body, "stranger", X_Correlation_Id="c")
    unknown = await site.post(
        "/debug/replay", {"session_id": "ses_nothing"}, "stranger", X_Correlation_Id="c"
    )
    assert (foreign.status_code, foreign.content) == (404, unknown.content)


@pytest.mark.requirement("input:concurrent")
async def test_two_requests_at_once_lose_nothing_and_mix_nothing() -> None:
    site = await open_site(model=lambda request: answer(f"You said {request.messages[-1].text}."))
    opened = (await site.post("/sessions", {"agent": "support"})).json()
    path = f"/sessions/{opened['id']}/runs"
    both = await asyncio.gather(*(site.post(path, {"input": text}) for text in ("one", "two")))
    assert [reply.json()["output"] for reply in both] == ["You said one.", "You said two."]
    users = await asyncio.gather(*(site.ask(f"{who} speaks", who) for who in ("ana", "bo") * 5))
    assert {run["output"] for run in users} == {"You said ana speaks.", "You said bo speaks."}


async def cancelled(site: Site, run_id: str) -> None:
    """End a run whose model stays silent."""
    assert (await site.post(f"/runs/{run_id}/cancel")).json()["status"] == "cancelled"
