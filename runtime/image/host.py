"""Images from programs of this host: no network, no package manager, about a second.

Each program comes with the links that lead to it, the interpreter its first line names, the
shared libraries its own loader finds, and for a few interpreters their standard library
(`runtime.image.interpreters`). Around them goes the little a program expects of any root: user
names, /tmp, empty mount points, the merged-/usr links.
"""

import difflib
import os
from collections.abc import Iterator, Sequence

from runtime.errors import ImageError
from runtime.image.blobs import BlobStore
from runtime.image.elf import Elf, read_elf
from runtime.image.hosttree import HostTree, Made
from runtime.image.interpreters import add_parts
from runtime.image.loader import Loader
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
from runtime.image.tarentry import Kind
from runtime.image.tarwriter import TarWriter
from runtime.spec import DEFAULT_PATH

_MERGED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_PSEUDO = ("/proc", "/sys", "/dev")
_SCRIPTS = 4  # interpreters of interpreters
# Loaded by glibc itself when needed, so in nobody's list of libraries.
_GLIBC_EXTRA = ("libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1")
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
_GROUP = b"root:x:0:\nnogroup:x:65534:\nnobody:x:65534:\n"
_NSSWITCH = b"passwd: files\ngroup: files\nhosts: files dns\n"
_SKELETON = {
    "/dev": Made(Kind.FOLDER, 0o755),
    "/etc/group": Made(Kind.FILE, content=_GROUP),
    "/etc/hostname": Made(Kind.FILE),
    "/etc/hosts": Made(Kind.FILE),
    "/etc/nsswitch.conf": Made(Kind.FILE, content=_NSSWITCH),
    "/etc/passwd": Made(Kind.FILE, content=_PASSWD),
    "/etc/resolv.conf": Made(Kind.FILE),
    "/proc": Made(Kind.FOLDER, 0o755),
    "/root": Made(Kind.FOLDER, 0o700),
    "/run": Made(Kind.FOLDER, 0o755),
    "/sys": Made(Kind.FOLDER, 0o755),
    "/tmp": Made(Kind.FOLDER, 0o1777),
    "/var/tmp": Made(Kind.FOLDER, 0o1777),
}


def build(
    blobs: BlobStore,
    programs: Sequence[str],
    files: Sequence[str] = (),
    *,
    progress: Progress = ignore_progress,
) -> str:
    """Store the image and return the digest of its manifest; same host files, same digest.

    The first program is the default command.

    Raises:
        ImageError: a program, file or library is not there; says where was looked.
    """
    tree, commands = collect(programs, files, progress=progress)
    with blobs.writer() as writer:
        tar = TarWriter(writer.write)
        tree.write(tar)
        tar.close()
        digest, size = writer.commit()
    progress(f"{len(tree.files)} files, {size >> 20} MiB")
    named = ", ".join((*programs, *files))
    manifest, configuration = append_layer(
        Manifest(Descriptor(OCI_CONFIG, digest, 0), ()),
        Configuration(
            Platform.host(),
            ImageConfig(command=commands[:1], env={"PATH": _search_path(commands)}),
        ),
        Descriptor(OCI_LAYER, digest, size),
        diff_id=digest,
        history=History(created_by=f"programs of the host: {named}"),
    )
    manifest, data = seal(manifest, configuration)
    blobs.put(data)
    return blobs.put(manifest.to_bytes())


def collect(
    programs: Sequence[str],
    files: Sequence[str] = (),
    *,
    progress: Progress = ignore_progress,
) -> tuple[HostTree, tuple[str, ...]]:
    """Return what the image will hold, and the path of each program in it.

    Raises:
        ImageError: see `build`.
    """
    if not programs and not files:
        raise ImageError("host image names neither programs nor files")
    collector = _Collector(progress)
    for path in _MERGED:
        if os.path.islink(path):
            collector.tree.add(path)
    commands = tuple(collector.program(name) for name in programs)
    for path in files:
        collector.copy(path)
    collector.finish()
    return collector.tree, commands


class _Collector:
    def __init__(self, progress: Progress) -> None:
        self.tree = HostTree()
        self._progress = progress
        self._loader = Loader()
        self._seen: set[str] = set()
        self._library_folders: set[str] = set()

    def program(self, name: str, *, depth: int = 0) -> str:
        """Take program *name* with all it needs; return its path as found."""
        path = find_program(name)
        real = self.tree.add(path)
        if real in self._seen:
            return path
        elf = read_elf(real)
        if elf is not None:
            self._libraries(real, elf)
            for part in add_parts(self.tree, real):
                self._part(part)
            self._progress(f"{name}: {real}")
            return path
        if depth == _SCRIPTS:
            raise ImageError(f"{path}: more than {_SCRIPTS} interpreters of interpreters")
        for interpreter in _interpreters(real):
            self.program(interpreter, depth=depth + 1)
        self._seen.add(real)
        return path

    def copy(self, path: str) -> None:
        """Take *path* and all below it, and the libraries of programs among it."""
        if not path.startswith("/"):
            raise ImageError(f"file {path!r} is not an absolute path")
        if os.path.normpath(path) in ("/", *_PSEUDO):
            raise ImageError(f"{path}: cannot be copied into an image whole")
        for part in self.tree.add_tree(path):
            if part in self.tree.files:
                self._part(part)

    def finish(self) -> None:
        """Add what every root has, and what the libraries found need to be found again."""
        for folder in sorted(self._library_folders):
            if os.path.exists(f"{folder}/libc.so.6"):
                for name in _GLIBC_EXTRA:
                    if os.path.exists(f"{folder}/{name}"):
                        self.tree.add(f"{folder}/{name}")
        if not all(map(_is_default, self._library_folders)) and os.path.exists("/etc/ld.so.cache"):
            # The host's loader finds them through its cache; so must the container's.
            self.tree.add("/etc/ld.so.cache")
        for path, made in _SKELETON.items():
            self.tree.make(path, made)

    def _part(self, path: str) -> None:
        """Take the libraries of *path* if it is an ELF file, as far as they can be found.

        Unlike a program a part may lack some: plugins find theirs through the program.
        """
        elf = read_elf(path)
        if elf is None:
            return
        try:
            self._libraries(path, elf)
        except ImageError:
            for library in self._loader.remembered(elf):
                self.tree.add(library)

    def _libraries(self, path: str, elf: Elf) -> None:
        if path in self._seen:
            return
        self._seen.add(path)
        for library in self._loader.libraries(path, elf):
            self.tree.add(library)
            self._library_folders.add(os.path.dirname(os.path.normpath(library)))


def find_program(name: str) -> str:
    """Return where program *name* is: an absolute path, or the first match on the search path.

    The system's folders come before the caller's PATH: an image must not depend on who builds it
    more than it has to, and wrappers of version managers work only at home.

    Raises:
        ImageError: not found; says where was looked, and what is there of a similar name.
    """
    if name.startswith("/"):
        if os.path.isfile(name) and os.access(name, os.X_OK):
            return name
        reason = "is not executable" if os.path.isfile(name) else "is not on this host"
        raise ImageError(f"program {name} {reason}")
    if "/" in name or not name:
        raise ImageError(f"program {name!r} is neither a name nor an absolute path")
    folders = dict.fromkeys(f"{DEFAULT_PATH}:{os.environ.get('PATH', '')}".split(":"))
    searched = [folder for folder in folders if folder.startswith("/") and os.path.isdir(folder)]
    for folder in searched:
        path = f"{folder}/{name}"
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    there = {item for folder in searched for item in os.listdir(folder)}
    close = difflib.get_close_matches(name, sorted(there), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ImageError(f"program {name} is not on this host (looked in {', '.join(searched)}){hint}")


def missing(programs: Sequence[str], files: Sequence[str]) -> Iterator[str]:
    """Tell what `build` would not find on this host; reads names only."""
    for name in programs:
        try:
            find_program(name)
        except ImageError as error:
            yield str(error)
    for path in files:
        if not os.path.lexists(path):
            yield f"file {path} is not on this host"


def _interpreters(script: str) -> tuple[str, ...]:
    """Return what runs *script*: its interpreter, and the program an ``env`` there looks up."""
    with open(script, "rb") as file:
        line = file.readline(4096)
    words = os.fsdecode(line[2:]).split() if line.startswith(b"#!") else []
    if not words:
        raise ImageError(f"{script}: neither a program nor a script that names its interpreter")
    if os.path.basename(words[0]) != "env":
        return (words[0],)
    looked_up = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return (words[0], *looked_up[:1])


def _is_default(folder: str) -> bool:
    """Say whether every loader looks into *folder* without being told."""
    parts = folder.removeprefix("/usr").split("/")[1:]
    if "glibc-hwcaps" in parts:
        parts = parts[: parts.index("glibc-hwcaps")]
    return parts[0] in ("lib", "lib64", "lib32") and (
        len(parts) == 1 or (len(parts) == 2 and "-linux-" in parts[1])
    )


def _search_path(commands: Sequence[str]) -> str:
    folders = [*DEFAULT_PATH.split(":"), *map(os.path.dirname, commands)]
    return ":".join(dict.fromkeys(folders))
