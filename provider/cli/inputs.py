"""From the options of a verb to what is desired."""

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from provider.cli.options import Inputs
from provider.cli.session import Session
from provider.errors import UsageError

if TYPE_CHECKING:
    from provider.model.resource import Desired


def load_desired(session: Session, inputs: Inputs, *, hmac_key: bytes | None) -> "Desired":
    """Return what the manifests want; nothing on the host is changed.

    Without *hmac_key* secrets are not read, and nothing is cached.

    Raises:
        UsageError: no manifest is named, or standard input twice.
        ManifestError: with every problem of the input.
    """
    from provider.manifest.load import load

    if not inputs.file:
        raise UsageError("no manifest given", hint="name a file or folder with -f")
    readers = [name for name in (*inputs.file, *(inputs.secret_values or ())) if name == "-"]
    if len(readers) > 1:
        raise UsageError("standard input can be read once only")
    stdin = _standard_input() if readers else None
    sources: list[Path | Literal["-"]] = [
        "-" if name == "-" else Path(name) for name in inputs.file
    ]
    return load(
        sources,
        project=inputs.project,
        sets=tuple(inputs.set_ or ()),
        values=tuple(Path(v) for v in inputs.values or ()),
        secret_values=tuple("-" if v == "-" else Path(v) for v in inputs.secret_values or ()),
        overlays=tuple(Path(o) for o in inputs.overlay or ()),
        stdin=stdin,
        template_stdin=inputs.template,
        hmac_key=hmac_key,
        resolve_secrets=hmac_key is not None,
        cache_dir=session.cache if hmac_key is not None else None,
    )


@functools.cache
def _standard_input() -> bytes:
    """Return all of standard input, which can be read only once."""
    return sys.stdin.buffer.read()
