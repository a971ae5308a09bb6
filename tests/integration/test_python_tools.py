"""The tools of a registered bundle, called as the runtime calls them: types, context, threads, time and errors."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from cattlegrid.calls.schemas import ToolSchemas
from cattlegrid.core.deadlines import Deadline
from cattlegrid.core.errors import CattlegridError, ToolFailed, ToolResultInvalid
from cattlegrid.core.tools import NotExecuted
from tests.integration.tool_bench import Bench, refusal, request_for

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    found = Bench(tmp_path)
    yield found
    await found.client.close()


TYPES = '''
class Size(Enum):
    SMALL = "s"

@dataclass(frozen=True)
class Item:
    name: str
    price: Decimal
    sent: date | None = None

@tool()
def describe(item: Item, size: Size, many: list[Item], note: str = "none") -> dict[str, str]:
    """Tell the types."""
    return {
        "item": type(item).__name__, "price": type(item.price).__name__, "sent": type(item.sent).__name__,
        "size": size.name, "many": type(many[0]).__name__, "note": note,
    }

@tool()
async def later(item: Item) -> Item:
    """Give it back."""
    await asyncio.sleep(0)
    return item
'''


@pytest.mark.requirement("tools:threads")
async def test_arguments_arrive_as_their_declared_types(bench: Bench) -> None:
    bundle = await bench.bundle(TYPES)
    item = {"name": "cup", "price": "1.50", "sent": "2026-01-02"}
    assert await bench.call(bundle, "describe", item=item, size="s", many=[item]) == {
        "item": "Item",
        "price": "Decimal",
        "sent": "date",
        "size": "SMALL",
        "many": "Item",
        "note": "none",
    }
    assert await bench.call(bundle, "later", item=item) == item


CONTEXT = '''
@tool(effect="write", retry="keyed")
def who(ctx: Context) -> dict[str, Any]:
    """Tell what the runtime gave."""
    return {
        "user": ctx.principal.user, "tenant": ctx.principal.tenant, "session": ctx.session_id, "run": ctx.run_id,
        "key": ctx.idempotency_key, "log": ctx.log.name, "time": 0 < ctx.deadline_s <= 20,
        "thread": threading.current_thread() is not threading.main_thread(),
    }
'''


@pytest.mark.requirement("tools:context", "tools:threads")
async def test_the_context_comes_from_the_runtime_whatever_the_model_says(bench: Bench) -> None:
    bundle = await bench.bundle(CONTEXT)
    expected = {
        "user": "ana",
        "tenant": "shop",
        "session": "ses_1",
        "run": "run_1",
        "key": "key-1",
        "log": "cattlegrid.tools.who",
        "time": True,
        "thread": True,
    }
    assert await bench.call(bundle, "who") == expected
    assert await bench.call(bundle, "who", ctx={"principal": {"user": "bo"}}) == expected


ERRORS = '''
@tool()
def refuse() -> None:
    """Refuse."""
    raise NotExecuted("Order 5 is not yours.")

@tool()
def fail() -> None:
    """Fail."""
    raise ZeroDivisionError("deep inside")

@tool()
def stop() -> None:
    """Leave."""
    raise SystemExit(3)

@tool()
def exhausted() -> None:
    """Stop."""
    raise StopIteration

@tool()
def late_error() -> None:
    """Time out by itself."""
    raise TimeoutError("the shop's own")

@tool()
async def fail_later() -> None:
    """Fail."""
    raise ValueError("later")

@tool()
async def cancelled() -> None:
    """Cancel itself."""
    raise asyncio.CancelledError

@tool()
def unwritable() -> Any:
    """Return no JSON."""
    return object()

@tool()
def forgotten() -> Any:
    """Forget to await."""
    async def inner() -> int:
        return 1
    return inner()
'''


@pytest.mark.requirement("fault:tool")
@pytest.mark.parametrize(
    ("name", "kind", "detail"),
    [
        ("fail", ToolFailed, "deep inside"),
        ("stop", ToolFailed, "SystemExit: 3"),
        ("exhausted", ToolFailed, "StopIteration"),
        ("late_error", ToolFailed, "the shop's own"),
        ("fail_later", ToolFailed, "ValueError: later"),
        ("cancelled", ToolFailed, "CancelledError"),
        ("unwritable", ToolResultInvalid, "unwritable: Unable to serialize"),
        ("forgotten", ToolResultInvalid, "declare it `async def`"),
    ],
)
async def test_what_a_tool_raises_becomes_one_error_with_the_detail_inside(
    bench: Bench, name: str, kind: type[CattlegridError], detail: str
) -> None:
    bundle = await bench.bundle(ERRORS)
    error = await refusal(bench.call(bundle, name), kind)
    assert detail in error.detail
    assert detail not in error.message
    if kind is ToolFailed:
        assert 'tools.py", line' in error.detail
        assert "tool_threads" not in error.detail


async def test_a_refusal_of_the_tool_passes_through(bench: Bench) -> None:
    error = await refusal(bench.call(await bench.bundle(ERRORS), "refuse"), NotExecuted)
    assert error.message == "Order 5 is not yours."


UNDO = '''
@dataclass(frozen=True)
class Made:
    number: int

@tool(effect="write", retry="keyed", undo="take_back")
def make(a: int, b: int = 2) -> Made:
    """Make."""
    return Made(a + b)

@tool(effect="write", retry="free")
def take_back(a: int, result: Made, ctx: Context, also: str = "-") -> list[int]:
    """Take back."""
    return [a, result.number]
'''


async def test_an_undo_gets_what_its_signature_names(bench: Bench) -> None:
    bundle = await bench.bundle(UNDO)
    assert await bench.call(bundle, "make", a=1) == {"number": 3}
    assert await bench.call(bundle, "take_back", undone='{"number": 3}', a=1, b=2) == [1, 3]
    error = await refusal(bench.call(bundle, "take_back", a=1), NotExecuted)
    assert error.message == "The argument `result` is missing."
    error = await refusal(bench.call(bundle, "make", a="many"), NotExecuted)
    assert error.message == "The argument `a` does not fit the tool."


SHAPES = '''
class Page(TypedDict):
    results: list[str]

@tool()
def listing() -> Page:
    """List."""
    return {"data": {"items": ["a"]}}  # the other side has changed

@dataclass
class Base:
    a: int

@dataclass
class More(Base):
    b: int = 1

@tool()
def more() -> Base:
    """Return more than declared."""
    return More(1)

@tool()
def wrong() -> Base:
    """Return another type."""
    return Base("x")

@tool()
def nothing() -> None:
    """Do."""
'''


@pytest.mark.requirement("tools:results")
@pytest.mark.parametrize(
    ("name", "value", "difference"),
    [
        ("listing", {"data": {"items": ["a"]}}, "data"),
        ("more", {"a": 1, "b": 1}, "b"),
        ("wrong", {"a": "x"}, "a"),
        ("nothing", None, ""),
    ],
)
async def test_a_result_leaves_as_it_is_so_that_the_difference_is_seen(
    bench: Bench, name: str, value: object, difference: str
) -> None:
    bundle = await bench.bundle(SHAPES)
    found = await bench.call(bundle, name)
    assert found == value
    if difference:
        with pytest.raises(ToolResultInvalid) as refused:
            ToolSchemas().result(bundle.digest, bundle.tools[name], json.dumps(found))
        assert difference in refused.value.detail


@pytest.mark.requirement("bundle:side-by-side")
async def test_sessions_of_two_versions_call_their_own_code(bench: Bench) -> None:
    code = '\n@tool()\ndef version() -> int:\n    """Tell."""\n    return {}\n'
    one, two = await bench.bundle(code.format(1)), await bench.bundle(code.format(2))
    assert [await bench.call(bundle, "version") for bundle in (one, two, one)] == [1, 2, 1]


@pytest.mark.requirement("support:snapshot")
async def test_the_snapshot_function_is_asked(bench: Bench) -> None:
    bundle = await bench.bundle('def edition() -> str:\n    return "kb-7"\n', agent="snapshot: edition\n")
    assert await bench.client.snapshot(bundle) == "kb-7"
    assert await bench.client.snapshot(await bench.bundle("")) == ""
    number = await bench.bundle("def edition() -> str:\n    return 7\n", agent="snapshot: edition\n")
    assert "returned no text" in (await refusal(bench.client.snapshot(number), ToolFailed)).detail
    broken = await bench.bundle("def edition() -> str:\n    return 1 / 0\n", agent="snapshot: edition\n")
    assert "ZeroDivisionError" in (await refusal(bench.client.snapshot(broken), ToolFailed)).detail


async def test_code_that_cannot_be_loaded_was_surely_not_executed(bench: Bench) -> None:
    code = """
import os
if os.environ.get("CATTLEGRID_TEST_BROKEN"):
    raise RuntimeError("no database")

@tool()
def f() -> None:
    \"\"\"Do.\"\"\"
"""
    bundle = await bench.bundle(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CATTLEGRID_TEST_BROKEN", "1")
        error = await refusal(bench.call(bundle, "f"), NotExecuted)
    assert "no database" in error.detail
    assert await bench.call(bundle, "f") is None
    unknown = request_for(bundle, bundle.tools["f"], {})
    missing = msgspec.structs.replace(unknown, bundle="0" * 64)
    await refusal(bench.client.call(missing, deadline=Deadline.after(bench.clock, 5)), NotExecuted)
