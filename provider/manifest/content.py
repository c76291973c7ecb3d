"""Content of Configs: text in the manifest, files beside it, templates."""

import base64
import contextlib
import os.path
from collections.abc import Callable, Iterator

from provider.errors import Origin, Problem
from provider.manifest.draft import Draft
from provider.manifest.gap import GapError, sound
from provider.manifest.rendering import LateRenderer
from provider.model.secret import SecretValue
from provider.model.tree import Json, Tree, join
from runtime.record import dataclass, field

Read = Callable[[str], bytes]
"""Returns the bytes of a file; raises OSError."""

LIMIT_BYTES = 1 << 20
"""Content is compared, recorded and shown, so it has to be small."""


@dataclass(slots=True)
class ConfigContent:
    """Canonical ``data`` of one Config."""

    data: dict[str, Json] = field(default_factory=dict)
    """Text, or ``{"base64": ...}`` for what is not UTF-8. Secret items are missing here."""
    secret: dict[str, SecretValue] = field(default_factory=dict)
    """Items a value from --secret-values went into."""
    problems: list[Problem] = field(default_factory=list)


def read_config(draft: Draft, *, read: Read, renderer: LateRenderer) -> ConfigContent:
    """Return the content of the Config *draft*."""
    result = ConfigContent()
    for key, source in sound(_items(draft)):
        with contextlib.suppress(GapError):
            _add(result, draft, key, source, read=read, renderer=renderer)
    return result


def _items(draft: Draft) -> Iterator[tuple[str, Tree]]:
    yield from draft.spec["data"].items()


def _add(
    result: ConfigContent,
    draft: Draft,
    key: str,
    source: Tree,
    *,
    read: Read,
    renderer: LateRenderer,
) -> None:
    path = join("data", key)
    origin = draft.origin_of(path) or Origin(draft.folder)
    content: bytes | Problem | tuple[Problem, ...]
    is_secret = isinstance(source["text"], SecretValue)
    if is_secret:
        content = source["text"].reveal()
    elif source["file"] is None:
        content = source["text"].encode()
    else:
        file = os.path.join(draft.folder, source["file"])
        content, origin = _read(draft, path, file, read), Origin(file)
    if isinstance(content, bytes) and draft.spec["template"]:
        content, was_put_in = _rendered(content, origin, renderer)
        if is_secret and isinstance(content, tuple):
            fault = "the template, which a value from --secret-values went into, cannot be rendered"
            content = draft.problem(path, fault)
        is_secret |= was_put_in
    if isinstance(content, Problem):
        result.problems.append(content)
    elif isinstance(content, tuple):
        result.problems += content
    elif is_secret:
        result.secret[key] = SecretValue(content)
    else:
        result.data[key] = _canonical(content)


def _rendered(
    content: bytes, origin: Origin, renderer: LateRenderer
) -> tuple[bytes | tuple[Problem, ...], bool]:
    """Return the rendered content or what stopped it, and whether a secret went into it."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return (Problem("a template has to be UTF-8", origin),), False
    rendered = renderer.render_content(text, origin=origin)
    if isinstance(rendered, tuple):
        return rendered, False
    return rendered.text.encode(), rendered.sensitive


def _read(draft: Draft, path: str, file: str, read: Read) -> bytes | Problem:
    try:
        content = read(file)
    except OSError as error:
        return draft.problem(path, f"cannot read {file}: {error.strerror}")
    if len(content) > LIMIT_BYTES:
        return draft.problem(
            path,
            f"{file} is larger than {LIMIT_BYTES >> 20} MiB",
            suggestion="mount large files with volumes",
        )
    return content


def _canonical(content: bytes) -> Json:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode("ascii")}
