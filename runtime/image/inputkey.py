"""What identifies an image before it is made.

An input key says whether an image would be made from the same request, without making it: equal
keys mean the image recorded under the key is still the one. By default it is the request alone, so
that newer programs or packages on the host change nothing by themselves; with *refresh* the content
behind the request enters too. Nothing here writes, except the cache where one is given.

Keys are sha256 digests and carry a version: when we make the same request into something else than
before, the version is raised and images are made anew.
"""

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime.errors import ImageError
from runtime.image.aptrelease import fetch_releases
from runtime.image.aptsource import resolve_suite
from runtime.image.archivefile import open_archive
from runtime.image.blobs import DOCUMENT_LIMIT
from runtime.image.digest import digest_of
from runtime.image.mutate import Overrides

_VERSION = 1
_PIECE = 1 << 20


def host_key(
    programs: Sequence[str],
    files: Sequence[str] = (),
    config: Overrides | None = None,
    *,
    refresh: bool = False,
) -> str:
    """Return the key of `ImageStore.build_host`.

    With *refresh* path, size and time of every file that would be taken enter; costs about as much
    as making the image without writing it.

    Raises:
        ImageError: with *refresh*: a program or file is not there.
    """
    request: dict[str, Any] = {"programs": list(programs), "files": list(files)}
    if refresh:
        # Imported when used: a plan that refreshes nothing must not wait for it.
        from runtime.image.host import collect

        tree, _ = collect(programs, files)
        request["content"] = [
            *sorted((path, item.st_size, item.st_mtime_ns) for path, item in tree.files.items()),
            *sorted(tree.links.items()),
        ]
    return _key("host", request, config)


def debian_key(
    packages: Sequence[str],
    suite: str | None = None,
    variant: str = "apt",
    config: Overrides | None = None,
    *,
    refresh: bool = False,
) -> str:
    """Return the key of `ImageStore.build_debian`.

    An absent *suite* stands for the host's. With *refresh* the archives' release files are fetched
    (a few 100 kB) and enter: they change whenever any package of the suite does.

    Raises:
        ImageError: no suite given or known; with *refresh*: an archive cannot be reached.
    """
    suite, sources = resolve_suite(suite)
    request: dict[str, Any] = {"packages": sorted(packages), "suite": suite, "variant": variant}
    if refresh:
        request["releases"] = fetch_releases(sources)
    return _key("debian", request, config)


def archive_key(
    path: Path | str,
    reference: str | None = None,
    config: Overrides | None = None,
    *,
    cache: Path | None = None,
) -> str:
    """Return the key of `ImageStore.load_archive`: the content, wherever the archive is.

    *cache* is a folder that remembers digests of large files by their identity and time
    (`ImageStore.key_cache`); it is only used if it exists.

    Raises:
        ImageError: the archive cannot be read.
    """
    request = {"content": _archive_content(Path(path), cache), "reference": reference}
    return _key("archive", request, config)


def _key(kind: str, request: dict[str, Any], config: Overrides | None) -> str:
    tree = {"version": _VERSION, "kind": kind, **request, "config": asdict(config or Overrides())}
    return digest_of(json.dumps(tree, sort_keys=True).encode())


def _archive_content(path: Path, cache: Path | None) -> str:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return _folder_content(path)
        if not stat.S_ISREG(status.st_mode):  # nobody may ever write to a pipe
            raise ImageError(f"{path}: neither a file nor a folder")
        identity = [status.st_dev, status.st_ino, status.st_size]
        identity += [status.st_mtime_ns, status.st_ctime_ns]
        known = _cached(cache, identity)
        if known is not None:
            return known
        content = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            while data := file.read(_PIECE):
                content.update(data)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from error
    digest = f"sha256:{content.hexdigest()}"
    _remember(cache, identity, digest)
    return digest


def _folder_content(path: Path) -> str:
    """Return a digest of the lists of a folder: what they name is checked when it is loaded."""
    content = hashlib.sha256()
    with open_archive(path, path) as archive:
        for name in ("index.json", "manifest.json", "repositories"):
            if archive.has(name):
                content.update(archive.read(name, DOCUMENT_LIMIT))
    # A docker-archive's list names its layers by place and not by content.
    if not (path / "index.json").exists():
        for file in sorted(path.rglob("*")):
            status = file.lstat()
            content.update(
                f"{file}:{status.st_size}:{status.st_mtime_ns}\n".encode(errors="replace")
            )
    return f"sha256:{content.hexdigest()}"


def _cached(cache: Path | None, identity: list[int]) -> str | None:
    if cache is None:
        return None
    try:
        return (cache / _cache_name(identity)).read_text()
    except FileNotFoundError:
        return None


def _remember(cache: Path | None, identity: list[int], digest: str) -> None:
    if cache is None or not cache.is_dir():
        return
    # A sweep took it, or the disk is full: it is only a memory.
    with contextlib.suppress(OSError):
        fd, temporary = tempfile.mkstemp(prefix=".tmp-", dir=cache)
        try:
            with open(fd, "w") as file:
                file.write(digest)
            os.replace(temporary, cache / _cache_name(identity))
        except OSError:
            os.unlink(temporary)
            raise


def _cache_name(identity: list[int]) -> str:
    return "archive-" + "-".join(map(str, identity))
