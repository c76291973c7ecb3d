"""From what the user named to what is wanted: the way into this package.

The story: read bytes, look into the cache, else parse, lay overlays over, validate, compile; then
read the secrets. Everything that is wrong comes out as one ManifestError. What a cached project
does not need is imported on the other way only.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from provider.errors import ManifestError, Problem, UsageError
from provider.manifest.cache import Cache, cache_key
from provider.manifest.compiled import Compiled
from provider.manifest.files import STDIN, SourceFile, read_files
from provider.manifest.reading import read_file
from provider.manifest.resolve import resolve
from provider.model.resource import Desired
from runtime.record import dataclass, field


def load(
    files: Sequence[Path | str],
    *,
    project: str | None = None,
    sets: Sequence[str] = (),
    values: Sequence[Path | str] = (),
    secret_values: Sequence[Path | str] = (),
    overlays: Sequence[Path | str] = (),
    stdin: bytes | None = None,
    template_stdin: bool = False,
    hmac_key: bytes | None = None,
    resolve_secrets: bool = True,
    cache_dir: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Desired:
    """Return what the manifests want, in dependency order.

    Args:
        files: Manifests and folders of them; ``-`` is *stdin*.
        project: ``--project``; must agree with a Project document, or stand for it.
        sets: ``key.path=value`` for templates; they win over *values*.
        values: Files of values for templates.
        secret_values: The same for values that must not be shown; ``-`` is *stdin*.
        overlays: Folders of partial documents, laid over in this order.
        stdin: What standard input holds, where ``-`` is named.
        template_stdin: *stdin* is a template.
        hmac_key: Key of the fingerprints that stand for secret values; without it, and for
            every secret without *resolve_secrets*, ``(unresolved)`` stands there.
        resolve_secrets: Read secret values from where they are.
        cache_dir: Where compiled projects are kept between runs; made if its parent is there. None:
            nowhere.
        env: Where ``fromEnv`` looks, and what commands get; None: that of this process.

    Raises:
        ManifestError: the input is wrong; carries all that is, by place.
        UsageError: ``-`` is named for two things.
    """
    inputs = _Inputs.read(
        manifests=_texts(files),
        values=_texts(values),
        secret_values=_texts(secret_values),
        overlays=_texts(overlays),
        sets=tuple(sets),
        project=project,
        stdin=stdin,
        template_stdin=template_stdin,
    )
    compiled, problems = _compiled(inputs, cache_dir)
    desired, unread = resolve(
        compiled,
        hmac_key=hmac_key,
        environment=os.environ if env is None else env,
        read_values=resolve_secrets,
    )
    if problems or unread:
        from provider.manifest.compile import sorted_problems

        raise ManifestError(sorted_problems((*problems, *unread), inputs.order))
    return desired


def _texts(paths: Iterable[Path | str]) -> tuple[str, ...]:
    return tuple(str(path) for path in paths)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The bytes of a run and its options."""

    manifests: tuple[SourceFile, ...]
    values: tuple[SourceFile, ...]
    secret_values: tuple[SourceFile, ...]
    overlays: tuple[tuple[str, tuple[SourceFile, ...]], ...]
    sets: tuple[str, ...]
    project: str | None
    problems: tuple[Problem, ...]
    manifests_complete: bool
    values_complete: bool

    @classmethod
    def read(
        cls,
        *,
        manifests: tuple[str, ...],
        values: tuple[str, ...],
        secret_values: tuple[str, ...],
        overlays: tuple[str, ...],
        sets: tuple[str, ...],
        project: str | None,
        stdin: bytes | None,
        template_stdin: bool,
    ) -> "_Inputs":
        """Read every file named."""
        named = (manifests, values, secret_values, overlays)
        if sum(STDIN in paths for paths in named) > 1:
            raise UsageError("standard input (-) can be read for one thing only")
        found = read_files(
            manifests,
            stdin=stdin,
            stdin_template=template_stdin,
            exclude=(*values, *secret_values),
        )
        plain = read_files(values, stdin=stdin, folders=False)
        secret = read_files(secret_values, stdin=stdin, folders=False)
        over = [(folder, read_files([folder], stdin=stdin)) for folder in overlays]
        problems = [found.problems, plain.problems, secret.problems]
        problems += [read.problems for _, read in over]
        return cls(
            manifests=found.files,
            values=plain.files,
            secret_values=secret.files,
            overlays=tuple((folder, read.files) for folder, read in over),
            sets=sets,
            project=project,
            problems=tuple(problem for each in problems for problem in each),
            manifests_complete=not found.problems,
            values_complete=not plain.problems and not secret.problems,
        )

    @property
    def order(self) -> list[str]:
        """Paths of manifests and overlays, as problems are sorted."""
        over = [file.path for _, files in self.overlays for file in files]
        return [*(file.path for file in self.manifests), *over]

    def key(self) -> str:
        """Return the cache key: all that decides what is compiled, besides files read later."""
        roles = [("manifest", self.manifests), ("values", self.values)]
        roles += [(f"overlay {folder}", files) for folder, files in self.overlays]
        return cache_key(
            {
                "project": self.project,
                "sets": self.sets,
                "folder": os.getcwd(),
                "templates": [file.path for file in self.manifests if file.template],
            },
            [(role, file.path, file.content) for role, files in roles for file in files],
        )


def _compiled(inputs: _Inputs, cache_dir: Path | None) -> tuple[Compiled, tuple[Problem, ...]]:
    # Not even a digest of secret values may be kept, so such runs go without the cache.
    cache = None
    if cache_dir is not None and not inputs.secret_values and not inputs.problems:
        cache = Cache(cache_dir)
    key = inputs.key() if cache else ""
    kept = cache.get(key) if cache else None
    if kept is not None:
        return kept, ()
    reads = _Reads()
    compiled, problems = _compile(inputs, reads)
    if cache and not problems:
        cache.put(key, compiled, reads.content)
    return compiled, problems


@dataclass(slots=True)
class _Reads:
    """Reads files, not much more than a Config may hold, and remembers them for the cache."""

    content: dict[str, bytes] = field(default_factory=dict)

    def __call__(self, path: str) -> bytes:
        from provider.manifest.content import LIMIT_BYTES

        self.content[path] = content = read_file(path, LIMIT_BYTES)
        return content


def _compile(inputs: _Inputs, reads: _Reads) -> tuple[Compiled, tuple[Problem, ...]]:
    from provider.manifest.compile import compile_documents
    from provider.manifest.draft import Lost
    from provider.manifest.overlay import merge_overlay
    from provider.manifest.rendering import LateRenderer
    from provider.manifest.source import read_sources

    renderer = LateRenderer(
        inputs.values, inputs.secret_values, inputs.sets, complete=inputs.values_complete
    )
    reading = read_sources(inputs.manifests, renderer=renderer)
    problems = [*inputs.problems, *reading.problems]
    documents = reading.documents
    unread = reading.unread if inputs.manifests_complete else (None, *reading.unread)
    for folder, files in inputs.overlays:
        over = read_sources(files, renderer=renderer)
        documents, unknown = merge_overlay(
            documents, over.documents, folder=folder, lost=Lost(texts=unread)
        )
        problems += [*over.problems, *unknown]
    compiled, found = compile_documents(
        documents,
        project=inputs.project,
        folders={document.path: _folder(document.path) for document in documents},
        read=reads,
        renderer=renderer,
        unread=unread,
    )
    reads.content.update(renderer.included)
    return compiled, (*problems, *renderer.problems, *found)


def _folder(path: str) -> str:
    return os.getcwd() if path == STDIN else os.path.dirname(os.path.abspath(path))
