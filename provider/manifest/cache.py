"""Compiled projects kept by the content of everything they were made from.

A hit needs no YAML, no schema and no template engine. Files that only turn up while compiling
(Config content, included templates) are written down with their digests and looked at again. What
lies here holds no value of a secret: projects with secrets in the input are not kept, and secrets
from elsewhere are read again each time.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from provider.manifest.compiled import Compiled
from provider.manifest.reading import read_file
from provider.manifest.stored import restore, store
from runtime.record import dataclass

_FORMAT = 1
_KEEP = 16
"""Entries kept; each set of options and each version of the input is one."""

_HALF = ".new-"
_HALF_LIFE_S = 60
"""Nobody writes an entry for that long."""


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder of compiled projects; made when the first is kept, 0700 with files 0600."""

    folder: Path

    def get(self, key: str) -> Compiled | None:
        """Return the project kept under *key*, if what it was made from is unchanged.

        A damaged entry counts as none.
        """
        try:
            stored = (self.folder / f"{key}.json").read_bytes()
        except OSError:
            return None
        digest, _, text = stored.partition(b"\n")
        if digest.decode("ascii", "replace") != _digest(text):
            return None
        entry = json.loads(text)
        if any(digest != _digest_of_file(path) for path, digest in entry["reads"].items()):
            return None
        return restore(entry["compiled"])

    def put(self, key: str, compiled: Compiled, reads: Mapping[str, bytes]) -> None:
        """Keep *compiled* under *key*; *reads* are the further files it was made from.

        Atomic. Nothing is kept of a project with secrets in its input, nor where the folder's
        parent is missing: reading manifests must not begin a state folder. A cache that cannot
        be written is no reason to fail.
        """
        if compiled.values or not self.folder.parent.is_dir():
            return
        entry = {
            "reads": {os.path.abspath(path): _digest(content) for path, content in reads.items()},
            "compiled": store(compiled),
        }
        text = json.dumps(entry, separators=(",", ":")).encode()
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self._write(self.folder / f"{key}.json", _digest(text).encode() + b"\n" + text)
            self._forget_old()

    def _write(self, path: Path, content: bytes) -> None:
        import tempfile  # Only a miss writes, and it takes longer than a hit's JSON to import.

        # mkstemp makes the file 0600.
        descriptor, temporary = tempfile.mkstemp(prefix=_HALF, dir=self.folder)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    def _forget_old(self) -> None:
        """Delete all but the newest entries, and what writers that were killed left half done."""
        found = [(entry.stat().st_mtime, entry) for entry in self.folder.iterdir()]
        found.sort(reverse=True)
        kept = [entry for _, entry in found if entry.suffix == ".json"][:_KEEP]
        for modified, entry in found:
            is_half = entry.name.startswith(_HALF) and found[0][0] - modified > _HALF_LIFE_S
            if is_half or (entry.suffix == ".json" and entry not in kept):
                entry.unlink(missing_ok=True)


def cache_key(options: Mapping[str, object], files: Iterable[tuple[str, str, bytes]]) -> str:
    """Return the key of a run: its *options* (plain data) and *files* (role, path, content)."""
    digest = hashlib.sha256()
    listing = [[role, path, _digest(content)] for role, path, content in files]
    whole = [_FORMAT, _engine(), dict(options), listing]
    digest.update(json.dumps(whole, sort_keys=True).encode())
    return digest.hexdigest()


def _engine() -> list[tuple[str, int, int]]:
    """Return what tells one version of the compiler from another: its files, down to the edit."""
    provider = Path(__file__).parent.parent
    stamps = []
    for folder in (provider / "manifest", provider / "model", provider.parent / "schemas"):
        for entry in os.scandir(folder):
            if entry.name.endswith((".py", ".json")):
                status = entry.stat()
                stamps.append((entry.name, status.st_size, status.st_mtime_ns))
    return sorted(stamps)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of_file(path: str) -> str | None:
    try:
        return _digest(read_file(path))
    except OSError:
        return None
