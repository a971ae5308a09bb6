"""Turns a registered bundle into one file that can be carried elsewhere, and back, checking every digest.

A POSIX tar archive, not compressed, the same bytes for the same version:

    bundle.json      format, agent, number, digest, commit, dirty
    manifest.json    the manifest as it was written; its SHA-256 is the digest
    files/...        every file of the manifest

An archive is read in memory only; nothing is ever unpacked into a path that it names.
"""

import io
import re
import tarfile
from collections.abc import Mapping
from typing import Final

import msgspec

from cattlegrid.core.bundle import BundleVersion
from cattlegrid.core.canonical import canonical_json
from cattlegrid.core.errors import BundleInvalid, IntegrityError, Problem
from cattlegrid.release.build import BuiltBundle
from cattlegrid.release.manifest import read_manifest, sha256_hex
from cattlegrid.release.sources import MAX_FILES, MAX_TOTAL_BYTES, unsafe

FORMAT: Final = 1
MAX_ARCHIVE_BYTES: Final = 2 * MAX_TOTAL_BYTES
ABOUT: Final = "bundle.json"
MANIFEST: Final = "manifest.json"
FILES: Final = "files/"

_AGENT: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")


class _About(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    agent: str
    number: int
    digest: str
    commit: str = ""
    dirty: bool = False


def pack(version: BundleVersion, *, manifest: bytes, files: Mapping[str, bytes]) -> bytes:
    """The archive of a version."""
    about = _About(
        format=FORMAT,
        agent=version.agent,
        number=version.number,
        digest=version.digest,
        commit=version.commit,
        dirty=version.dirty,
    )
    members = {ABOUT: canonical_json(about), MANIFEST: manifest}
    members |= {f"{FILES}{name}": files[name] for name in sorted(files)}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def unpack(archive: bytes) -> BuiltBundle:
    """The bundle of an archive, every byte of it verified.

    Raises:
        BundleInvalid: it is no such archive, or something in it was changed.
    """
    members = _members(archive)
    try:
        about = msgspec.json.decode(members.pop(ABOUT), type=_About)
        manifest = members.pop(MANIFEST)
    except KeyError as error:
        raise _refused(str(error.args[0]), "It is missing") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _refused(ABOUT, f"It cannot be read: {error}") from error
    if about.format != FORMAT:
        raise _refused(
            ABOUT, f"Archives of format {about.format} are not known to this version of Cattlegrid"
        )
    try:
        bundle = read_manifest(manifest, digest=about.digest)
    except IntegrityError as error:
        raise _refused(MANIFEST, f"It does not verify: {error.detail}") from error
    if bundle.agent != about.agent or not _AGENT.fullmatch(bundle.agent):
        raise _refused(ABOUT, "It names another agent than the manifest")
    files = {name.removeprefix(FILES): content for name, content in members.items()}
    for name in sorted({*files, *bundle.files}):
        _check_file(name, files.get(name), bundle.files.get(name))
    return BuiltBundle(bundle=bundle, manifest=manifest, files=files, commit=about.commit, dirty=about.dirty)


def _check_file(name: str, content: bytes | None, digest: str | None) -> None:
    if (refusal := unsafe(name)) is not None:
        raise _refused(FILES + name, f"The path {refusal}")
    if digest is None:
        raise _refused(FILES + name, "The manifest does not name it")
    if content is None:
        raise _refused(FILES + name, "It is missing")
    if sha256_hex(content) != digest:
        raise _refused(FILES + name, "Its content is not what the manifest says")


def _members(archive: bytes) -> dict[str, bytes]:
    if len(archive) > MAX_ARCHIVE_BYTES:
        raise _refused("", f"The archive is larger than {MAX_ARCHIVE_BYTES:,} bytes")
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for entry in tar:
                content = _content(tar, entry)
                if entry.name in found or len(found) > MAX_FILES + 1:
                    raise _refused(entry.name, "It is there twice, or there are too many files")
                if entry.name not in {ABOUT, MANIFEST} and not entry.name.startswith(FILES):
                    raise _refused(entry.name, "It is no part of a bundle")
                found[entry.name] = content
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        raise _refused("", f"This is no archive of a bundle: {error}") from error
    return found


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    # A sparse entry may claim any size, and links may point anywhere: plain files only.
    if entry.type not in {tarfile.REGTYPE, tarfile.AREGTYPE} or entry.sparse is not None:
        raise _refused(entry.name, "It is no plain file")
    reader = tar.extractfile(entry) if 0 <= entry.size <= MAX_TOTAL_BYTES else None
    content = reader.read() if reader is not None else b""
    if len(content) != entry.size:
        raise _refused(entry.name, "It is cut short, or too large")
    return content


def _refused(file: str, message: str) -> BundleInvalid:
    shown = "".join(character if character.isprintable() else "?" for character in file[:200])
    problem = Problem(
        file=shown or "archive",
        line=None,
        key="",
        message=message,
        fix="Export the bundle again where it was built",
    )
    return BundleInvalid((problem,))
