"""Where a field was written: look-ups in ``Resource.provenance``."""

from collections.abc import Iterator, Mapping

from provider.errors import Origin


def ancestors(path: str) -> Iterator[str]:
    """Yield *path* and what holds it, innermost first; the last is the empty path.

    ``a.b[k].c`` gives ``a.b[k].c``, ``a.b[k]``, ``a.b``, ``a``, ````. Merge keys may hold dots
    and brackets; the half keys that come out for them name nothing and do no harm.
    """
    while path:
        yield path
        if path.endswith("]"):
            path = path[: path.rfind("[")] if "[" in path else ""
        else:
            path = path[: path.rfind(".")] if "." in path else ""
    yield ""


def place(provenance: Mapping[str, Origin], path: str, default: Origin | None) -> Origin | None:
    """Return where *path*, or else the nearest thing around it, was written."""
    return next((provenance[p] for p in ancestors(path) if p in provenance), default)
