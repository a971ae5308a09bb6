"""Numbers the bundles of each agent and keeps their manifests and files in the journal's store.

The stream `release:<agent>` holds one `BundleRegistered` for each version; a later one of the same digest tells more of
where it comes from, and keeps the number. Manifest and files are plain bodies owned by `bundle:<digest>`, named by
their SHA-256; the manifest's is the digest of the bundle.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cattlegrid.core.bundle import Bundle, BundleVersion
from cattlegrid.core.errors import IntegrityError, LeaseHeld, NotFound
from cattlegrid.core.ports import Clock
from cattlegrid.journal.bodies import BUNDLE_PREFIX
from cattlegrid.journal.codec import decode
from cattlegrid.journal.events import BundleRegistered, Event, NewEvent, release_stream
from cattlegrid.journal.store import JournalStore
from cattlegrid.journal.vault import Vault
from cattlegrid.journal.writer import open_stream
from cattlegrid.release.archive import pack, unpack
from cattlegrid.release.build import BuiltBundle, require_clean
from cattlegrid.release.cache import BundleCache
from cattlegrid.release.manifest import read_manifest

_LEASE_S: Final = 10.0
_WAIT_S: Final = 0.1
_ATTEMPTS: Final = 150
"""Waits for the lease of a release stream: a little longer than a lease that its holder left behind."""
_AT_ONCE: Final = 50
"""Few enough for a store to look them up at once: every new session asks whether there is a newer version."""
_KEPT_BUNDLES: Final = 128
_STREAM_PREFIX: Final = release_stream("")


class BundleRegistry:
    """The bundles of one store; implements `runtime.ports.Bundles`. For one event loop."""

    def __init__(
        self,
        store: JournalStore,
        vault: Vault,
        *,
        clock: Clock,
        cache: Path,
        holder: str,
        environment: str = "development",
    ) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._cache = BundleCache(cache)
        self._holder = holder
        self._environment = environment
        self._kept: OrderedDict[str, Bundle] = OrderedDict()
        self._read: dict[str, tuple[int, tuple[BundleVersion, ...]]] = {}
        self._registering = asyncio.Lock()
        self._materialising = asyncio.Lock()

    async def register(self, built: BuiltBundle) -> BundleVersion:
        """Give a bundle its number; one that is registered already keeps its own.

        Raises:
            BundleInvalid: it differs from its commit, and this is production.
            LeaseHeld: another process registers versions of this agent and does not end.
            StoreUnavailable: nothing was registered, or nobody knows; registering again is harmless.
        """
        require_clean(built, self._environment)
        async with self._registering:
            known = _of_digest(await self.versions(built.bundle.agent), built.bundle.digest)
            if known is None or _tells_more(built, known):
                await self._append(built)
                known = _of_digest(await self.versions(built.bundle.agent), built.bundle.digest)
        if known is None:
            raise IntegrityError(
                "A version that was just registered is not there.", detail=built.bundle.digest
            )
        return known

    async def bundle(self, digest: str) -> Bundle:
        """The bundle with this digest.

        Raises:
            NotFound: it was never registered here.
            IntegrityError: its manifest does not verify.
        """
        kept = self._kept.get(digest)
        if kept is None:
            kept = read_manifest(await self.manifest(digest), digest=digest)
            self._kept[digest] = kept
            if len(self._kept) > _KEPT_BUNDLES:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(digest)
        return kept

    async def resolve(self, agent: str) -> BundleVersion:
        """The newest version of an agent; in production the newest one that does not differ from its commit.

        Raises:
            NotFound: there is none.
        """
        usable = [v for v in await self.versions(agent) if not v.dirty or self._environment != "production"]
        if not usable:
            raise NotFound(f"There is no agent `{agent}` that can be used here.")
        return usable[-1]

    async def versions(self, agent: str) -> tuple[BundleVersion, ...]:
        """Every version of an agent, by number; empty for an unknown agent."""
        seq, known = self._read.get(agent, (0, ()))
        while rows := await self._store.rows(release_stream(agent), after_seq=seq, limit=_AT_ONCE):
            seq, known = rows[-1].seq, fold_versions([decode(row) for row in rows], known)
            self._read[agent] = (seq, known)
            if len(rows) < _AT_ONCE:
                break
        return known

    async def agents(self) -> tuple[str, ...]:
        """Every agent that has a version, sorted."""
        _, heads = await self._store.heads_changed_since(0)
        streams = (head.stream for head in heads if head.seq)
        return tuple(sorted(s.removeprefix(_STREAM_PREFIX) for s in streams if s.startswith(_STREAM_PREFIX)))

    async def find(self, reference: str) -> BundleVersion:
        """The version that a person means: `support` (the newest), `support#3`, or the beginning of a digest.

        Raises:
            NotFound: there is none, or more than one.
        """
        agent, numbered, number = reference.partition("#")
        versions = await self.versions(agent)
        if not numbered and versions:
            return versions[-1]
        found = [version for version in versions if str(version.number) == number]
        if not versions and not numbered and len(reference) >= 4:
            everybody = [version for name in await self.agents() for version in await self.versions(name)]
            found = [version for version in everybody if version.digest.startswith(reference.lower())]
        if len(found) != 1:
            raise NotFound(
                f"{'Several versions are' if found else 'There is no version'} called `{reference}`."
            )
        return found[0]

    async def manifest(self, digest: str) -> bytes:
        """The manifest of a bundle as it was written. Raises NotFound."""
        found = await self._vault.read(_owner(digest), [digest])
        if digest not in found:
            raise NotFound(f"There is no bundle {digest[:8]}.", detail=digest)
        return found[digest]

    async def files(self, digest: str) -> dict[str, bytes]:
        """The files of a bundle, by path.

        Raises:
            NotFound: there is no such bundle.
            IntegrityError: a file is missing or does not verify.
        """
        bundle = await self.bundle(digest)
        found = await self._vault.read(_owner(digest), bundle.files.values())
        missing = [name for name, body in bundle.files.items() if body not in found]
        if missing:
            raise IntegrityError(
                "A file of a bundle is missing in the store.", detail=f"{digest}: {missing[0]}"
            )
        return {name: found[body] for name, body in bundle.files.items()}

    async def materialise(self, digest: str) -> Path:
        """The folder with exactly the files of a bundle, from which its code is imported.

        Raises:
            NotFound: there is no such bundle.
            IntegrityError: its files do not verify.
        """
        bundle = await self.bundle(digest)
        async with self._materialising:
            place = await asyncio.to_thread(self._cache.find, bundle)
            if place is None:
                files = await self.files(digest)
                place = await asyncio.to_thread(self._cache.write, bundle, files)
        return place

    async def export(self, version: BundleVersion) -> bytes:
        """The archive of a version; see `release.archive`. Raises NotFound or IntegrityError."""
        manifest = await self.manifest(version.digest)
        return pack(version, manifest=manifest, files=await self.files(version.digest))

    async def import_(self, archive: bytes) -> BundleVersion:
        """Register the bundle of an archive: the same digest as where it was built, the next number of this store.

        Raises:
            BundleInvalid: something in the archive was changed, or it may not be used here.
        """
        return await self.register(unpack(archive))

    async def _append(self, built: BuiltBundle) -> None:
        """Take the lease of the agent's stream for as long as one event takes. What is registered already stays."""
        agent, digest = built.bundle.agent, built.bundle.digest
        box = await self._vault.create_owner(_owner(digest))
        bodies = [box.seal(content) for content in {built.manifest, *built.files.values()}]
        for attempt in range(_ATTEMPTS):
            try:
                writer, events = await open_stream(
                    self._store,
                    release_stream(agent),
                    holder=self._holder,
                    lease_s=_LEASE_S,
                    clock=self._clock,
                )
            except LeaseHeld:
                if attempt == _ATTEMPTS - 1:
                    raise
                await self._clock.sleep(_WAIT_S)
                continue
            try:
                versions = fold_versions(events)
                known = _of_digest(versions, digest)
                if known is None or _tells_more(built, known):
                    data = BundleRegistered(
                        agent=agent,
                        number=known.number if known else len(versions) + 1,
                        bundle=digest,
                        manifest_ref=digest,
                        commit=built.commit,
                        dirty=built.dirty,
                    )
                    await writer.append([NewEvent(data)], bodies=bodies)
            finally:
                await writer.release()
            return


def fold_versions(
    events: Iterable[Event], known: tuple[BundleVersion, ...] = ()
) -> tuple[BundleVersion, ...]:
    """The versions after these events of a release stream, by number."""
    found: dict[str, BundleVersion] = {version.digest: version for version in known}
    for event in events:
        if isinstance(event.data, BundleRegistered):
            found[event.data.bundle] = BundleVersion(
                agent=event.data.agent,
                number=event.data.number,
                digest=event.data.bundle,
                commit=event.data.commit,
                dirty=event.data.dirty,
            )
    return tuple(sorted(found.values(), key=lambda version: version.number))


def _of_digest(versions: Iterable[BundleVersion], digest: str) -> BundleVersion | None:
    return next((version for version in versions if version.digest == digest), None)


def _tells_more(built: BuiltBundle, known: BundleVersion) -> bool:
    """Whether a version of unknown or unclean origin turns out to be the content of a commit."""
    return bool(built.commit) and not built.dirty and (known.dirty or not known.commit)


def _owner(digest: str) -> str:
    return f"{BUNDLE_PREFIX}{digest}"
