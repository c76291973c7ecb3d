"""From the options of a verb to what is desired."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from provider.cli.session import Session
from provider.errors import UsageError

if TYPE_CHECKING:
    from provider.model.resource import Desired


def load_desired(
    session: Session,
    files: Sequence[str] | None,
    *,
    project: str | None = None,
    sets: Sequence[str] | None = None,
    values: Sequence[str] | None = None,
    secret_values: Sequence[str] | None = None,
    overlays: Sequence[str] | None = None,
    template: bool = False,
    resolve_secrets: bool = True,
    hmac_key: bytes | None = None,
) -> "Desired":
    """Return what the manifests want; nothing on the host is changed.

    Raises:
        UsageError: no manifest is named.
        ManifestError: with every problem of the input.
    """
    from provider.manifest.load import load

    if not files:
        raise UsageError("no manifest given", hint="name a file or folder with -f")
    readers = [name for name in (*files, *(secret_values or ())) if name == "-"]
    if len(readers) > 1:
        raise UsageError("standard input can be read once only")
    stdin = sys.stdin.buffer.read() if readers else None
    sources: list[Path | Literal["-"]] = ["-" if name == "-" else Path(name) for name in files]
    return load(
        sources,
        project=project,
        sets=tuple(sets or ()),
        values=tuple(Path(v) for v in values or ()),
        secret_values=tuple("-" if v == "-" else Path(v) for v in secret_values or ()),
        overlays=tuple(Path(o) for o in overlays or ()),
        stdin=stdin,
        template_stdin=template,
        hmac_key=hmac_key,
        resolve_secrets=resolve_secrets,
        cache_dir=session.cache if resolve_secrets else None,
    )
