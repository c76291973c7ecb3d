"""Content digests, and readers that do not let wrong content through.

Everything in the store is named by its digest, ``sha256:<hex>``. Digests are plain strings in
canonical form; `check_digest` is the gate for text from outside.

Source: OCI image-spec, descriptor.md, "Digests".
"""

import hashlib
import re
from typing import Protocol

from runtime.errors import ImageError

_LENGTHS = {"sha256": 64, "sha512": 128}
_FORM = re.compile(r"(sha256|sha512):([0-9a-f]+)", re.ASCII)


class Readable(Protocol):
    """What a stream must offer: at most *size* bytes, empty at the end."""

    def read(self, size: int, /) -> bytes: ...  # noqa: D102


def check_digest(text: str) -> str:
    """Return *text* if it is a digest we can verify.

    Raises:
        ImageError: malformed, or an algorithm other than sha256 and sha512.
    """
    match = _FORM.fullmatch(text)
    if match is None or len(match[2]) != _LENGTHS[match[1]]:
        raise ImageError(f"not a digest: {text!r} (expected sha256:<64 hexadecimal digits>)")
    return text


def is_digest(text: str) -> bool:
    """Say whether *text* is a well-formed digest."""
    match = _FORM.fullmatch(text)
    return match is not None and len(match[2]) == _LENGTHS[match[1]]


def hex_of(digest: str) -> str:
    """Return the hexadecimal half, used in file names."""
    return digest.partition(":")[2]


def digest_of(data: bytes) -> str:
    """Return the sha256 digest of *data*."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def is_digest_of(digest: str, data: bytes) -> bool:
    """Say whether *data* has that digest, by whichever algorithm it names."""
    algorithm, _, hexadecimal = check_digest(digest).partition(":")
    return hashlib.new(algorithm, data).hexdigest() == hexadecimal


class VerifiedReader:
    """Reads a stream and refuses to reach its end with the wrong content.

    Only a caller that has read up to the empty answer knows the content is right; whatever was
    made of it before must be thrown away when that last read raises.
    """

    def __init__(self, source: Readable, digest: str, *, size: int | None = None) -> None:
        self._source = source
        self._digest = check_digest(digest)
        self._hash = hashlib.new(digest.partition(":")[0])
        self._size = size
        self._seen = 0

    def read(self, size: int, /) -> bytes:
        """Return up to *size* bytes.

        Raises:
            ImageError: at the end, or as soon as there are more bytes than announced.
        """
        data = self._source.read(size)
        self._hash.update(data)
        self._seen += len(data)
        if self._size is not None and self._seen > self._size:
            raise ImageError(f"{self._digest}: longer than its {self._size} bytes")
        if not data:
            self._check_end()
        return data

    def _check_end(self) -> None:
        if self._size is not None and self._seen != self._size:
            raise ImageError(f"{self._digest}: {self._seen} bytes instead of {self._size}")
        found = self._hash.hexdigest()
        if found != hex_of(self._digest):
            raise ImageError(f"{self._digest}: content is damaged (its digest is {found})")
