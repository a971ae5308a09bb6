"""Turns recorded events back into what people read: runs with their steps, approvals, sessions. Needs no lease.

Who may read what is decided here, once: a user their own, an operator or approver everything of their tenant. What
somebody may not see is `NotFound`, exactly like what does not exist.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from cattlegrid.core.errors import NotFound, SessionEnded
from cattlegrid.core.messages import Message, Role, Usage
from cattlegrid.core.principal import Principal
from cattlegrid.core.verdicts import Decision
from cattlegrid.journal import events as ev
from cattlegrid.journal.codec import decode
from cattlegrid.journal.store import Entry, EntryQuery, JournalStore
from cattlegrid.journal.vault import Vault
from cattlegrid.runtime.fold import fold_all
from cattlegrid.runtime.queued import QUEUED, queued_entry, queued_view
from cattlegrid.runtime.requests import ApprovalView, RunView, SessionView, StepView
from cattlegrid.runtime.texts import BUNDLE_PREFIX

_ERASED = "(erased)"
_STAFF = ("operator", "approver")
_PAGE = 100
_message_decoder = msgspec.json.Decoder(Message)


class Texts(msgspec.Struct, frozen=True):
    """The texts that some events refer to; those of an erased user are gone."""

    known: dict[str, str]

    def text(self, ref: str) -> str:
        return self.known.get(ref, _ERASED) if ref else ""

    def message(self, ref: str) -> Message:
        content = self.known.get(ref)
        return Message(Role.ASSISTANT, _ERASED) if content is None else _message_decoder.decode(content)


class Reader:
    """Reads the journal for people."""

    def __init__(self, store: JournalStore, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    async def entry(self, kind: str, id: str, principal: Principal) -> Entry:
        """The directory's entry, if the principal may know of it. Raises NotFound."""
        found = await self._store.entry(kind, id)
        if found is None and kind == "run":
            # It may begin between the two looks, and is then in the directory after all.
            found = await queued_entry(self._store, id) or await self._store.entry(kind, id)
        if found is None or found.tenant != principal.tenant or not self._may_read(found, principal):
            raise NotFound(f"There is no {kind} with this id.")
        return found

    def _may_read(self, entry: Entry, principal: Principal) -> bool:
        own = entry.owner == self._vault.owner_of(principal.tenant, principal.user)
        return own or any(principal.has(role) for role in _STAFF)

    async def events(self, session_id: str) -> list[ev.Event]:
        """Everything recorded of a session, in order."""
        return [decode(row) for row in await self._store.rows(session_id)]

    async def texts(self, owner: str, events: Sequence[ev.Event]) -> Texts:
        """The texts that these events refer to."""
        refs = {ref for event in events for ref in refs_of(event.data)}
        try:
            found = await self._vault.read(owner, refs)
        except SessionEnded:
            return Texts({})
        return Texts({ref: content.decode("utf-8", "surrogatepass") for ref, content in found.items()})

    async def run(self, run_id: str, principal: Principal) -> RunView:
        """A run with its steps. Raises NotFound."""
        entry = await self.entry("run", run_id, principal)
        first = [decode(row) for row in await self._store.rows(entry.stream, limit=1)]
        opened = opened_of(first)
        own = await self.events_of(entry)
        if not own:
            return await self._queued_run(entry, opened)
        texts = await self.texts(entry.owner, [*first, *own])
        return run_view(own, opened, texts, entry)

    async def events_of(self, run: Entry) -> list[ev.Event]:
        """Everything recorded of one run, in order; reads no more of a long session than that."""
        if run.status == QUEUED:
            return []
        found: list[ev.Event] = []
        seq = int(run.ref) - 1
        while True:
            page = [decode(row) for row in await self._store.rows(run.stream, after_seq=seq, limit=_PAGE)]
            found.extend(event for event in page if event.run_id == run.id)
            over = bool(found) and isinstance(found[-1].data, ev.RunFinished)
            if over or len(page) < _PAGE:
                return found
            seq = page[-1].seq

    async def _queued_run(self, entry: Entry, opened: ev.SessionOpened) -> RunView:
        try:
            found = await self._vault.read(entry.owner, {entry.ref})
        except SessionEnded:
            found = {}
        texts = Texts({ref: content.decode("utf-8", "surrogatepass") for ref, content in found.items()})
        return queued_view(entry, bundle_name(opened), texts.message(entry.ref).text)

    async def approval(self, approval_id: str, principal: Principal) -> ApprovalView:
        """A held call. Raises NotFound."""
        entry = await self.entry("approval", approval_id, principal)
        run = await self.run(entry.ref, principal)
        found = next((view for view in run.approvals if view.id == approval_id), None)
        if found is None:
            raise NotFound("There is no approval with this id.")
        return found

    async def approvals(
        self, principal: Principal, *, statuses: Sequence[str] = (), limit: int = 50, before_id: str = ""
    ) -> list[ApprovalView]:
        """Held calls, newest first."""
        entries = await self._entries(
            "approval", principal, statuses=statuses, limit=limit, before_id=before_id
        )
        return [await self.approval(entry.id, principal) for entry in entries]

    async def runs(
        self,
        principal: Principal,
        *,
        session_id: str = "",
        statuses: Sequence[str] = (),
        limit: int = 50,
        before_id: str = "",
    ) -> list[RunView]:
        """Runs, newest first."""
        entries = await self._entries(
            "run", principal, stream=session_id, statuses=statuses, limit=limit, before_id=before_id
        )
        return [await self.run(entry.id, principal) for entry in entries]

    async def session(self, session_id: str, principal: Principal) -> SessionView:
        """A session. Raises NotFound."""
        return await self._session_view(await self.entry("session", session_id, principal))

    async def sessions(
        self, principal: Principal, *, statuses: Sequence[str] = (), limit: int = 50, before_id: str = ""
    ) -> list[SessionView]:
        """Sessions, newest first."""
        entries = await self._entries(
            "session", principal, statuses=statuses, limit=limit, before_id=before_id
        )
        return [await self._session_view(entry) for entry in entries]

    async def _session_view(self, entry: Entry) -> SessionView:
        first = await self._store.rows(entry.stream, limit=1)
        opened = opened_of([decode(row) for row in first])
        return SessionView(
            id=entry.id,
            agent=entry.agent,
            bundle=bundle_name(opened),
            status=entry.status,
            created_at=_at(entry.created_us),
            updated_at=_at(entry.updated_us),
        )

    async def _entries(
        self,
        kind: str,
        principal: Principal,
        *,
        stream: str = "",
        statuses: Sequence[str],
        limit: int,
        before_id: str,
    ) -> Sequence[Entry]:
        staff = any(principal.has(role) for role in _STAFF)
        query = EntryQuery(
            kind=kind,
            tenant=principal.tenant,
            owner="" if staff else self._vault.owner_of(principal.tenant, principal.user),
            stream=stream,
            statuses=tuple(statuses),
            before_id=before_id,
            limit=limit,
        )
        return await self._store.entries(query)


def opened_of(events: Sequence[ev.Event]) -> ev.SessionOpened:
    """The first event of a session. Raises NotFound for an empty stream."""
    if not events or not isinstance(events[0].data, ev.SessionOpened):
        raise NotFound("There is no session with this id.")
    return events[0].data


def bundle_name(opened: ev.SessionOpened) -> str:
    """`support#17 (3f9c2ab1)`."""
    return f"{opened.agent}#{opened.bundle_number} ({opened.bundle[:8]})"


def run_view(events: Sequence[ev.Event], opened: ev.SessionOpened, texts: Texts, entry: Entry) -> RunView:
    """A run as people see it, from its own events."""
    started = next(event for event in events if isinstance(event.data, ev.RunStarted))
    finished = next((event for event in events if isinstance(event.data, ev.RunFinished)), None)
    ended = finished.data if finished is not None and isinstance(finished.data, ev.RunFinished) else None
    steps = _steps(events, texts)
    approvals = _approvals(events, opened, texts, entry)
    request = started.data.input_ref if isinstance(started.data, ev.RunStarted) else ""
    calls = [step for step in steps if step.status not in {"held", "refused"}]
    return RunView(
        id=entry.id,
        session_id=entry.stream,
        agent=opened.agent,
        bundle=bundle_name(opened),
        status=ended.status.value if ended is not None else entry.status,
        reason=ended.reason if ended is not None else "",
        input=texts.message(request).text,
        output=texts.text(ended.output_ref) if ended is not None else "",
        started_at=started.at,
        finished_at=finished.at if finished is not None else None,
        active_s=_active_s(events),
        model_calls=sum(step.kind in {"chat", "summary"} for step in calls),
        tool_calls=sum(step.kind not in {"chat", "summary"} for step in calls),
        usage=_total([step.usage for step in steps if step.usage is not None]),
        cost_nano_usd=sum(step.cost_nano_usd for step in steps),
        approvals=approvals,
        steps=steps,
    )


def _active_s(events: Sequence[ev.Event]) -> float:
    """Seconds of the run without the time on hold, counted as the loop counts them."""
    state = fold_all(
        events[0].stream, [event for event in events if not isinstance(event.data, ev.RunFinished)]
    )
    return (
        msgspec.structs.replace(state.run, last_at=events[-1].at).active_s if state.run is not None else 0.0
    )


def _total(usages: Sequence[Usage]) -> Usage:
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
        cache_read_tokens=sum(usage.cache_read_tokens for usage in usages),
        cache_write_tokens=sum(usage.cache_write_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
        estimated=any(usage.estimated for usage in usages),
    )


def _approvals(
    events: Sequence[ev.Event], opened: ev.SessionOpened, texts: Texts, entry: Entry
) -> tuple[ApprovalView, ...]:
    decided = {
        event.data.approval_id: event.data.decision.value
        for event in events
        if isinstance(event.data, ev.ApprovalDecided)
    }
    over = any(isinstance(event.data, ev.RunFinished) for event in events)
    views: list[ApprovalView] = []
    for event in events:
        held = event.data
        if not isinstance(held, ev.StepHeld):
            continue
        reason = next((verdict.reason for verdict in held.verdicts if verdict.decision is Decision.HOLD), "")
        waiting = "in_doubt" if held.hold is ev.HoldReason.IN_DOUBT else "pending"
        views.append(
            ApprovalView(
                id=held.approval_id,
                session_id=entry.stream,
                run_id=entry.id,
                agent=opened.agent,
                status=decided.get(held.approval_id, "void" if over else waiting),
                reason=held.hold.value,
                tool=held.tool.tool,
                arguments=texts.text(held.tool.arguments_ref),
                condition=reason,
                user=texts.text(opened.principal_ref),
                requested_at=event.at,
                expires_at=held.expires_at,
            )
        )
    return tuple(views)


def _steps(events: Sequence[ev.Event], texts: Texts) -> tuple[StepView, ...]:
    views: dict[str, StepView] = {}
    for event in events:
        data = event.data
        match data:
            case ev.StepHeld(step_id=id):
                given = texts.text(data.tool.arguments_ref)
                views[id] = StepView(
                    id=id,
                    kind="execute_tool",
                    name=data.tool.tool,
                    status="held",
                    attempt=0,
                    started_at=event.at,
                    duration_s=0.0,
                    given=given,
                    why=data.hold.value,
                )
            case ev.StepIntended(step_id=id):
                views[id] = _intended_view(event, data, texts)
            case ev.StepDone(step_id=id) if id in views:
                views[id] = _done_view(views[id], data, texts)
            case ev.StepFailed(step_id=id) if id in views:
                views[id] = msgspec.structs.replace(
                    views[id],
                    status="failed",
                    duration_s=data.duration_s,
                    cost_nano_usd=views[id].cost_nano_usd + data.cost_nano_usd,
                    answer=texts.message(data.content_ref).text if data.content_ref else "",
                    why=data.code,
                )
            case ev.StepRefused(step_id=id):
                views[id] = _refused_view(event, data, texts, views.get(id))
            case _:
                pass
    return tuple(views.values())


def _intended_view(event: ev.Event, data: ev.StepIntended, texts: Texts) -> StepView:
    name = data.model.model if data.model is not None else ""
    given = ""
    if data.tool is not None:
        name, given = data.tool.tool, texts.text(data.tool.arguments_ref)
    return StepView(
        id=data.step_id,
        kind=data.kind.value,
        name=name,
        status="running",
        attempt=data.attempt,
        started_at=event.at,
        duration_s=0.0,
        given=given,
        why=data.approval_id and "approved",
    )


def _done_view(view: StepView, data: ev.StepDone, texts: Texts) -> StepView:
    message = texts.message(data.content_ref)
    asked = ", ".join(f"{call.name}({call.arguments})" for call in message.tool_calls)
    settled = f"settled by {data.settled_by}" if data.settled_by else view.why
    return msgspec.structs.replace(
        view,
        status="done",
        duration_s=data.duration_s,
        cost_nano_usd=view.cost_nano_usd + data.cost_nano_usd,
        usage=data.usage,
        answer=message.text or asked or message.refusal,
        why=settled,
    )


def _refused_view(event: ev.Event, data: ev.StepRefused, texts: Texts, known: StepView | None) -> StepView:
    base = known or StepView(
        id=data.step_id,
        kind="execute_tool" if data.asked_by else "chat",
        name=data.tool or "(unknown tool)",
        status="refused",
        attempt=0,
        started_at=event.at,
        duration_s=0.0,
    )
    return msgspec.structs.replace(
        base, status="refused", answer=texts.message(data.content_ref).text, why=data.code
    )


def refs_of(data: msgspec.Struct) -> set[str]:
    """Every reference to a body of the session's user that an event holds, its own parts included."""
    refs: set[str] = set()
    for name in data.__struct_fields__:  # `msgspec.structs.fields` resolves annotations anew each time
        value: object = getattr(data, name)
        if isinstance(value, msgspec.Struct):
            refs |= refs_of(value)
        elif isinstance(value, str) and value and name.endswith("_ref"):
            refs.add(value)
    return {ref for ref in refs if not ref.startswith(BUNDLE_PREFIX)}


def _at(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1_000_000, tz=UTC)
