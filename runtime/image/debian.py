"""Debian roots as images: mmdebstrap's output straight into a layer.

mmdebstrap resolves and installs with the host's apt and the host's sources; its tar passes through
a filter into the store, without a copy on disk: devices, package lists and caches, manuals and
translations are left out, what is of this host is emptied, and services are told not to start.
With the clock fixed by SOURCE_DATE_EPOCH the same packages give the same digest.

Downloaded packages and the root without further packages are kept for the next build
(`runtime.image.debcache`); a build always goes by way of the bare root, so that the result does
not depend on whether it was there.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import ImageError, UnsupportedHostError
from runtime.image.aptrelease import fetch_releases
from runtime.image.aptsource import AptSource, resolve_suite
from runtime.image.blobs import BlobStore
from runtime.image.command import run_streaming
from runtime.image.debcache import DebCache
from runtime.image.digest import digest_of, hex_of
from runtime.image.lock import StoreLock, create_temporary_folder
from runtime.image.model import (
    OCI_CONFIG,
    OCI_LAYER,
    Configuration,
    Descriptor,
    History,
    ImageConfig,
    Manifest,
    Platform,
)
from runtime.image.mutate import append_layer, seal
from runtime.image.progress import Progress, ignore_progress
from runtime.image.tarentry import Entry, Kind
from runtime.image.tarreader import TarReader
from runtime.image.tarwriter import TarWriter
from runtime.spec import DEFAULT_PATH

VARIANTS = ("extract", "custom", "essential", "apt", "required", "minbase", "buildd", "important")
_EMPTY_VARIANTS = ("extract", "custom")
_LAYOUT = 1  # raise when what is left out or added changes
_EPOCH = 1_577_836_800  # 2020-01-01, older than any file a supported suite makes at installation
_NAME = re.compile(r"[a-z0-9][a-z0-9+.:~_/=*-]*", re.ASCII)
_TIMEOUT_S = 3600.0

_DROPPED = re.compile(
    rb"dev/.+|var/lib/apt/lists/[^/]+|var/cache/apt/(archives/[^/]+|[^/]+\.bin)"
    rb"|var/cache/debconf/.+-old|var/cache/ldconfig/.+"
    rb"|usr/share/(man|info|groff|lintian|linda)/.+"
    rb"|usr/share/locale/(?!locale\.alias$).+|usr/share/doc/.+"
)
_KEPT = re.compile(
    rb"usr/share/doc/[^/]+(/copyright)?|var/(lib/apt/lists|cache/apt/archives)/partial"
)
_EMPTIED = (b"etc/hostname", b"etc/resolv.conf")
_POLICY = b"usr/sbin/policy-rc.d"
_ADDED = {
    # No init runs in a container, so no package may try to start its service.
    _POLICY: (0o755, b"#!/bin/sh\nexit 101\n"),
    # What apt installs later in the image leaves out the same as we did.
    b"etc/dpkg/dpkg.cfg.d/container": (
        0o644,
        b"path-exclude /usr/share/man/*\npath-exclude /usr/share/info/*\n"
        b"path-exclude /usr/share/locale/*\npath-include /usr/share/locale/locale.alias\n"
        b"path-exclude /usr/share/doc/*\npath-include /usr/share/doc/*/copyright\n",
    ),
}


def build(
    blobs: BlobStore,
    lock: StoreLock,
    packages: Sequence[str],
    *,
    suite: str | None = None,
    variant: str = "apt",
    progress: Progress = ignore_progress,
) -> str:
    """Store the image and return the digest of its manifest.

    *suite* defaults to the host's. *packages* are apt's names, ``redis-server`` or ``pkg=version``.

    Raises:
        UnsupportedHostError: mmdebstrap is missing, or we are not root.
        ImageError: unknown package or variant, unreachable archive; carries mmdebstrap's last
            lines.
    """
    check(packages, variant)
    suite, sources = resolve_suite(suite)
    with _working_folder(blobs, lock) as (folder, lock_fd):
        cache = DebCache(blobs.folder / "debs", folder)

        def make(included: Sequence[str]) -> tuple[str, int]:
            return _make_layer(
                blobs,
                _command(included, suite, variant, cache, has_sources=bool(sources)),
                "\n".join(source.to_deb822() for source in sources).encode(),
                _environment(folder),
                progress=progress,
                keep_open=lock_fd,
            )

        try:
            base = _base_key(suite, variant, sources) if packages else None
            if base is not None and not cache.use_base(base):
                progress(f"bare root of {suite} first")
                bare, _ = make(())
                cache.keep_base(base, blobs.path(bare))
                cache.keep_packages()
                cache.use_base(base)
            digest, size = make(packages)
        except subprocess.CalledProcessError as error:
            raise explain(error, packages, suite, sources) from error
        cache.keep_packages()
    progress(f"layer of {size >> 20} MiB")
    named = " ".join(packages)
    manifest, configuration = append_layer(
        Manifest(Descriptor(OCI_CONFIG, digest, 0), ()),
        Configuration(
            Platform.host(), ImageConfig(command=("/bin/bash",), env={"PATH": DEFAULT_PATH})
        ),
        Descriptor(OCI_LAYER, digest, size),
        diff_id=digest,
        history=History(created_by=f"mmdebstrap --variant={variant} {suite} {named}".rstrip()),
    )
    manifest, data = seal(manifest, configuration)
    blobs.put(data)
    return blobs.put(manifest.to_bytes())


def _make_layer(
    blobs: BlobStore,
    command: list[str],
    sources: bytes,
    env: dict[str, str],
    *,
    progress: Progress,
    keep_open: int,
) -> tuple[str, int]:
    with (
        blobs.writer() as writer,
        run_streaming(
            command,
            stdin=sources,
            env=env,
            progress=progress,
            keep_open=keep_open,
            timeout_s=_TIMEOUT_S,
        ) as pieces,
    ):
        tar = TarWriter(writer.write)
        _filter(TarReader(pieces), tar)
        for _ in pieces:  # to the end, where the program's success is checked
            pass
        tar.close()
        return writer.commit()


def _base_key(suite: str, variant: str, sources: Sequence[AptSource]) -> str | None:
    """Return what names the root without further packages; None if it is not worth keeping.

    Most of a build is the same essential packages each time. The state of the archives is part of
    the name: a root kept is the one that would be made now.
    """
    if variant in _EMPTY_VARIANTS or not sources:
        return None
    try:
        releases = fetch_releases(sources)
    except ImageError:
        return None  # mmdebstrap will say better what is wrong, or knows a way
    stanzas = [source.to_deb822() for source in sources]
    tree = [_LAYOUT, suite, variant, _epoch(), stanzas, releases]
    return f"base-{hex_of(digest_of(json.dumps(tree).encode()))}"


def explain(
    error: subprocess.CalledProcessError,
    packages: Sequence[str],
    suite: str,
    sources: Sequence[AptSource],
) -> ImageError:
    """Return mmdebstrap's failure in words, with its last lines."""
    # Its own chatter ("I: ...") says nothing about what went wrong.
    lines = [line for line in str(error.stderr).splitlines() if not line.startswith("I: ")]
    text = "\n".join(lines)
    where = ", ".join(dict.fromkeys(uri for source in sources for uri in source.uris))
    where = where or "mmdebstrap's default mirrors"
    missing = re.findall(
        r"Unable to locate package (\S+)|Package '?([^\s']+)'? has no installation candidate"
        r"|Couldn't find any package by (?:glob|regex) '([^']+)'"
        r"|(Version '[^']*' for '[^']+') was not found",
        text,
    )
    names = dict.fromkeys(name for match in missing for name in match if name)
    if names:
        plural = "s" if len(names) > 1 else ""
        return ImageError(
            f"package{plural} {', '.join(names)} not found in {suite} (asked {where})"
        )
    for pattern, reason in (
        (r"Could not resolve|Temporary failure resolving", "its archive cannot be resolved"),
        (
            r"Could not connect|Connection timed out|Unable to connect",
            "its archive cannot be reached",
        ),
        (r"does not have a Release file|404 +Not Found", "its archive has no such suite"),
        (r"NO_PUBKEY|is not signed|not trusted", "its archive is not signed with a key known here"),
        (r"No space left on device", "no space left on device"),
        (r"unmet dependencies|held broken packages", f"cannot be installed together: {packages}"),
    ):
        if re.search(pattern, text):
            return ImageError(f"debian {suite}: {reason} (asked {where})\n{_last(lines)}")
    return ImageError(f"debian {suite}: mmdebstrap failed\n{_last(lines)}")


def _filter(reader: TarReader, tar: TarWriter) -> None:
    """Copy the entries that belong into an image, in their order, and add ours."""
    seen = set()
    for entry in reader:
        path = entry.path.removeprefix(b"./").rstrip(b"/") or b"./"
        link = entry.link.removeprefix(b"./") if entry.kind is Kind.HARDLINK else entry.link
        if _is_dropped(path) or (entry.kind is Kind.HARDLINK and _is_dropped(link)):
            continue
        seen.add(path)
        if path in _EMPTIED:
            tar.add(Entry(path, mode=0o644, mtime_ns=entry.mtime_ns))
        elif path not in _ADDED:
            tar.add(entry._replace(path=path, link=link), reader.read())
    for path, (mode, content) in sorted(_ADDED.items()):
        if path.rpartition(b"/")[0] in seen:
            data = Entry(path, mode=mode, size=len(content), mtime_ns=_epoch() * 10**9)
            tar.add(data, [content])


def _is_dropped(path: bytes) -> bool:
    return _DROPPED.fullmatch(path) is not None and _KEPT.fullmatch(path) is None


def check(packages: Sequence[str], variant: str) -> None:
    """See that `build` is worth to begin; touches nothing.

    Raises:
        UnsupportedHostError: mmdebstrap is missing, or we are not root.
        ImageError: something that is no package name; unknown variant.
    """
    for package in packages:
        if not _NAME.fullmatch(package):
            raise ImageError(f"not a package name: {package!r}")
    if variant not in VARIANTS:
        raise ImageError(f"unknown variant {variant!r} (known: {', '.join(VARIANTS)})")
    if shutil.which("mmdebstrap", path=DEFAULT_PATH) is None:
        raise UnsupportedHostError(
            "mmdebstrap is not installed, debian images need it: apt-get install mmdebstrap"
        )
    if os.geteuid() != 0:
        raise UnsupportedHostError("debian images can only be built by root")


def _command(
    packages: Sequence[str], suite: str, variant: str, cache: DebCache, *, has_sources: bool
) -> list[str]:
    return [
        # What it mounts into the new root is seen by nobody else, and ends with it however it ends.
        "unshare",
        "--mount",
        "mmdebstrap",
        "--mode=root",
        "--format=tar",
        f"--variant={variant}",
        *(f"--include={package}" for package in packages),
        '--aptopt=Acquire::Languages "none"',
        # What dpkg would sync is thrown away; only the tar stays.
        "--dpkgopt=force-unsafe-io",
        "--skip=essential/unlink",
        *cache.hooks(variant),
        suite,
        "-",
        *(["-"] if has_sources else []),
    ]


def _environment(folder: Path) -> dict[str, str]:
    env = {
        "PATH": DEFAULT_PATH,
        "LC_ALL": "C.UTF-8",
        "SOURCE_DATE_EPOCH": str(_epoch()),
        "TMPDIR": str(folder),
    }
    for scheme in ("http", "https"):
        name = f"{scheme}_proxy"
        proxy = os.environ.get(name) or os.environ.get(name.upper()) or _apt_proxy(scheme)
        if proxy:
            env[name] = proxy
    if "no_proxy" in os.environ:
        env["no_proxy"] = os.environ["no_proxy"]
    return env


def _apt_proxy(scheme: str) -> str:
    """Return the proxy the host's apt is set up with: mmdebstrap reads none of its settings."""
    answer = subprocess.run(
        ["apt-config", "dump", f"Acquire::{scheme}::Proxy"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    match = re.search(rf'^Acquire::{scheme}::Proxy "(.+)";$', answer.stdout, re.MULTILINE)
    return match[1] if match and match[1] != "DIRECT" else ""


def _epoch() -> int:
    value = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(value) if value.isdigit() else _EPOCH


def _last(lines: Sequence[str], count: int = 12) -> str:
    return "\n".join(lines[-count:])


@contextmanager
def _working_folder(blobs: BlobStore, lock: StoreLock) -> Iterator[tuple[Path, int]]:
    """Yield a folder that a sweep removes should we die, and the descriptor that guards it."""
    with lock.shared():
        folder, fd = create_temporary_folder(blobs.folder / "tmp")
    try:
        yield folder, fd
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)
