"""Image references as people write them: ``redis``, ``ghcr.io/a/b:1.2``, ``x@sha256:...``.

Parsing follows the distribution project's grammar and Docker's defaults: the registry is
``docker.io`` unless the first part looks like a host, ``library/`` is added to bare names there,
and without tag and digest the tag is ``latest``.

Source: distribution/reference, reference.go; Docker CLI, "image reference".
"""

import re

from runtime.errors import ImageError
from runtime.image.digest import check_digest
from runtime.record import dataclass

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?",
    re.ASCII,
)
_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """A complete reference; at least one of *tag* and *digest* is set."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        """Return the full form, which parses back to the same value."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def is_registry(text: str) -> bool:
    """Tell whether *text* can be the registry of a reference."""
    return _HOST.fullmatch(text) is not None


def parse_reference(text: str) -> Reference:
    """Return *text* with Docker's defaults filled in.

    Raises:
        ImageError: *text* is not a reference; says which part is wrong.
    """
    rest, at, digest = text.partition("@")
    if at:
        check_digest(digest)
    first, slash, remainder = rest.partition("/")
    if slash and (set(".:[") & set(first) or first == "localhost" or first != first.lower()):
        registry, name = first, remainder
    else:
        registry, name = DEFAULT_REGISTRY, rest
    name, colon, tag = name.partition(":")
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if not _HOST.fullmatch(registry):
        raise ImageError(f"image reference {text!r}: {registry!r} is not a registry")
    if registry == DEFAULT_REGISTRY and "/" not in name:
        name = f"library/{name}"
    if len(name) > 255 or not all(_PART.fullmatch(part) for part in name.split("/")):
        hint = " (repository names are lower case)" if name != name.lower() else ""
        raise ImageError(f"image reference {text!r}: {name!r} is not a repository{hint}")
    if colon and not _TAG.fullmatch(tag):
        raise ImageError(f"image reference {text!r}: {tag!r} is not a tag")
    return Reference(
        registry=registry,
        repository=name,
        tag=tag if colon else (None if at else DEFAULT_TAG),
        digest=digest if at else None,
    )
