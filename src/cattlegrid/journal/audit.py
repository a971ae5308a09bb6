"""Turns what those who run the service do into events of the control stream, and these back into lines for people.

An action is on record before it is done: when it cannot be recorded it is not done. One that then fails gets a second
line with the code of its error. The name of who did it is a body of their own, so that an erasure takes the name and
leaves the pseudonym.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

import msgspec

from cattlegrid.core.errors import CattlegridError, IntegrityError, SessionEnded
from cattlegrid.core.ports import Clock
from cattlegrid.core.principal import Principal
from cattlegrid.journal.codec import decode
from cattlegrid.journal.control import control_writer
from cattlegrid.journal.directory import AUDIT
from cattlegrid.journal.events import CONTROL_STREAM, NewEvent, OperatorActed
from cattlegrid.journal.store import BodyRow, Entry, EntryQuery, JournalStore
from cattlegrid.journal.vault import Vault

LOCAL: Final = "local"
"""The credential of the command line on the machine itself, which can read the store and its key."""
DONE: Final = "done"
_CONFIGURATION: Final = "configuration"


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what to what, when, and with which kind of credential."""

    id: str
    at: datetime
    tenant: str
    action: str
    subject: str
    outcome: str
    """`done`, or the code of the error with which it failed."""
    by: str
    """Pseudonym; empty for the command line on the machine itself."""
    who: str
    """Name; empty once its person was erased."""
    credential: str
    credential_id: str


class Recording(msgspec.Struct, frozen=True):
    """An event and the bodies that it needs, for whoever appends it together with others."""

    event: NewEvent
    bodies: Sequence[BodyRow]


class AuditLog:
    """The audit of one store, for one event loop. `holder` names this process in the lease of the control stream."""

    def __init__(self, store: JournalStore, vault: Vault, *, clock: Clock, holder: str) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._holder = holder
        self._writing = asyncio.Lock()

    @asynccontextmanager
    async def acting(self, principal: Principal, action: str, subject: str) -> AsyncGenerator[None]:
        """Record an action, then let the block do it; when that fails, record how.

        Raises:
            StoreUnavailable: it cannot be recorded; nothing was done.
        """
        await self.record(principal, action, subject)
        try:
            yield
        except Exception as error:
            code = error.code if isinstance(error, CattlegridError) else CattlegridError.code
            await self.record(principal, action, subject, outcome=code)
            raise

    async def record(self, principal: Principal, action: str, subject: str, *, outcome: str = "") -> None:
        """Write one line. Raises StoreUnavailable."""
        recording = await self.prepare(principal, action, subject, outcome=outcome)
        async with (
            self._writing,
            control_writer(self._store, holder=self._holder, clock=self._clock) as writer,
        ):
            await writer.append([recording.event], bodies=recording.bodies)

    async def prepare(
        self, principal: Principal, action: str, subject: str, *, outcome: str = ""
    ) -> Recording:
        """The event of one line, not written yet."""
        by, who_ref = "", ""
        bodies: list[BodyRow] = []
        if principal.user:
            by = self._vault.owner_of(principal.tenant, principal.user)
            box = await self._vault.create_owner(by)
            # Not the bare name: this text is the control stream's alone, so that no session's retirement takes it.
            name = box.seal(msgspec.json.encode({"who": principal.user}))
            who_ref = name.digest
            bodies.append(name)
        acted = OperatorActed(
            action=action,
            by=by,
            subject=subject,
            tenant=principal.tenant,
            credential=principal.credential,
            credential_id=principal.credential_id,
            who_ref=who_ref,
            outcome=outcome,
        )
        return Recording(NewEvent(acted), bodies)

    async def configured(self, principal: Principal, digest: str) -> bool:
        """Record that the configuration is another one than when this was last called; whether it is."""
        if await self._store.setting(_CONFIGURATION) == digest:
            return False
        await self.record(principal, _CONFIGURATION, digest)
        await self._store.put_setting(_CONFIGURATION, digest)
        return True

    async def lines(self, tenant: str, *, limit: int = 50, before_id: str = "") -> list[AuditLine]:
        """What was done in a tenant, newest first."""
        query = EntryQuery(kind=AUDIT, tenant=tenant, before_id=before_id, limit=limit)
        return [await self._line(entry) for entry in await self._store.entries(query)]

    async def _line(self, entry: Entry) -> AuditLine:
        [row] = await self._store.rows(CONTROL_STREAM, after_seq=int(entry.ref) - 1, limit=1)
        event = decode(row)
        data = event.data
        if not isinstance(data, OperatorActed):
            raise IntegrityError("The audit does not verify.", detail=f"{CONTROL_STREAM} {entry.ref}")
        return AuditLine(
            id=entry.id,
            at=event.at,
            tenant=data.tenant,
            action=data.action,
            subject=data.subject,
            outcome=data.outcome or DONE,
            by=data.by,
            who=await self._name(data),
            credential=data.credential,
            credential_id=data.credential_id,
        )

    async def _name(self, data: OperatorActed) -> str:
        if not data.who_ref:
            return ""
        try:
            found = await self._vault.read(data.by, [data.who_ref])
        except (SessionEnded, IntegrityError):
            return ""
        return msgspec.json.decode(found[data.who_ref], type=dict[str, str])["who"] if found else ""
