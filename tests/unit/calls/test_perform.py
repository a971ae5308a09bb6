"""The one way out: prices before calls, attempts where they may help, deadlines over everything."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.calls.perform import Calls, Clients
from cattlegrid.calls.ports import OnDelta
from cattlegrid.calls.retry import Retries, RetryPolicy, attempts_of
from cattlegrid.calls.schemas import ToolSchemas
from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import (
    CattlegridError,
    ConfigurationError,
    ContextTooLong,
    ModelError,
    ModelProtocolError,
    ModelRateLimited,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
    ToolError,
    ToolFailed,
    ToolResultInvalid,
    ToolTimeout,
)
from cattlegrid.core.messages import (
    ModelDelta,
    ModelRequest,
    ModelResponse,
    StreamRestarted,
    TextDelta,
    Usage,
)
from cattlegrid.core.money import Price
from cattlegrid.core.requests import ModelOutcome, ToolRequest
from cattlegrid.core.tools import NotExecuted, Retry
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.models import Answer, Break, FakeModel, Stall, answer
from cattlegrid.testing.tools import FunctionTools
from tests.unit.calls.manifests import RESULTS, manifest, model_request, tool_request

pytestmark = pytest.mark.anyio

PRICE = Price(
    input_nano_usd=3 * 10**9,
    output_nano_usd=15 * 10**9,
    cache_read_nano_usd=3 * 10**8,
    cache_write_nano_usd=3 * 10**9,
)
NOW = RetryPolicy(base_s=0.0)


class OnePrice:
    """A price for the model `m` and for no other."""

    def price(self, provider: str, model: str) -> Price:
        if model != "m":
            raise ConfigurationError("The price of the model is not known.")
        return PRICE


class DeafModel(FakeModel):
    """Never answers, whatever the deadline."""

    async def chat(
        self, request: ModelRequest, *, deadline: Deadline, on_delta: OnDelta | None
    ) -> ModelResponse:
        return await asyncio.get_running_loop().create_future()


class DeafTools(FunctionTools):
    """Never return, whatever the deadline."""

    async def call(self, request: ToolRequest, *, deadline: Deadline) -> str:
        return await asyncio.get_running_loop().create_future()


class Rig:
    """Calls over a scripted model and plain functions, on a clock that stands still."""

    def __init__(
        self,
        script: Iterable[Answer] | Callable[[ModelRequest], Answer] = (),
        tools: Mapping[str, Callable[..., object]] | None = None,
        *,
        policy: RetryPolicy = NOW,
    ) -> None:
        self.clock = ManualClock()
        self.model = FakeModel(script, clock=self.clock)
        self.tools = FunctionTools(tools or {}, clock=self.clock, snapshot="kb-7")
        self.deltas: list[ModelDelta] = []
        self.calls = Calls(
            Clients({"p": self.model}, self.tools),
            OnePrice(),
            schemas=ToolSchemas(),
            clock=self.clock,
            random=Random(1),
            policy=policy,
        )

    async def ask(self, *, within_s: float = 30.0) -> ModelOutcome:
        deadline = Deadline.after(self.clock, within_s)
        return await self.calls.perform(model_request(), deadline=deadline, on_delta=self.deltas.append)

    async def refused(self, *, within_s: float = 30.0) -> ModelError:
        with pytest.raises(ModelError) as raised:
            await self.ask(within_s=within_s)
        return raised.value


def away() -> ModelUnavailable:
    return ModelUnavailable("The model is not available right now.", detail="HTTP 503")


async def test_an_answer_comes_with_its_price_and_what_it_took() -> None:
    usage = Usage(input_tokens=1_000, output_tokens=10, cache_read_tokens=400)
    rig = Rig([answer("Hello there", usage=usage)])
    outcome = await rig.ask()
    assert outcome.response.message.text == "Hello there"
    assert outcome.cost_nano_usd == 600 * 3_000 + 400 * 300 + 10 * 15_000
    assert (outcome.provider, outcome.attempts, outcome.first_delta_s) == ("memory", 1, 0.0)
    assert rig.deltas == [TextDelta("Hello "), TextDelta("there")]


@pytest.mark.requirement("model:prices")
async def test_a_model_without_a_price_is_not_asked() -> None:
    rig = Rig([answer("Hi")])
    with pytest.raises(ConfigurationError):
        await rig.calls.perform(model_request(model="new"), deadline=Deadline.after(rig.clock, 1.0))
    assert rig.model.requests == []


async def test_a_provider_that_is_not_set_up_is_named_to_the_operator() -> None:
    rig = Rig()
    with pytest.raises(ConfigurationError) as raised:
        await rig.calls.perform(model_request(provider="q"), deadline=Deadline.after(rig.clock, 1.0))
    assert raised.value.detail == "no client for provider 'q'; known: p"


@pytest.mark.requirement("model:only-way")
async def test_a_request_that_no_guard_has_cleared_goes_nowhere() -> None:
    rig = Rig([answer("Hi")], {"refund": lambda: None})
    deadline = Deadline.after(rig.clock, 1.0)
    for uncleared in (model_request().request, tool_request(manifest()).request):
        with pytest.raises(AttributeError):
            await rig.calls.perform(uncleared, deadline=deadline)  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert rig.model.requests == []
    assert rig.tools.requests == []


@pytest.mark.requirement("model:retries")
@pytest.mark.parametrize(
    "error",
    [away(), ModelRateLimited(""), ModelTimeout(""), ModelProtocolError("")],
    ids=lambda error: type(error).__name__,
)
async def test_what_may_pass_is_tried_again(error: ModelError) -> None:
    outcome = await Rig([error, error, answer("Hi")]).ask()
    assert (outcome.response.message.text, outcome.attempts) == ("Hi", 3)


@pytest.mark.requirement("model:retries")
@pytest.mark.parametrize("error", [ModelRejected("no"), ContextTooLong("no")])
async def test_what_will_not_pass_is_not_tried_again(error: ModelError) -> None:
    rig = Rig([error, answer("Hi")])
    assert await rig.refused() is error
    assert len(rig.model.requests) == 1
    assert attempts_of(error) == 1


@pytest.mark.requirement("model:retries", "fault:model-down")
async def test_the_last_error_tells_how_many_attempts_were_made() -> None:
    rig = Rig([away(), ModelProtocolError("x"), away(), answer("too late")])
    error = await rig.refused()
    assert isinstance(error, ModelUnavailable)
    assert attempts_of(error) == 3
    assert error.message == "The model is not available right now."
    assert error.detail == "3 attempts, the last one: HTTP 503"


@pytest.mark.requirement("model:retries")
async def test_pieces_of_a_failed_attempt_are_taken_back_before_the_next_one() -> None:
    broken = Break(("It ", "is "), ModelProtocolError("cut"))
    rig = Rig([broken, away(), broken, answer("It was lost.")], policy=RetryPolicy(attempts=4, base_s=0.0))
    outcome = await rig.ask()
    assert outcome.attempts == 4
    voided = [TextDelta("It "), TextDelta("is "), StreamRestarted()]
    assert rig.deltas == [*voided, *voided, TextDelta("It "), TextDelta("was "), TextDelta("lost.")]


@pytest.mark.requirement("model:retries")
async def test_the_wait_that_the_provider_asks_for_is_kept() -> None:
    rig = Rig([ModelRateLimited("", retry_after_s=7.0), answer("Hi")])
    asking = asyncio.ensure_future(rig.ask())
    await rig.clock.asleep()
    assert rig.clock.next_due_s == 7.0
    assert len(rig.model.requests) == 1
    rig.clock.advance(7.0)
    outcome = await asking
    assert (outcome.attempts, outcome.duration_s, outcome.first_delta_s) == (2, 7.0, 7.0)


@pytest.mark.requirement("model:retries", "model:timeouts")
async def test_a_wait_past_the_deadline_is_not_begun() -> None:
    rig = Rig([ModelRateLimited("", retry_after_s=31.0), answer("Hi")])
    error = await rig.refused(within_s=30.0)
    assert isinstance(error, ModelRateLimited)
    assert rig.clock.monotonic_s() == 0.0


@pytest.mark.requirement("model:timeouts")
async def test_the_deadline_bounds_all_attempts_together() -> None:
    rig = Rig([away(), Stall(("It ",)), answer("never")])
    asking = asyncio.ensure_future(rig.refused(within_s=5.0))
    await rig.clock.asleep()
    rig.clock.advance(5.0)
    error = await asking
    assert isinstance(error, ModelTimeout)
    assert attempts_of(error) == 2


@pytest.mark.requirement("model:timeouts")
async def test_nothing_is_begun_after_the_deadline() -> None:
    rig = Rig([answer("Hi")], {"refund": lambda: None})
    assert isinstance(await rig.refused(within_s=0.0), ModelTimeout)
    with pytest.raises(NotExecuted):
        await rig.calls.perform(tool_request(manifest()), deadline=Deadline.after(rig.clock, 0.0))
    assert rig.model.requests == []
    assert rig.tools.requests == []


@pytest.mark.requirement("model:timeouts")
async def test_a_client_that_ignores_the_deadline_is_ended() -> None:
    rig = Rig()
    calls = Calls(
        Clients({"p": DeafModel((), clock=rig.clock)}, DeafTools({}, clock=rig.clock)),
        OnePrice(),
        schemas=ToolSchemas(),
        clock=rig.clock,
        random=Random(1),
        policy=RetryPolicy(attempts=1),
    )
    deadline = Deadline.after(rig.clock, 0.01)
    with pytest.raises(ModelTimeout):
        await calls.perform(model_request(), deadline=deadline)
    with pytest.raises(ToolTimeout):
        await calls.perform(tool_request(manifest()), deadline=deadline)


@pytest.mark.requirement("model:retries")
@given(
    seed=st.integers(),
    attempt=st.integers(1, 30),
    asked_s=st.none() | st.floats(0, 100),
    left_s=st.floats(0, 100),
)
def test_a_pause_is_random_bounded_long_enough_and_within_the_deadline(
    seed: int, attempt: int, asked_s: float | None, left_s: float
) -> None:
    clock = ManualClock()
    policy = RetryPolicy(base_s=0.5, cap_s=4.0)
    retries = Retries(policy, clock=clock, random=Random(seed))
    error = ModelRateLimited("", retry_after_s=asked_s)
    pause_s = retries.pause_s(error, attempt=attempt, deadline=Deadline.after(clock, left_s))
    longest_s = min(4.0, 0.5 * 2 ** (attempt - 1))
    if pause_s is None:
        assert left_s <= max(longest_s, asked_s or 0.0)
    else:
        assert (asked_s or 0.0) <= pause_s <= max(longest_s, asked_s or 0.0)
        assert pause_s < left_s


# tools


async def test_a_result_comes_as_json() -> None:
    rig = Rig(tools={"refund": lambda order_id: {"results": [{"id": order_id}]}})
    request = tool_request(manifest(returns=RESULTS), '{"order_id":17}')
    outcome = await rig.calls.perform(request, deadline=Deadline.after(rig.clock, 1.0))
    assert (outcome.value, outcome.attempts) == ('{"results":[{"id":17}]}', 1)
    assert await rig.calls.snapshot(None) == "kb-7"  # pyright: ignore[reportArgumentType]


@pytest.mark.requirement("tools:results", "fault:tool")
async def test_a_result_of_another_shape_is_not_passed_on_and_not_tried_again() -> None:
    rig = Rig(tools={"refund": lambda: {"data": []}})
    with pytest.raises(ToolResultInvalid) as raised:
        await rig.calls.perform(
            tool_request(manifest(returns=RESULTS, retry=Retry.FREE)),
            deadline=Deadline.after(rig.clock, 1.0),
        )
    assert raised.value.detail == "refund: `results` missing; new key `data`"
    assert len(rig.tools.requests) == 1


async def test_a_result_that_is_too_long_is_not_passed_on() -> None:
    rig = Rig(tools={"refund": lambda: "x" * 100})
    with pytest.raises(ToolResultInvalid):
        await rig.calls.perform(
            tool_request(manifest()), deadline=Deadline.after(rig.clock, 1.0), result_bytes=101
        )


def _raising(error: Exception) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


@pytest.mark.requirement("fault:tool")
@pytest.mark.parametrize(
    ("retry", "error", "attempts"),
    [
        (Retry.FREE, ValueError("oops"), 2),
        (Retry.FREE, ToolTimeout("late"), 2),
        (Retry.FREE, NotExecuted("no"), 2),
        (Retry.KEYED, ValueError("oops"), 1),
        (Retry.KEYED, ToolTimeout("late"), 1),
        (Retry.KEYED, NotExecuted("no"), 2),
        (Retry.ONCE, ValueError("oops"), 1),
        (Retry.ONCE, ToolTimeout("late"), 1),
        (Retry.ONCE, NotExecuted("no"), 2),
    ],
)
async def test_a_tool_is_called_again_only_where_that_is_surely_harmless(
    retry: Retry, error: Exception, attempts: int
) -> None:
    rig = Rig(tools={"refund": _raising(error)})
    with pytest.raises(ToolError) as raised:
        await rig.calls.perform(tool_request(manifest(retry=retry)), deadline=Deadline.after(rig.clock, 30.0))
    assert isinstance(raised.value, type(error) if isinstance(error, CattlegridError) else ToolFailed)
    assert len(rig.tools.requests) == attempts == attempts_of(raised.value)


@pytest.mark.requirement("fault:tool")
async def test_a_tool_that_hangs_is_left_at_its_own_timeout() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    rig = Rig(tools={"refund": hang})
    calling = asyncio.ensure_future(
        rig.calls.perform(tool_request(manifest(timeout_s=2.0)), deadline=Deadline.after(rig.clock, 30.0))
    )
    await rig.clock.asleep()
    assert rig.clock.next_due_s == 2.0
    rig.clock.advance(2.0)
    with pytest.raises(ToolTimeout):
        await calling


async def test_a_cancelled_call_is_cancelled_at_the_client() -> None:
    rig = Rig([Stall()])
    asking = asyncio.ensure_future(rig.ask())
    await rig.clock.asleep()
    asking.cancel()
    await asyncio.wait({asking})
    assert asking.cancelled()
    assert rig.model.open_calls == 0
