"""Keeps the files of bundles as folders, from which code is imported: one folder for each digest, whole or not there.

A folder is written beside its place and renamed, so that processes which come first together do no harm. Before a
folder is used every file in it is compared with the manifest; later on a look at sizes and times is enough.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from cattlegrid.core.bundle import Bundle
from cattlegrid.core.errors import IntegrityError
from cattlegrid.release.manifest import sha256_hex
from cattlegrid.release.sources import belongs, write_sources

Fingerprint = tuple[tuple[str, int, int], ...]


class BundleCache:
    """Folders of bundles below one folder. All methods block; files are given by path, as in `Bundle.files`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._verified: dict[str, Fingerprint] = {}

    def find(self, bundle: Bundle) -> Path | None:
        """The folder of a bundle; None when it is not there, or differs from the manifest."""
        place = self._folder / bundle.digest
        try:
            fingerprint = tuple(_fingerprint(place))
            if fingerprint != self._verified.get(bundle.digest):
                if not _matches(place, bundle):
                    return None
                self._verified[bundle.digest] = fingerprint
        except OSError:
            return None
        return place

    def write(self, bundle: Bundle, files: Mapping[str, bytes]) -> Path:
        """Write the folder of a bundle, in place of one that differs.

        Raises:
            IntegrityError: the files are not those of the manifest.
        """
        if {name: sha256_hex(content) for name, content in files.items()} != bundle.files:
            raise IntegrityError("The files of a bundle do not verify.", detail=bundle.digest)
        place = self._folder / bundle.digest
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=self._folder, prefix=".new-", ignore_cleanup_errors=True
        ) as name:
            draft = Path(name) / "files"
            draft.mkdir()
            try:
                write_sources(files, draft)
            except ValueError as error:
                raise IntegrityError("The files of a bundle cannot be written.", detail=str(error)) from error
            if place.exists() and self.find(bundle) is None:
                # Moved and not deleted in place: whoever looks sees the old folder, none, or the new one.
                place.rename(Path(name) / "old")
            try:
                draft.rename(place)
            except OSError:
                if self.find(bundle) is None:
                    raise
        return place

    def remove(self, digest: str) -> None:
        """Delete the folder of a bundle, if it is there; it can be written again from the store."""
        self._verified.pop(digest, None)
        shutil.rmtree(self._folder / digest, ignore_errors=True)


def _parts(place: Path) -> Iterator[tuple[str, Path]]:
    """Every file of a folder that could be part of a bundle; what Python caches there is not."""
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if belongs(PurePosixPath(name)) and (path.is_symlink() or not path.is_dir()):
            yield name, path


def _fingerprint(place: Path) -> Iterator[tuple[str, int, int]]:
    for name, path in _parts(place):
        status = path.lstat()
        yield name, status.st_size, status.st_mtime_ns


def _matches(place: Path, bundle: Bundle) -> bool:
    found = {
        name: None if path.is_symlink() else sha256_hex(path.read_bytes()) for name, path in _parts(place)
    }
    return found == bundle.files and place.is_dir()
