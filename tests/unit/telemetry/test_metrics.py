"""Metrics: what the journal tells is counted once, whenever reading begins, under labels that cannot explode."""

import re
from datetime import UTC, datetime

import pytest

from cattlegrid.journal import events as ev
from cattlegrid.telemetry import names
from cattlegrid.telemetry.metrics import Metrics, Process
from cattlegrid.telemetry.series import MAX_SERIES, Counter, Histograms
from cattlegrid.testing.models import answer, call
from cattlegrid.testing.world import ANA, BO, STAFF, World, bundle_of, tool_of
from tests.unit.server.site import while_time_passes

pytestmark = pytest.mark.anyio

PROCESS = Process(
    rss_bytes=1_000_000, started_at=datetime(2026, 1, 1, tzinfo=UTC), version="1.2.3", environment="test"
)
FIND = tool_of("find_order", arguments={"order": "integer"})
REFUND = tool_of("refund", effect="write", retry="keyed", arguments={"amount": "number"})
LINE = re.compile(
    r"[a-z_]+(\{[a-z_]+=\"(?:[^\"\\\n]|\\.)*\"(,[a-z_]+=\"(?:[^\"\\\n]|\\.)*\")*\})? (\d+(\.\d+)?(e[+-]\d+)?|\+Inf)"
)


async def busy_world() -> World:
    """A found order, a held refund, a refused argument, and a tool that raised."""
    world = World(
        bundle_of("support", tools=[FIND, REFUND], approve={"refund": "amount > 50"}),
        model=[
            answer(calls=[call("find_order", order=1)]),
            answer("Found."),
            answer(calls=[call("refund", amount=79.9)]),
            answer(calls=[call("find_order", order="x"), call("find_order", call_id="2", order=2)]),
            answer("Sorry."),
        ],
        functions={"find_order": lambda order: {1: {"order": 1}}[order], "refund": lambda amount: amount},
    )
    await world.ask("one")
    await world.ask("two", principal=BO)
    await while_time_passes(world.clock, world.ask("three"))
    return world


@pytest.mark.requirement("server:probes")
async def test_runs_steps_cost_tokens_and_verdicts_are_counted_from_the_journal() -> None:
    world = await busy_world()
    metrics = Metrics()
    await metrics.read(world.store)
    assert metrics.runs.series == {("support", "completed"): 2}
    assert metrics.steps.series == {
        ("chat", "", "done"): 5,
        ("execute_tool", "find_order", "done"): 1,
        ("execute_tool", "find_order", "failed"): 1,
        ("execute_tool", "find_order", "refused"): 1,
        ("execute_tool", "refund", "held"): 1,
    }
    assert metrics.cost.series == {("support", "small"): 5 * 56_000}
    assert metrics.verdicts.series["approve_lines", "hold"] == 1
    [durations] = metrics.durations.series.values()
    assert durations.count == 5
    usage = {labels[1]: histogram.total for labels, histogram in metrics.tokens.series.items()}
    assert usage == {"input": 500.0, "output": 50.0}
    assert metrics.waiting.series == {("pending",): 1, ("in_doubt",): 0}


async def test_reading_goes_on_where_it_stopped_and_counts_nothing_twice() -> None:
    world = await busy_world()
    metrics, whole = Metrics(), Metrics()
    assert await metrics.read(world.store) > 0
    assert await metrics.read(world.store) == 0
    approval = (await world.engine.reader.approvals(STAFF))[0]
    await world.engine.decide(approval.id, STAFF, ev.ApprovalDecision.REJECT)
    await world.settled()
    await metrics.read(world.store)
    await whole.read(world.store)
    assert metrics.render(PROCESS) == whole.render(PROCESS)
    assert metrics.waiting.series["pending",] == 0


async def test_a_reader_that_begins_in_the_middle_looks_up_what_it_has_missed() -> None:
    world = await busy_world()
    rows = await world.store.feed(0)
    middle = next(item.position for item in rows if item.row.type == "step_intended.1")
    metrics = Metrics(after=middle)
    await metrics.read(world.store)
    assert set(metrics.runs.series) == {("support", "completed")}
    assert sum(metrics.steps.series.values()) == 9


async def test_no_user_session_or_run_is_in_what_is_rendered() -> None:
    world = await busy_world()
    metrics = Metrics()
    await metrics.read(world.store)
    text = metrics.render(PROCESS)
    for private in (ANA.user, BO.user, "ses_0", "run_0", "stp_0", "usr_", "apr_0"):
        assert private not in text


@pytest.mark.requirement("server:probes")
async def test_every_line_is_of_the_text_format_and_histograms_add_up() -> None:
    world = await busy_world()
    metrics = Metrics()
    await metrics.read(world.store)
    text = metrics.render(PROCESS)
    assert text.endswith("\n")
    for line in text.splitlines():
        assert line.startswith(("# HELP ", "# TYPE ")) or LINE.fullmatch(line), line
    for required in (
        "gen_ai_client_operation_duration_seconds_count",
        "gen_ai_client_token_usage_sum",
        "cattlegrid_runs_total",
        "cattlegrid_steps_total",
        "cattlegrid_cost_nano_usd_total",
        "cattlegrid_approvals_waiting",
        "cattlegrid_guard_verdicts_total",
        "process_resident_memory_bytes 1000000",
        'cattlegrid_info{version="1.2.3",environment="test"} 1',
    ):
        assert required in text
    buckets = [
        int(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("gen_ai_client_token_usage_bucket") and '"input"' in line
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 5


def test_what_exceeds_the_series_of_a_metric_is_counted_as_other() -> None:
    counter = Counter("x_total", "X.", ("tool", "status"))
    for number in range(MAX_SERIES + 50):
        counter.add(f"tool-{number}", "done")
    counter.add("tool-0", "done")
    assert len(counter.series) == MAX_SERIES + 1
    assert counter.series["other", "other"] == 50
    assert counter.series["tool-0", "done"] == 2


def test_labels_are_escaped_and_their_number_is_fixed() -> None:
    counter = Counter("x_total", "X.", ("name",))
    counter.add('a"b\\c\nd')
    assert list(counter.render())[-1] == 'x_total{name="a\\"b\\\\c\\nd"} 1'
    with pytest.raises(ValueError, match="labels"):
        counter.add("a", "b")


def test_an_empty_metric_is_not_rendered_and_borders_are_exact_and_always_the_same() -> None:
    histograms = Histograms("x", "X.", borders=range(-8, 9, 8))
    assert list(histograms.render()) == []
    for value in (0.0, 1.0, 2.0, 1e9):
        histograms.add(value=value)
    assert list(histograms.render())[2:] == [
        'x_bucket{le="0.46650738"} 1',
        'x_bucket{le="1"} 2',
        'x_bucket{le="2.14358881"} 3',
        'x_bucket{le="+Inf"} 4',
        "x_sum 1000000003",
        "x_count 4",
    ]


def test_names_of_the_conventions_are_spelt_once_and_carry_their_version() -> None:
    spelt = [value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)]
    assert names.VERSION in spelt
    attributes = [value for value in spelt if value.startswith("gen_ai.")]
    assert len(attributes) == len(set(attributes)) > 25
    assert (
        names.prometheus(names.CLIENT_OPERATION_DURATION, "seconds")
        == "gen_ai_client_operation_duration_seconds"
    )
