"""Counts what the journal tells: a projection of its feed, rendered for Prometheus.

`read` goes on where it last stopped, so it may be called at any time; a new process begins at the beginning, or at a
position that it is given. Labels come from bundles, guards and the closed unions of the code: never a user, never a
session, and each metric has a bounded number of series.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from cattlegrid.core.verdicts import Verdict
from cattlegrid.journal import events as ev
from cattlegrid.journal.codec import decode
from cattlegrid.journal.store import EntryQuery, FeedRow, JournalStore
from cattlegrid.telemetry import names
from cattlegrid.telemetry.series import OTHER, SECONDS, TOKENS, Counter, Gauge, Histograms

Kept = TypeVar("Kept")

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_PAGE: Final = 1_000
_COUNTED_APPROVALS: Final = 10_000
_KEPT_SESSIONS: Final = 10_000
_KEPT_STEPS: Final = 50_000
_CHATS: Final = frozenset({ev.StepKind.CHAT, ev.StepKind.SUMMARY})


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of this process and not of the journal."""

    rss_bytes: int
    started_at: datetime
    version: str
    environment: str


class _Open(msgspec.Struct, frozen=True):
    """A step that has begun: what its end does not repeat."""

    kind: ev.StepKind
    name: str
    """The model, as the project calls it, or the tool."""
    provider: str = ""
    requested: str = ""
    """The model, as its provider calls it."""


class Metrics:
    """The counts of one journal. For one event loop."""

    def __init__(self, *, after: int = 0) -> None:
        self.position = after
        """The last place of the feed that was counted."""
        self._reading = asyncio.Lock()
        self._agents: OrderedDict[str, str] = OrderedDict()
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self.runs = Counter("cattlegrid_runs_total", "Runs that have ended.", ("agent", "status"))
        self.steps = Counter(
            "cattlegrid_steps_total", "Steps that have ended, or were held.", ("kind", "tool", "status")
        )
        self.cost = Counter(
            "cattlegrid_cost_nano_usd_total",
            "Cost of model calls in billionths of a US dollar.",
            ("agent", "model"),
        )
        self.verdicts = Counter(
            "cattlegrid_guard_verdicts_total", "What guards have said.", ("guard", "decision")
        )
        self.feedback = Counter("cattlegrid_feedback_total", "What users thought of runs.", ("thumb",))
        self.events = Counter("cattlegrid_events_total", "Events of the journal.", ("type",))
        self.durations = Histograms(
            names.prometheus(names.CLIENT_OPERATION_DURATION, "seconds"),
            "Duration of calls to models.",
            tuple(
                names.prometheus(label)
                for label in (
                    names.OPERATION_NAME,
                    names.PROVIDER_NAME,
                    names.REQUEST_MODEL,
                    names.ERROR_TYPE,
                )
            ),
            borders=SECONDS,
        )
        self.tool_durations = Histograms(
            "cattlegrid_tool_duration_seconds",
            "Duration of calls to tools.",
            ("tool", "status"),
            borders=SECONDS,
        )
        self.tokens = Histograms(
            names.prometheus(names.CLIENT_TOKEN_USAGE),
            "Tokens of calls to models.",
            tuple(
                names.prometheus(label)
                for label in (
                    names.OPERATION_NAME,
                    names.TOKEN_TYPE,
                    names.PROVIDER_NAME,
                    names.REQUEST_MODEL,
                )
            ),
            borders=TOKENS,
        )
        self.waiting = Gauge("cattlegrid_approvals_waiting", "Calls that wait for a person.", ("status",))

        self._others: list[Counter] = []

    def include(self, *families: Counter) -> None:
        """Render these too: what other projections count."""
        self._others.extend(families)

    async def read(self, store: JournalStore) -> int:
        """Count what is new; how many events that was. Raises StoreUnavailable; what was counted stays counted."""
        count = 0
        async with self._reading:
            while page := await store.feed(self.position, limit=_PAGE):
                for item in page:
                    await self._count(item, store)
                    self.position = item.position
                count += len(page)
            for status in ("pending", "in_doubt"):
                query = EntryQuery(kind="approval", statuses=(status,), limit=_COUNTED_APPROVALS)
                self.waiting.set(status, value=len(await store.entries(query)))
        return count

    def render(self, process: Process) -> str:
        """Everything counted so far, in the text format of Prometheus."""
        about = Gauge("cattlegrid_info", "What runs here.", ("version", "environment"))
        about.set(process.version, process.environment, value=1)
        memory = Gauge("process_resident_memory_bytes", "Memory that this process holds.")
        memory.set(value=process.rss_bytes)
        started = Gauge("process_start_time_seconds", "When this process began, in seconds since 1970.")
        started.set(value=process.started_at.timestamp())
        position = Gauge(
            "cattlegrid_feed_position", "The last place of the journal's feed that is counted here."
        )
        position.set(value=self.position)
        families = (
            *(self.runs, self.steps, self.cost, self.verdicts, self.feedback, self.events),
            *(self.durations, self.tool_durations, self.tokens, self.waiting),
            *(about, memory, started, position),
            *self._others,
        )
        return "".join(f"{line}\n" for family in families for line in family.render())

    async def _count(self, item: FeedRow, store: JournalStore) -> None:
        event = decode(item.row)
        data = event.data
        self.events.add(item.row.type)
        self._count_verdicts(getattr(data, "verdicts", ()))
        match data:
            case ev.SessionOpened(agent=agent):
                _keep(self._agents, event.stream, agent, _KEPT_SESSIONS)
            case ev.RunFinished(status=status):
                self.runs.add(await self._agent(event.stream, store), status.value)
            case ev.StepIntended():
                _keep(self._open, data.step_id, _opened(data), _KEPT_STEPS)
            case ev.StepHeld(tool=tool):
                self.steps.add(ev.StepKind.EXECUTE_TOOL.value, tool.tool, "held")
            case ev.StepRefused(tool=tool, asked_by=asked_by):
                kind = ev.StepKind.EXECUTE_TOOL if asked_by else ev.StepKind.CHAT
                self.steps.add(kind.value, tool, "refused")
            case ev.StepDone():
                self._count_done(data, await self._agent(event.stream, store))
            case ev.StepFailed():
                self._count_failed(data, await self._agent(event.stream, store))
            case ev.FeedbackGiven(thumb=thumb):
                self.feedback.add(thumb or "none")
            case _:
                pass

    def _count_done(self, data: ev.StepDone, agent: str) -> None:
        kind = ev.StepKind.CHAT if data.model else ev.StepKind.EXECUTE_TOOL
        guessed = _Open(kind, data.model or OTHER, data.provider, data.model)
        step = self._open.pop(data.step_id, guessed)
        if step.kind not in _CHATS:
            self.steps.add(step.kind.value, step.name, "done")
            self.tool_durations.add(step.name, "done", value=data.duration_s)
            return
        self.steps.add(step.kind.value, "", "done")
        self.cost.add(agent, step.name, amount=data.cost_nano_usd)
        self.durations.add(names.CHAT, data.provider, step.requested, "", value=data.duration_s)
        if data.usage is not None:
            self.tokens.add(
                names.CHAT, names.TOKEN_INPUT, data.provider, step.requested, value=data.usage.input_tokens
            )
            self.tokens.add(
                names.CHAT, names.TOKEN_OUTPUT, data.provider, step.requested, value=data.usage.output_tokens
            )

    def _count_failed(self, data: ev.StepFailed, agent: str) -> None:
        step = self._open.pop(data.step_id, _Open(ev.StepKind.EXECUTE_TOOL, OTHER))
        if step.kind not in _CHATS:
            self.steps.add(step.kind.value, step.name, "failed")
            self.tool_durations.add(step.name, "failed", value=data.duration_s)
            return
        self.steps.add(step.kind.value, "", "failed")
        self.durations.add(names.CHAT, step.provider, step.requested, data.code, value=data.duration_s)
        if data.cost_nano_usd:
            self.cost.add(agent, step.name, amount=data.cost_nano_usd)

    def _count_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            self.verdicts.add(verdict.guard, verdict.decision.value)

    async def _agent(self, session_id: str, store: JournalStore) -> str:
        """The agent of a session: remembered, or looked up when the reading began after the session."""
        agent = self._agents.get(session_id)
        if agent is None:
            entry = await store.entry("session", session_id)
            agent = entry.agent if entry is not None else OTHER
            _keep(self._agents, session_id, agent, _KEPT_SESSIONS)
        return agent


def _opened(data: ev.StepIntended) -> _Open:
    if data.model is not None:
        requested = data.model.requested or data.model.model
        return _Open(data.kind, data.model.model, data.model.provider, requested)
    return _Open(data.kind, data.tool.tool if data.tool is not None else "")


def _keep(kept: OrderedDict[str, Kept], key: str, value: Kept, most: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)
