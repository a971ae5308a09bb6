"""Turns owners into boxes: finds, makes and unwraps the key of each, and reads bodies through it.

Owners are `usr_...` (a user's pseudonym; encrypted) and `bundle:<digest>` (plain). A user without a key is a new one,
or one whose key was erased: only `create_owner` makes a key, and it is called when a session opens.
"""

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from cattlegrid.core.errors import SessionEnded
from cattlegrid.core.ports import Clock
from cattlegrid.journal.bodies import BUNDLE_PREFIX, BundleBox, OwnerBox, UserBox, Zstd
from cattlegrid.journal.codec import micros
from cattlegrid.journal.kek import KEY_BYTES, Kek
from cattlegrid.journal.store import JournalStore, OwnerKey

KEPT_BOXES: Final = 1_024


class Vault:
    """The keys of all owners of one store, for one event loop. Boxes of the owners used last are kept."""

    def __init__(self, store: JournalStore, kek: Kek, clock: Clock) -> None:
        self._store = store
        self._kek = kek
        self._clock = clock
        self._zstd = Zstd()
        self._kept: OrderedDict[str, tuple[bytes, OwnerBox]] = OrderedDict()

    def owner_of(self, tenant: str, user: str) -> str:
        """The pseudonym of a user: the owner of everything that is theirs."""
        return self._kek.pseudonym(tenant, user)

    async def create_owner(self, owner: str) -> OwnerBox:
        """The box of an owner; a user that has no key gets one. Always asks the store.

        Raises:
            IntegrityError: the key does not verify.
        """
        if owner.startswith(BUNDLE_PREFIX):
            return self._box(owner, b"")
        key = await self._store.owner_key(owner)
        if key is None:
            wrapped = self._kek.wrap(owner, os.urandom(KEY_BYTES))
            fresh = OwnerKey(owner=owner, wrapped=wrapped, created_us=micros(self._clock.now()))
            key = await self._store.create_owner_key(fresh)
        return self._box(owner, key.wrapped)

    async def open_owner(self, owner: str) -> OwnerBox:
        """The box of an owner who has one; a kept one without asking the store.

        Raises:
            SessionEnded: a user that has no key: it was erased, or never made.
            IntegrityError: the key does not verify.
        """
        kept = self._kept.get(owner)
        if kept is not None:
            return self._box(owner, kept[0])
        if owner.startswith(BUNDLE_PREFIX):
            return self._box(owner, b"")
        key = await self._store.owner_key(owner)
        if key is None:
            raise SessionEnded("This user's data has been erased.", detail=owner)
        return self._box(owner, key.wrapped)

    async def erase_owner(self, owner: str) -> Sequence[str]:
        """Delete a user's key and bodies and fence their writers; returns the streams of their sessions."""
        self._kept.pop(owner, None)
        return await self._store.erase_owner(owner, at_us=micros(self._clock.now()))

    def forget(self, owner: str) -> None:
        """Drop the kept box of an owner, for example after an append that failed with `owner`."""
        self._kept.pop(owner, None)

    async def read(self, owner: str, digests: Iterable[str]) -> dict[str, bytes]:
        """The texts of those bodies that exist, by digest.

        Raises:
            SessionEnded: the owner has no key.
            IntegrityError: a body does not verify.
        """
        wanted = list(dict.fromkeys(digests))
        if not wanted:
            return {}
        box = await self.open_owner(owner)
        return {body.digest: box.open(body) for body in await self._store.bodies(owner, wanted)}

    def _box(self, owner: str, wrapped: bytes) -> OwnerBox:
        kept = self._kept.get(owner)
        if kept is not None and kept[0] == wrapped:
            self._kept.move_to_end(owner)
            return kept[1]
        if owner.startswith(BUNDLE_PREFIX):
            box: OwnerBox = BundleBox(owner, self._zstd)
        else:
            box = UserBox(owner, self._kek.unwrap(owner, wrapped), self._zstd)
        self._kept[owner] = (wrapped, box)
        self._kept.move_to_end(owner)
        if len(self._kept) > KEPT_BOXES:
            self._kept.popitem(last=False)
        return box
