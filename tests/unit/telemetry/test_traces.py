"""The export of traces: from a place of the feed on, to a collector that comes and goes, by one process at a time."""

from collections import Counter
from collections.abc import Sequence

import pytest

from cattlegrid.telemetry import names
from cattlegrid.telemetry.spans import Span, trace_id
from cattlegrid.telemetry.traces import Collector, CollectorUnavailable, TraceExport
from cattlegrid.testing.world import ANA, World
from tests.unit.server.site import while_time_passes
from tests.unit.telemetry.busy import SECRET, held_world, traced

pytestmark = pytest.mark.anyio

DAY_S = 86_400.0
LEASE_S = 30.0


class Taken:
    """A `SpanSink` that keeps what it takes, and can be away, or refuse."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.batches: list[int] = []
        self.away = False
        self.retry_after_s: float | None = None
        self.refuses = 0

    async def send(self, spans: Sequence[Span]) -> int:
        if self.away:
            raise CollectorUnavailable("Not now.", retry_after_s=self.retry_after_s)
        kept = spans[: len(spans) - self.refuses]
        self.spans += kept
        self.batches.append(len(spans))
        return len(kept)

    @property
    def runs(self) -> Counter[bytes]:
        """How often each run's own span has come."""
        return Counter(span.trace_id for span in self.spans if not span.parent_id)


def export_of(world: World, sink: Taken, *, holder: str = "one", content: bool = False) -> TraceExport:
    return TraceExport(world.store, world.vault, sink, clock=world.clock, holder=holder, content=content)


async def asked(world: World, text: str = "look") -> str:
    return (await while_time_passes(world.clock, world.ask(text))).id


@pytest.mark.requirement("telemetry:export")
async def test_what_ends_from_now_on_is_sent_once_and_the_past_is_not() -> None:
    world, sink = held_world(), Taken()
    await asked(world)
    export = export_of(world, sink)
    assert await export.round() == 0
    run = await asked(world)
    assert await export.round() == len(await traced(world, run))
    assert sink.spans == await traced(world, run)
    assert await export.round() == 0
    assert export.runs.series == {("sent",): 1}
    assert export.spans.series == {("taken",): len(sink.spans)}


@pytest.mark.requirement("telemetry:export")
async def test_a_new_process_goes_on_where_the_last_one_stopped() -> None:
    world, sink = held_world(), Taken()
    await export_of(world, sink, holder="dead").round()
    runs = [await asked(world) for _ in range(3)]
    other = export_of(world, sink, holder="other")
    assert await other.round() == 0, "the lease of the dead has not ended"
    world.clock.advance(LEASE_S + 1)
    await other.round()
    assert sink.runs == Counter(trace_id(run) for run in runs)


@pytest.mark.requirement("telemetry:export")
async def test_one_process_of_a_store_sends_and_gives_over_when_it_stops() -> None:
    world, sink = held_world(), Taken()
    exports = [export_of(world, sink, holder=name) for name in ("one", "two", "three")]
    runs: list[str] = []
    for _ in range(4):
        for export in exports:
            await export.round()
        runs.append(await asked(world))
        world.clock.advance(LEASE_S / 2)
    await exports[0].close()
    runs.append(await asked(world))
    for export in exports[1:]:
        await export.round()
    assert sink.runs == Counter(trace_id(run) for run in runs)


@pytest.mark.requirement("telemetry:export")
async def test_while_the_collector_is_away_nothing_is_lost_and_nobody_waits() -> None:
    world, sink = held_world(), Taken()
    export = export_of(world, sink)
    await export.round()
    sink.away, sink.retry_after_s = True, 60.0
    runs = [await asked(world) for _ in range(3)]
    with pytest.raises(CollectorUnavailable):
        await export.round()
    assert await export.round() == 0, "it said when to come back"
    sink.away = False
    world.clock.advance(61)
    await export.round()
    assert sink.runs == Counter(trace_id(run) for run in runs)
    assert export.runs.series == {("sent",): 3}


@pytest.mark.requirement("telemetry:export")
async def test_what_is_older_than_a_day_or_gone_is_counted_as_lost() -> None:
    world, sink = held_world(), Taken()
    export = export_of(world, sink)
    await export.round()
    await asked(world)
    world.clock.advance(DAY_S + 1)
    gone = await while_time_passes(world.clock, world.ask("look"))
    await world.engine.close_session(gone.session_id, ANA)
    await world.settled()
    run = await asked(world)
    world.clock.advance(1)
    assert await world.upkeep.retire(before=world.clock.now()) == 1
    await export.round()
    assert sink.runs == Counter([trace_id(run)])
    # Of what retention has deleted the feed says nothing any more.
    assert export.runs.series == {("sent",): 1, ("lost",): 1}


@pytest.mark.requirement("telemetry:export")
async def test_what_the_collector_refuses_for_good_is_counted_and_not_sent_again() -> None:
    world, sink = held_world(), Taken()
    export = export_of(world, sink)
    await export.round()
    run = await asked(world)
    whole = len(await traced(world, run))
    sink.refuses = 2
    assert await export.round() == whole - 2
    assert await export.round() == 0
    assert export.spans.series == {("taken",): whole - 2, ("refused",): 2}


@pytest.mark.requirement("telemetry:export")
async def test_batches_are_bounded() -> None:
    world, sink = held_world(), Taken()
    export = export_of(world, sink)
    await export.round()
    runs = [await asked(world) for _ in range(150)]
    await export.round()
    assert sink.runs == Counter(trace_id(run) for run in runs)
    assert len(sink.batches) > 1
    assert max(sink.batches) <= 512 + len(await traced(world, runs[0]))


@pytest.mark.requirement("telemetry:privacy")
async def test_texts_are_sent_only_when_asked_for_and_never_those_of_erased_users() -> None:
    world = held_world()
    plain, full, late = Taken(), Taken(), Taken()
    exports = [export_of(world, plain), export_of(world, full, content=True)]
    await exports[0].round()
    run = await asked(world, f"look for {SECRET}")
    place = await world.store.setting("traces_position") or ""
    for export in exports:
        await world.store.put_setting("traces_position", place)
        await export.round()
        await export.close()
    assert SECRET not in repr(plain.spans)
    assert SECRET in repr(full.spans)
    await world.upkeep.erase("shop", "ana@example.com", by="")
    await world.store.put_setting("traces_position", place)
    await export_of(world, late, content=True).round()
    assert late.runs == Counter([trace_id(run)])
    assert SECRET not in repr(late.spans)
    assert all(names.INPUT_MESSAGES not in span.attributes for span in late.spans)


def test_a_collector_does_not_show_its_key() -> None:
    assert "secret" not in repr(Collector(url="http://127.0.0.1:4318/v1/traces", headers={"x-key": "secret"}))
