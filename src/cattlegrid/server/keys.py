"""Makes, checks, lists and revokes API keys. A key is shown once; the store has the SHA-256 of its secret part.

    cg_<26 characters, the id>_<43 characters, 256 random bits in base64url>

A key is bound to one user, or may act for any user of its tenant (`act_as`), who is then named with every request. The
user's name is sealed with the user's own data key, so that an erasure takes the name away and the key is worth nothing.
Every check reads the store: a revocation counts at once, in every process.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

import msgspec

from cattlegrid.core.errors import (
    IntegrityError,
    InvalidRequest,
    NotFound,
    SessionEnded,
    Unauthenticated,
)
from cattlegrid.core.ids import Ids
from cattlegrid.core.permissions import ROLES
from cattlegrid.core.ports import Clock
from cattlegrid.core.principal import Principal
from cattlegrid.journal.audit import LOCAL, AuditLog
from cattlegrid.journal.codec import from_micros, micros
from cattlegrid.journal.control import control_writer
from cattlegrid.journal.events import KeyCreated, KeyRevoked, NewEvent
from cattlegrid.journal.store import BodyRow, JournalStore
from cattlegrid.journal.vault import Vault
from cattlegrid.journal.writer import SessionWriter
from cattlegrid.server.names import check_tenant, check_user

_KEY: Final = re.compile(r"cg_([0-9A-HJKMNP-TV-Z]{26})_([A-Za-z0-9_-]{43})")
_SECRET_BYTES: Final = 32
_INDEX: Final = "apikeys"


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret. `user` is empty for a key that acts for users, and for one whose user was erased."""

    id: str
    tenant: str
    user: str
    act_as: bool
    roles: tuple[str, ...]
    label: str
    created_at: datetime
    revoked_at: datetime | None


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """What a key shall be: for a user, or `act_as`."""

    tenant: str
    user: str = ""
    act_as: bool = False
    roles: tuple[str, ...] = ("user",)
    label: str = ""
    """For people; never who it is for."""


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """A key as the store keeps it, by its id."""

    id: str
    tenant: str
    sha256: str
    roles: tuple[str, ...]
    created_us: int
    act_as: bool = False
    owner: str = ""
    user_digest: str = ""
    user_sealed: str = ""
    label: str = ""
    revoked_us: int = 0


_record_decoder = msgspec.json.Decoder(_Record)
_index_decoder = msgspec.json.Decoder(list[str])


class KeyRing:
    """The API keys of one store. `holder` names this process in the lease of the control stream."""

    def __init__(
        self,
        store: JournalStore,
        vault: Vault,
        *,
        clock: Clock,
        ids: Ids,
        holder: str,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._ids = ids
        self._holder = holder
        self._entropy = entropy
        self._audit = AuditLog(store, vault, clock=clock, holder=holder)
        self._writing = asyncio.Lock()

    async def create(self, new: NewKey, *, by: Principal | None = None) -> tuple[ApiKey, str]:
        """Make a key; the key itself is the second value and is never seen again.

        Args:
            new: what it shall be.
            by: who asks for it; None for the command line on the machine itself.

        Raises:
            InvalidRequest: roles that do not exist, both or neither of a user and `act_as`, or an odd name.
        """
        _check(new)
        secret = base64.urlsafe_b64encode(self._entropy(_SECRET_BYTES)).rstrip(b"=").decode()
        record = _Record(
            id=self._ids.key(),
            tenant=new.tenant,
            sha256=_sha256(secret),
            roles=new.roles,
            created_us=micros(self._clock.now()),
            act_as=new.act_as,
            label=new.label,
        )
        if new.user:
            box = await self._vault.create_owner(self._vault.owner_of(new.tenant, new.user))
            sealed = box.seal(new.user)
            record = msgspec.structs.replace(
                record,
                owner=box.owner,
                user_digest=sealed.digest,
                user_sealed=base64.b64encode(sealed.sealed).decode(),
            )
        audit = await self._audit.prepare(by or _local(new.tenant), "create_key", record.id)
        created = KeyCreated(
            key_id=record.id,
            tenant=new.tenant,
            owner=record.owner,
            act_as=new.act_as,
            roles=new.roles,
            by=self._pseudonym_of(by),
        )
        async with self._control() as writer:
            # On record before it works; an id in the index that leads nowhere is passed over.
            await writer.append([NewEvent(created), audit.event], bodies=audit.bodies)
            await self._store.put_setting(_INDEX, _json([*await self._index(), record.id]))
            await self._put(record)
        return _shown(record, new.user), f"cg_{record.id.removeprefix('key_')}_{secret}"

    async def verify(self, presented: str) -> ApiKey:
        """The key that a caller has shown. Reads the store every time; compares in constant time.

        Raises:
            Unauthenticated: malformed, unknown, wrong, revoked, or of a user who was erased.
        """
        parts = _KEY.fullmatch(presented)
        record = await self._get(f"key_{parts[1]}") if parts else None
        shown = _sha256(parts[2] if parts else presented)
        known = record.sha256 if record is not None else _sha256("")
        if not hmac.compare_digest(shown, known) or record is None or record.revoked_us:
            raise Unauthenticated("This API key is not valid.")
        user = await self._user(record)
        if not user and not record.act_as:
            raise Unauthenticated("This API key is not valid.", detail="its user was erased")
        return _shown(record, user)

    async def revoke(self, key_id: str, *, tenant: str, by: Principal | None = None) -> ApiKey:
        """Make a key worthless, at once and everywhere. Without effect on one that is revoked already.

        Raises:
            NotFound: the tenant has no such key.
        """
        record = await self._get(key_id)
        if record is None or record.tenant != tenant:
            raise NotFound("There is no key with this id.")
        if not record.revoked_us:
            record = await self._revoke(record, by)
        return _shown(record, await self._user(record))

    async def list_keys(self, tenant: str) -> Sequence[ApiKey]:
        """All keys of a tenant, newest first."""
        return [
            _shown(record, await self._user(record))
            for record in await self._all()
            if record.tenant == tenant
        ]

    async def revoke_user(self, tenant: str, user: str, *, by: Principal | None = None) -> int:
        """Revoke every key of a user; how many there were."""
        owner = self._vault.owner_of(tenant, user)
        theirs = [record for record in await self._all() if record.owner == owner and not record.revoked_us]
        for record in theirs:
            await self._revoke(record, by)
        return len(theirs)

    async def has_any(self) -> bool:
        """Whether anybody at all can authenticate."""
        return any(not record.revoked_us for record in await self._all())

    def pseudonym(self, tenant: str, user: str) -> str:
        """How a person is named in records."""
        return self._vault.owner_of(tenant, user)

    async def _revoke(self, record: _Record, by: Principal | None) -> _Record:
        gone = msgspec.structs.replace(record, revoked_us=micros(self._clock.now()))
        audit = await self._audit.prepare(by or _local(record.tenant), "revoke_key", record.id)
        # Before it is on record: a key that somebody wants gone must not live on because the journal is busy.
        await self._put(gone)
        revoked = KeyRevoked(key_id=record.id, by=self._pseudonym_of(by))
        async with self._control() as writer:
            await writer.append([NewEvent(revoked), audit.event], bodies=audit.bodies)
        return gone

    def _pseudonym_of(self, by: Principal | None) -> str:
        return self.pseudonym(by.tenant, by.user) if by is not None else ""

    @asynccontextmanager
    async def _control(self) -> AsyncGenerator[SessionWriter]:
        """The writer of the control stream; one change of keys at a time, here and in other processes."""
        async with (
            self._writing,
            control_writer(self._store, holder=self._holder, clock=self._clock) as writer,
        ):
            yield writer

    async def _all(self) -> list[_Record]:
        found = [await self._get(id) for id in reversed(await self._index())]
        return [record for record in found if record is not None]

    async def _index(self) -> list[str]:
        text = await self._store.setting(_INDEX)
        return _index_decoder.decode(text) if text else []

    async def _get(self, key_id: str) -> _Record | None:
        text = await self._store.setting(f"apikey:{key_id}")
        return _record_decoder.decode(text) if text else None

    async def _put(self, record: _Record) -> None:
        await self._store.put_setting(f"apikey:{record.id}", _json(record))

    async def _user(self, record: _Record) -> str:
        """The name of the user that a key is bound to; empty when there is none, or when they were erased."""
        if not record.owner:
            return ""
        sealed = base64.b64decode(record.user_sealed)
        try:
            box = await self._vault.open_owner(record.owner)
            return box.open(BodyRow(owner=record.owner, digest=record.user_digest, sealed=sealed)).decode()
        except (SessionEnded, IntegrityError):
            # A user who came back after an erasure has another data key; the old name stays sealed.
            return ""


def _check(new: NewKey) -> None:
    unknown = sorted(set(new.roles) - set(ROLES))
    if unknown or not new.roles:
        raise InvalidRequest(f"A key needs roles out of: {', '.join(ROLES)}.")
    if bool(new.user) == new.act_as:
        raise InvalidRequest("A key is either for one user, or acts for users.")
    if new.act_as and set(new.roles) != {"user"}:
        # Its holder could be two people at once: the one who asks and the one who approves.
        raise InvalidRequest("A key that acts for users has the role `user` only.")
    check_tenant(new.tenant)
    if new.user:
        check_user(new.user)


def _local(tenant: str) -> Principal:
    """Whoever can read the store and its key."""
    return Principal(tenant=tenant, user="", credential=LOCAL)


def _shown(record: _Record, user: str) -> ApiKey:
    return ApiKey(
        id=record.id,
        tenant=record.tenant,
        user=user,
        act_as=record.act_as,
        roles=record.roles,
        label=record.label,
        created_at=from_micros(record.created_us),
        revoked_at=from_micros(record.revoked_us) if record.revoked_us else None,
    )


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _json(value: _Record | Iterable[str]) -> str:
    return msgspec.json.encode(value).decode()
