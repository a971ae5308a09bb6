"""Bundles get numbers, keep their files, travel as archives, and are compared."""

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.core.bundle import BundleVersion
from cattlegrid.core.errors import BundleInvalid, IntegrityError, LeaseHeld, NotFound
from cattlegrid.journal.events import release_stream
from cattlegrid.journal.kek import Kek
from cattlegrid.journal.vault import Vault
from cattlegrid.release.archive import pack, unpack
from cattlegrid.release.build import BuiltBundle
from cattlegrid.release.diff import compare
from cattlegrid.release.manifest import sha256_hex, write_manifest
from cattlegrid.release.registry import BundleRegistry
from cattlegrid.release.summary import describe, title
from cattlegrid.testing.clock import ManualClock
from cattlegrid.testing.memory import MemoryJournal
from tests.unit.release.agents import AGENT, FILES, TOOLS, built

pytestmark = pytest.mark.anyio


class Shelf:
    """A store in memory and registries of several processes over it."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.store = MemoryJournal(self.clock)
        self.folder = folder

    def registry(self, *, holder: str = "one", environment: str = "development") -> BundleRegistry:
        vault = Vault(self.store, Kek(bytes(32)), self.clock)
        return BundleRegistry(
            self.store,
            vault,
            clock=self.clock,
            cache=self.folder / "cache",
            holder=holder,
            environment=environment,
        )


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def changed(tmp_path: Path, number: int) -> BuiltBundle:
    return built(tmp_path / f"v{number}", {"prompts/system.md": f"Version {number}."})


@pytest.mark.requirement("bundle:numbers")
async def test_versions_are_numbered_per_agent_and_the_same_content_keeps_its_number(
    shelf: Shelf, tmp_path: Path
) -> None:
    registry = shelf.registry()
    first, second = changed(tmp_path, 1), changed(tmp_path, 2)
    assert str(await registry.register(first)) == f"shop#1 ({first.bundle.digest[:8]})"
    assert (await registry.register(second)).number == 2
    assert (await registry.register(first)).number == 1
    other = shelf.registry(holder="two")
    assert (await other.register(changed(tmp_path, 3))).number == 3
    assert [version.number for version in await registry.versions("shop")] == [1, 2, 3]
    assert (await registry.resolve("shop")).number == 3
    assert await registry.agents() == ("shop",)
    assert await registry.versions("unknown") == ()
    with pytest.raises(NotFound):
        await registry.resolve("unknown")


@pytest.mark.requirement("bundle:files-kept")
async def test_a_bundle_is_found_again_with_its_files_by_another_process(
    shelf: Shelf, tmp_path: Path
) -> None:
    found = built(tmp_path / "shop")
    version = await shelf.registry().register(found)
    shutil.rmtree(tmp_path / "shop")
    other = shelf.registry(holder="two")
    assert await other.bundle(version.digest) == found.bundle
    assert await other.files(version.digest) == dict(found.files)
    folder = await other.materialise(version.digest)
    assert (folder / "tools.py").read_text() == TOOLS
    assert await other.materialise(version.digest) == folder
    with pytest.raises(NotFound):
        await other.bundle("0" * 64)


def change_a_file(folder: Path) -> None:
    (folder / "tools.py").write_text("x = 1")


def remove_a_file(folder: Path) -> None:
    (folder / "tools.py").unlink()


def add_a_file(folder: Path) -> None:
    (folder / "more.py").write_text("x = 1")


@pytest.mark.parametrize("harm", [change_a_file, remove_a_file, add_a_file, shutil.rmtree])
async def test_a_harmed_folder_is_written_again(
    shelf: Shelf, tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    registry = shelf.registry()
    version = await registry.register(built(tmp_path / "shop"))
    harm(await registry.materialise(version.digest))
    for again in (registry, shelf.registry(holder="two")):
        folder = await again.materialise(version.digest)
        files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        assert files == set(FILES)
        assert (folder / "tools.py").read_text() == TOOLS
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [version.digest]


async def test_what_python_caches_is_no_harm(shelf: Shelf, tmp_path: Path) -> None:
    registry = shelf.registry()
    version = await registry.register(built(tmp_path / "shop"))
    folder = await registry.materialise(version.digest)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "tools.pyc").write_bytes(b"x")
    assert await registry.materialise(version.digest) == folder
    assert (folder / "__pycache__" / "tools.pyc").exists()


@pytest.mark.requirement("bundle:provenance")
async def test_a_version_that_is_committed_later_keeps_its_number(shelf: Shelf, tmp_path: Path) -> None:
    registry = shelf.registry()
    found = built(tmp_path / "shop")
    dirty = msgspec.structs.replace(found, commit="a" * 40, dirty=True)
    clean = msgspec.structs.replace(found, commit="b" * 40, dirty=False)
    assert (await registry.register(dirty)).dirty
    production = shelf.registry(holder="two", environment="production")
    with pytest.raises(NotFound):
        await production.resolve("shop")
    with pytest.raises(BundleInvalid, match="Commit the changes"):
        await production.register(dirty)
    version = await production.register(clean)
    assert (version.number, version.commit, version.dirty) == (1, "b" * 40, False)
    assert await production.resolve("shop") == version
    assert await registry.register(dirty) == version


async def test_registering_waits_for_another_process_and_gives_up_at_last(
    shelf: Shelf, tmp_path: Path
) -> None:
    registry = shelf.registry()
    await shelf.store.acquire(release_stream("shop"), holder="other", lease_s=1e9)

    class Impatient(ManualClock):
        async def sleep(self, delay_s: float) -> None:
            self.advance(delay_s)

    vault = Vault(shelf.store, Kek(bytes(32)), shelf.clock)
    hurried = BundleRegistry(shelf.store, vault, clock=Impatient(), cache=tmp_path / "cache", holder="two")
    with pytest.raises(LeaseHeld):
        await hurried.register(built(tmp_path / "shop"))
    assert await registry.versions("shop") == ()


async def test_people_name_versions_in_three_ways(shelf: Shelf, tmp_path: Path) -> None:
    registry = shelf.registry()
    first = await registry.register(changed(tmp_path, 1))
    second = await registry.register(changed(tmp_path, 2))
    assert await registry.find("shop") == second
    assert await registry.find("shop#1") == first
    assert await registry.find(first.digest[:8].upper()) == first
    for wrong in ("shop#3", "shop#", "shp", "shop#x", "0", ""):
        with pytest.raises(NotFound):
            await registry.find(wrong)


@pytest.mark.requirement("bundle:portable")
async def test_an_exported_bundle_is_imported_elsewhere_with_the_same_digest(tmp_path: Path) -> None:
    here, there = Shelf(tmp_path / "here"), Shelf(tmp_path / "there")
    registry = here.registry()
    await registry.register(changed(tmp_path, 1))
    version = await registry.register(changed(tmp_path, 2))
    archive = await registry.export(version)
    assert archive == await registry.export(version)
    elsewhere = there.registry()
    imported = await elsewhere.import_(archive)
    assert (imported.digest, imported.number) == (version.digest, 1)
    assert await elsewhere.files(version.digest) == await registry.files(version.digest)


def members_of(archive: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for entry in tar:
            reader = tar.extractfile(entry)
            assert reader is not None
            found[entry.name] = reader.read()
    return found


def archive_of(members: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    found = built(tmp_path / "shop")
    version = BundleVersion(agent="shop", number=1, digest=found.bundle.digest)
    return pack(version, manifest=found.manifest, files=found.files)


@pytest.mark.requirement("bundle:portable")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files/tools.py": b"import os"}, "Its content is not what the manifest says"),
        ({"files/tools.py": None}, "files/tools.py: It is missing"),
        ({"files/more.py": b""}, "files/more.py: The manifest does not name it"),
        ({"files/../../escaped.py": b""}, "The path is no plain path inside the folder"),
        ({"files//etc/passwd": b""}, "The path is no plain path inside the folder"),
        ({"elsewhere": b""}, "It is no part of a bundle"),
        ({"manifest.json": None}, "manifest.json: It is missing"),
        ({"manifest.json": b"{}"}, "It does not verify"),
        ({"bundle.json": b"{"}, "bundle.json: It cannot be read"),
        ({"bundle.json": b'{"format": 2, "agent": "a", "number": 1, "digest": "x"}'}, "format 2"),
    ],
)
def test_an_archive_that_was_changed_is_refused(
    archive: bytes, change: dict[str, bytes | None], message: str
) -> None:
    members: dict[str, bytes | None] = {**members_of(archive), **change}
    with pytest.raises(BundleInvalid) as refused:
        unpack(archive_of({name: content for name, content in members.items() if content is not None}))
    assert message in str(refused.value)


def test_a_manifest_that_names_a_path_outside_is_refused(tmp_path: Path) -> None:
    found = built(tmp_path / "shop")
    files = {**found.bundle.files, "../escaped.py": sha256_hex(b"")}
    bundle = msgspec.structs.replace(found.bundle, files=files)
    manifest = write_manifest(bundle)
    version = BundleVersion(agent="shop", number=1, digest=sha256_hex(manifest))
    with pytest.raises(BundleInvalid, match="no plain path inside the folder"):
        unpack(pack(version, manifest=manifest, files={**found.files, "../escaped.py": b""}))


@pytest.mark.parametrize("content", [b"", b"no archive", b"\0" * 10_240, bytes(range(256)) * 8])
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(BundleInvalid):
        unpack(content)


def test_an_archive_with_a_link_or_cut_short_is_refused(archive: bytes) -> None:
    with pytest.raises(BundleInvalid):
        unpack(archive[: len(archive) // 2])
    linked = io.BytesIO()
    with tarfile.open(fileobj=linked, mode="w") as tar:
        entry = tarfile.TarInfo("files/tools.py")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry)
    with pytest.raises(BundleInvalid, match="It is no plain file"):
        unpack(linked.getvalue())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[BuiltBundle, bytes]:
    found = built(tmp_path_factory.mktemp("whole"))
    version = BundleVersion(agent="shop", number=1, digest=found.bundle.digest)
    return found, pack(version, manifest=found.manifest, files=found.files)


@given(data=st.data())
def test_a_changed_byte_is_refused_or_changes_nothing_of_the_bundle(
    whole: tuple[BuiltBundle, bytes], data: st.DataObject
) -> None:
    found, archive = whole
    place = data.draw(st.integers(0, len(archive) - 1))
    value = data.draw(st.integers(0, 255))
    try:
        got = unpack(archive[:place] + bytes([value]) + archive[place + 1 :])
    except BundleInvalid:
        return
    assert (got.bundle, got.manifest, got.files) == (found.bundle, found.manifest, found.files)


async def test_files_that_do_not_verify_are_not_written(shelf: Shelf, tmp_path: Path) -> None:
    registry = shelf.registry()
    found = built(tmp_path / "shop")
    lying = msgspec.structs.replace(found, files={**found.files, "prices.py": b"changed"})
    version = await registry.register(lying)
    with pytest.raises(IntegrityError):
        await registry.materialise(version.digest)


@pytest.mark.requirement("bundle:diff")
def test_two_bundles_are_compared_part_by_part_and_line_by_line(tmp_path: Path) -> None:
    before = built(tmp_path / "a")
    after = built(
        tmp_path / "b",
        {
            "agent.yaml": AGENT.replace("> 50", "> 80") + "limits: {run_s: 30}\n",
            "prices.py": None,
            "money.py": FILES["prices.py"],
            "tools.py": TOOLS.replace(".prices", ".money")
            .replace("In euros", "in euros")
            .replace("How much, in euros.", "How much, in dollars."),
        },
    )
    found = compare(before.bundle, after.bundle, files_before=before.files, files_after=after.files)
    assert [(c.field, c.before, c.after) for c in found.fields] == [
        ("approve.refund", '"amount > 50"', '"amount > 80"'),
        ("limits.run_s", "60.0", "30.0"),
        (
            "tools.refund.spec.parameters.properties.amount.description",
            '"How much, in euros."',
            '"How much, in dollars."',
        ),
    ]
    assert [(c.path, c.change) for c in found.files] == [
        ("agent.yaml", "changed"),
        ("money.py", "added"),
        ("prices.py", "removed"),
        ("tools.py", "changed"),
    ]
    assert "-  refund: amount > 50\n+  refund: amount > 80\n" in found.files[0].diff
    same = compare(before.bundle, before.bundle, files_before=before.files, files_after=before.files)
    assert (same.fields, same.files) == ((), ())


def test_a_bundle_is_described_in_one_line(tmp_path: Path) -> None:
    bundle = built(tmp_path).bundle
    assert title(bundle, 3) == f"shop#3 ({bundle.digest[:8]})"
    assert describe(bundle) == (
        "2 tools, 1 needs a person (refund: amount > 50)  limits: 60 s and 10 model turns a run"
    )
