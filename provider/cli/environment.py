"""Variables on the command line, as Docker takes them."""

import io
import os
from collections.abc import Iterable, Iterator

from provider.errors import UsageError
from provider.manifest.reading import LIMIT_BYTES, read_file


def environment(items: Iterable[str] | None, files: Iterable[str] | None) -> dict[str, str]:
    """Return variables: those of files first, so that single ones win.

    ``NAME`` alone takes the value it has here, if it has one.

    Raises:
        UsageError: what is there is no variable, or a file cannot be read.
    """
    found: dict[str, str] = {}
    for path in files or ():
        for line in _lines(path):
            found |= _variable(line, f"--env-file {path}: {line}")
    for item in items or ():
        found |= _variable(item, f"-e {item}")
    return found


def _variable(text: str, shown: str) -> dict[str, str]:
    name, sign, value = text.partition("=")
    if not name or name != name.strip():
        raise UsageError(shown, hint="NAME=VALUE, or NAME")
    if sign:
        return {name: value}
    return {name: os.environ[name]} if name in os.environ else {}


def _lines(path: str) -> Iterator[str]:
    try:
        content = read_file(path, pipes=True)
        lines = io.StringIO(content.decode(), newline=None)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--env-file {path}: {error}") from error
    if len(content) > LIMIT_BYTES:
        raise UsageError(f"--env-file {path}: larger than {LIMIT_BYTES >> 20} MiB")
    for line in lines:
        text = line.rstrip("\n").lstrip()
        if text and not text.startswith("#"):
            yield text
