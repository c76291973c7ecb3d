"""Which files a run reads, and their bytes.

There is no YAML in here, so that a run whose input did not change needs no YAML library: the
cache of compiled manifests can be keyed by what this module returns.
"""

import os
from collections.abc import Iterable

from provider.errors import Origin, Problem
from provider.manifest.reading import LIMIT_BYTES, read_file
from runtime.record import dataclass

STDIN = "-"
"""Names standard input among paths, and in places."""
TEMPLATE_SUFFIX = ".j2"
OVERLAYS = "overlays"
"""Sub-folder of a manifest folder that holds variants of it, read only when asked for."""

_SUFFIXES = (".yaml", ".yml", ".json", ".yaml.j2", ".yml.j2", ".json.j2")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One input, unread by any parser."""

    path: str
    """As shown to people: the given path, or the given folder joined with the file's name."""
    content: bytes
    template: bool = False


@dataclass(frozen=True, slots=True)
class Files:
    """The inputs in reading order; each file once, however often it was named."""

    files: tuple[SourceFile, ...] = ()
    problems: tuple[Problem, ...] = ()


def read_files(
    paths: Iterable[str],
    *,
    stdin: bytes | None = None,
    stdin_template: bool = False,
    exclude: Iterable[str] = (),
    folders: bool = True,
) -> Files:
    """Read the files named, the manifests of the folders named, and *stdin* for ``-``.

    A folder stands for its ``*.yaml``, ``*.yml``, ``*.json`` and ``*.yaml.j2``, those of its
    sub-folders too, sorted by path; hidden ones and folders called ``overlays`` are left out, and
    so are the files *exclude* names (values files). Without *folders* one is a Problem, as is what
    cannot be read; the rest is read all the same.
    """
    reader = _Reader(os.path.realpath(path) for path in exclude)
    for path in paths:
        if path == STDIN:
            reader.take_stdin(stdin, template=stdin_template)
        elif folders and os.path.isdir(path):
            reader.read_folder(path)
        else:
            reader.read_file(path)
    return Files(tuple(reader.files), tuple(reader.problems))


class _Reader:
    def __init__(self, excluded: Iterable[str]) -> None:
        self.files: list[SourceFile] = []
        self.problems: list[Problem] = []
        self._seen = set(excluded)

    def take_stdin(self, content: bytes | None, *, template: bool) -> None:
        if content is None:
            self._problem(STDIN, "standard input is not at hand")
        elif STDIN not in self._seen:
            self._seen.add(STDIN)
            self.files.append(SourceFile(STDIN, content, template=template))

    def read_folder(self, folder: str) -> None:
        found = list(self._manifests(folder, set()))
        for path in sorted(found):
            self.read_file(path, pipes=False)
        if not found:
            suffixes = ", ".join(f"*{suffix}" for suffix in _SUFFIXES[:4])
            self._problem(folder, f"no manifests in this folder ({suffixes})")

    def _manifests(self, folder: str, above: set[str]) -> Iterable[str]:
        real = os.path.realpath(folder)
        if real in above:  # a link that leads back up
            return
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            self._problem(folder, f"cannot read the folder: {error.strerror}")
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if os.path.isdir(entry.path):  # entry.is_dir raises for links that go in circles
                if entry.name != OVERLAYS:
                    yield from self._manifests(entry.path, above | {real})
            elif entry.name.endswith(_SUFFIXES):
                yield entry.path.removeprefix("./")

    def read_file(self, path: str, *, pipes: bool = True) -> None:
        # Two names of one file are one input, not a duplicate definition.
        real = os.path.realpath(path)
        if real in self._seen:
            return
        self._seen.add(real)
        try:
            content = read_file(path, pipes=pipes)
        except OSError as error:
            self._problem(path, _reason(error))
            return
        if len(content) > LIMIT_BYTES:
            self._problem(path, f"the file is larger than {LIMIT_BYTES >> 20} MiB")
            return
        self.files.append(SourceFile(path, content, template=path.endswith(TEMPLATE_SUFFIX)))

    def _problem(self, path: str, message: str) -> None:
        self.problems.append(Problem(message, Origin(path)))


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    return f"cannot read the file: {error.strerror}"
