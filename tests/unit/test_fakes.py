"""The model and the tools in memory: what users of `testing` may lean on."""

import asyncio

import pytest

from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import ModelRejected, ToolFailed, ToolTimeout
from cattlegrid.core.messages import FinishReason, TextDelta
from cattlegrid.core.requests import ToolRequest
from cattlegrid.core.tools import Context, NotExecuted
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.models import FakeModel, answer, call
from cattlegrid.testing.tools import FunctionTools
from tests.unit.calls.manifests import manifest, model_request, tool_request

pytestmark = pytest.mark.anyio

CLOCK = ManualClock()
SOON = Deadline.after(CLOCK, 5.0)


def asked(arguments: str = "{}", *, undone_result: str = "") -> ToolRequest:
    made = tool_request(manifest(), arguments).request
    return ToolRequest(
        bundle=made.bundle,
        tool=made.tool,
        arguments=made.arguments,
        principal=made.principal,
        session_id=made.session_id,
        run_id=made.run_id,
        idempotency_key=made.idempotency_key,
        undone_result=undone_result,
    )


async def test_the_model_follows_its_script_and_refuses_what_comes_after_it() -> None:
    model = FakeModel([answer(calls=[call("refund", order=17)]), answer("Done.")], clock=CLOCK)
    request = model_request().request
    first = await model.chat(request, deadline=SOON, on_delta=None)
    assert first.message.tool_calls[0].arguments == '{"order":17}'
    assert first.finish_reason is FinishReason.TOOL_CALLS
    deltas: list[object] = []
    await model.chat(request, deadline=SOON, on_delta=deltas.append)
    assert deltas == [TextDelta("Done.")]
    with pytest.raises(ModelRejected, match="the script is over"):
        await model.chat(request, deadline=SOON, on_delta=None)
    assert model.requests == [request] * 3


async def test_a_model_may_answer_by_a_function_of_the_request() -> None:
    model = FakeModel(lambda request: answer(request.messages[-1].text, refusal="no"), clock=CLOCK)
    response = await model.chat(model_request().request, deadline=SOON, on_delta=None)
    assert (response.message.text, response.finish_reason) == ("Hi", FinishReason.REFUSAL)


async def test_functions_get_arguments_context_and_the_result_to_undo() -> None:
    seen: list[object] = []

    def undo(order_id: int, result: dict[str, int], context: Context) -> None:
        seen.extend((order_id, result, context.principal.user, context.idempotency_key, context.deadline_s))

    tools = FunctionTools({"refund": undo}, clock=CLOCK)
    request = asked('{"order_id":17}', undone_result='{"refunded":5}')
    assert await tools.call(request, deadline=SOON) == "null"
    assert seen == [17, {"refunded": 5}, "ada", "stp_1", 5.0]
    assert tools.requests == [request]


async def test_what_a_function_raises_is_told_apart() -> None:
    def refuse() -> None:
        raise NotExecuted("sold out")

    def fail() -> None:
        raise ValueError("oops")

    with pytest.raises(NotExecuted, match="sold out"):
        await FunctionTools({"refund": refuse}, clock=CLOCK).call(asked(), deadline=SOON)
    with pytest.raises(ToolFailed, match="ValueError: oops"):
        await FunctionTools({"refund": fail}, clock=CLOCK).call(asked(), deadline=SOON)
    with pytest.raises(NotExecuted):
        await FunctionTools({}, clock=CLOCK).call(asked(), deadline=SOON)


async def test_an_asynchronous_function_is_left_at_the_deadline_of_the_clock() -> None:
    clock = ManualClock()
    left = asyncio.Event()

    async def slow() -> str:
        try:
            await clock.sleep(60.0)
        finally:
            left.set()
        return "late"

    tools = FunctionTools({"refund": slow}, clock=clock)
    calling = asyncio.ensure_future(tools.call(asked(), deadline=Deadline.after(clock, 5.0)))
    await clock.asleep(2)
    clock.advance(5.0)
    with pytest.raises(ToolTimeout):
        await calling
    await asyncio.wait_for(left.wait(), 10)


async def test_an_asynchronous_function_in_time_gives_its_value() -> None:
    async def quick() -> dict[str, int]:
        return {"refunded": 5}

    assert (
        await FunctionTools({"refund": quick}, clock=CLOCK).call(asked(), deadline=SOON) == '{"refunded":5}'
    )
