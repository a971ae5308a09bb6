"""Turns a recorded session into the proof that it would happen again, or the first place where it would not.

`exact`: the real loop, planner and guards are driven by the record. Wherever the record holds something that the loop
has decided, the loop decides again, and both are compared, references (keyed digests) of every text included; what came
from outside (answers, results, decisions, times) is taken from the record. Nothing here can call out: a plan's launches
are dropped, and no gateway is within reach.
"""

import contextlib
from collections import deque
from collections.abc import Mapping
from typing import Final, cast

import msgspec

from cattlegrid.calls.schemas import ToolSchemas
from cattlegrid.core.bundle import Bundle
from cattlegrid.guards.chain import GuardChain
from cattlegrid.journal import events as ev
from cattlegrid.journal.codec import check_chain, decode
from cattlegrid.journal.delta import requests
from cattlegrid.journal.store import JournalStore
from cattlegrid.journal.vault import Vault
from cattlegrid.runtime import loop
from cattlegrid.runtime.fold import fold
from cattlegrid.runtime.plan import Desk
from cattlegrid.runtime.planner import Planner
from cattlegrid.runtime.ports import Bundles
from cattlegrid.runtime.reading import opened_of
from cattlegrid.runtime.showing import refs_of
from cattlegrid.runtime.state import RECONCILED_BY, Session
from cattlegrid.runtime.texts import Texts

_DECIDED: Final = (
    ev.InputChecked,
    ev.StepIntended,
    ev.StepHeld,
    ev.StepRefused,
    ev.ContextCompacted,
    ev.RunParked,
    ev.RunFinished,
)
_SETTLED_OUTSIDE: Final = frozenset({"", RECONCILED_BY})
_SHOWN_CHARACTERS: Final = 200
# Guards may be added or renamed by a newer version of the program; what they decided must be the same.
_NOT_COMPARED: Final = frozenset({"verdicts"})
# How a refusal is worded may get better (some of the words are Python's own); the conversation goes on with the record's.
_WORDING: Final = frozenset({"content_ref", "content_bytes", "detail_ref"})


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first place where the replay and the record part. Texts are shortened."""

    seq: int
    run_id: str
    step_id: str
    field: str
    recorded: str
    replayed: str


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one replay. `steps` counts those found identical."""

    session_id: str
    bundle: str
    steps: int
    steps_total: int
    difference: Difference | None = None

    @property
    def identical(self) -> bool:
        return self.difference is None


class Replayer:
    """Replays sessions of one store."""

    def __init__(
        self, store: JournalStore, *, vault: Vault, bundles: Bundles, guards: GuardChain, schemas: ToolSchemas
    ) -> None:
        self._store = store
        self._vault = vault
        self._bundles = bundles
        self._guards = guards
        self._schemas = schemas

    async def exact(self, session_id: str, *, bundle: Bundle | None = None) -> ReplayReport:
        """Replay a session with the bundle it is pinned to, or show where another one would first differ.

        Raises:
            NotFound: no such session.
            SessionEnded: the user was erased; their texts are gone.
            IntegrityError: the record itself does not verify.
        """
        rows = await self._store.rows(session_id)
        check_chain(rows)
        recorded = [decode(row) for row in rows]
        opened = opened_of(recorded)
        bundle = bundle or await self._bundles.bundle(opened.bundle)
        texts = Texts(await self._vault.open_owner(opened.owner), self._store)
        await texts.load({ref for event in recorded for ref in refs_of(event.data)})
        user = texts.text(opened.principal_ref)
        desk = Desk(bundle=bundle, texts=texts, guards=self._guards, schemas=self._schemas, user=user)
        planner = Planner(desk)
        total = sum(isinstance(event.data, ev.StepIntended) for event in recorded)
        sent = {event.seq: refs for event, refs in requests(recorded)}
        same, difference = _drive(recorded, sent, bundle, planner, texts)
        return ReplayReport(
            session_id=session_id,
            bundle=f"{opened.agent}#{opened.bundle_number} ({bundle.digest[:8]})",
            steps=same,
            steps_total=total,
            difference=difference,
        )


def _drive(
    recorded: list[ev.Event],
    sent: Mapping[int, tuple[str, ...]],
    bundle: Bundle,
    planner: Planner,
    texts: Texts,
) -> tuple[int, Difference | None]:
    session = Session(id=recorded[0].stream)
    planned: deque[ev.NewEvent] = deque()
    same = 0
    for event in recorded:
        if _was_decided(event.data):
            if not planned:
                planned.extend(_plan(session, bundle, planner))
            difference = _compare(event, planned.popleft().data if planned else None, texts)
            if difference is not None:
                return same, difference
            same += isinstance(event.data, ev.StepIntended)
        elif isinstance(event.data, ev.RunStarted) and session.run is not None:
            # Runs of one session are serial: the end of the one before is missing.
            due = planned or _plan(session, bundle, planner)
            return same, _difference(
                event, "event", "RunStarted", type(due[0].data).__name__ if due else "nothing"
            )
        session = fold(session, event)
        difference = _compare_request(event, sent.get(event.seq, ()), session)
        if difference is not None:
            return same, difference
    return same, None


def _compare_request(event: ev.Event, sent: tuple[str, ...], session: Session) -> Difference | None:
    """Whether the recorded differences alone add up to the conversation that the loop has asked with."""
    if not isinstance(event.data, ev.StepIntended) or event.data.kind is not ev.StepKind.CHAT:
        return None
    asked = tuple(message.ref for message in session.context)
    if asked == sent:
        return None
    return _difference(event, "model.request", f"{len(sent)} messages", f"{len(asked)} messages")


def _was_decided(data: ev.Data) -> bool:
    """Whether the loop has decided this, rather than the world."""
    settled = isinstance(data, ev.StepDone | ev.StepFailed) and data.settled_by not in _SETTLED_OUTSIDE
    return settled or isinstance(data, _DECIDED)


def _plan(session: Session, bundle: Bundle, planner: Planner) -> tuple[ev.NewEvent, ...]:
    action = loop.next_action(session, bundle)
    if isinstance(action, loop.Rest | loop.Wait):
        return ()
    return planner.plan(session, action).events


def _compare(event: ev.Event, replayed: ev.Data | None, texts: Texts) -> Difference | None:
    recorded = event.data
    if type(replayed) is not type(recorded):
        shown = "nothing" if replayed is None else type(replayed).__name__
        return _difference(event, "event", type(recorded).__name__, shown)
    passed_over = _NOT_COMPARED | _WORDING if isinstance(recorded, ev.StepRefused) else _NOT_COMPARED
    for field in recorded.__struct_fields__:
        if field in passed_over:
            continue
        old, new = getattr(recorded, field), getattr(replayed, field)
        if old != new:
            name, old, new = _narrow(field, old, new)
            return _difference(event, name, _shown(old, texts), _shown(new, texts))
    return None


def _narrow(name: str, old: object, new: object) -> tuple[str, object, object]:
    """The innermost field, or place in a list, in which two values differ."""
    for inner, inner_old, inner_new in _parts(name, old, new):
        if inner_old != inner_new:
            return _narrow(inner, inner_old, inner_new)
    return name, old, new


def _parts(name: str, old: object, new: object) -> list[tuple[str, object, object]]:
    """The parts of two values of the same kind, side by side."""
    if isinstance(old, msgspec.Struct) and type(new) is type(old):
        inner_names = old.__struct_fields__
        return [(f"{name}.{inner}", getattr(old, inner), getattr(new, inner)) for inner in inner_names]
    if isinstance(old, tuple) and isinstance(new, tuple):
        pairs = zip(cast(tuple[object, ...], old), cast(tuple[object, ...], new), strict=False)
        return [(f"{name}[{place}]", *pair) for place, pair in enumerate(pairs)]
    return []


def _shown(value: object, texts: Texts) -> str:
    text = value if isinstance(value, str) else repr(value)
    with contextlib.suppress(KeyError):
        text = texts.text(text)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _difference(event: ev.Event, field: str, recorded: str, replayed: str) -> Difference:
    return Difference(
        seq=event.seq,
        run_id=event.run_id,
        step_id=getattr(event.data, "step_id", ""),
        field=field,
        recorded=recorded,
        replayed=replayed,
    )
