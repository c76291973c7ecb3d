"""Compressed streams: recognised by their first bytes, unpacked as they come.

gzip goes through isal where it is installed (twice the speed of zlib), zstd through whichever
module this Python has. Output is made in bounded pieces, so a few bytes that unpack to terabytes
cost time in the reader's own measure and never memory.
"""

import enum
import importlib
import zlib
from typing import Any

from runtime.errors import LayerError, UnsupportedHostError
from runtime.image.digest import Readable

PIECE = 1 << 20


class Compression(enum.Enum):
    """How a stream is compressed; the value is the suffix of its media type."""

    NONE = ""
    GZIP = "+gzip"
    ZSTD = "+zstd"


_MAGIC = {
    b"\x1f\x8b": Compression.GZIP,
    b"\x28\xb5\x2f\xfd": Compression.ZSTD,
}
_FOREIGN = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x04\x22\x4d\x18": "lz4"}


def detect(head: bytes) -> Compression:
    """Return how a stream that starts with *head* (6 bytes or more) is compressed.

    Raises:
        LayerError: in a way images do not use.
    """
    for magic, compression in _MAGIC.items():
        if head.startswith(magic):
            return compression
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            raise LayerError(f"compressed with {name}; images use gzip, zstd or nothing")
    return Compression.NONE


def decompress(source: Readable) -> Readable:
    """Return the uncompressed stream of *source*, whatever it is compressed with.

    Raises:
        UnsupportedHostError: zstd, and this Python has no module for it.
        LayerError: compressed in a way images do not use.
    """
    head = _Replay(source)
    compression = detect(head.peek(6))
    if compression is Compression.GZIP:
        return _Gzip(head)
    if compression is Compression.ZSTD:
        return _open_zstd(head)
    return head


class _Replay:
    """A stream whose first bytes were looked at."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._head = b""

    def peek(self, size: int) -> bytes:
        while len(self._head) < size and (more := self._source.read(PIECE)):
            self._head += more
        return self._head[:size]

    def read(self, size: int, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._source.read(size)


class _Gzip:
    """Members one after the other; what follows the last may only be zeros."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._input = b""
        self._members = 0
        self._inflate: Any = None

    def read(self, size: int, /) -> bytes:
        while True:
            if not self._input:
                self._input = self._source.read(PIECE)
                if not self._input:
                    if self._inflate is not None:
                        raise LayerError("gzip stream is cut short")
                    return b""
            if self._inflate is None and not self._start():
                continue
            try:
                data: bytes = self._inflate.decompress(self._input, size)
            except _ERRORS as error:
                raise LayerError(f"gzip stream is damaged: {error}") from error
            if self._inflate.eof:
                self._input = self._inflate.unused_data
                self._inflate = None
            else:
                self._input = self._inflate.unconsumed_tail
            if data:
                return data

    def _start(self) -> bool:
        if self._members:
            self._input = self._input.lstrip(b"\0")
            if not self._input:
                return False
            if not self._input.startswith(b"\x1f"):
                raise LayerError("gzip stream is followed by something else")
        self._members += 1
        self._inflate = _ZLIB.decompressobj(31)
        return True


def _open_zstd(source: Readable) -> Readable:
    for name in ("compression.zstd", "backports.zstd"):
        if (module := _find_module(name)) is not None:
            return _Guarded(module.ZstdFile(source), module.ZstdError)
    if (module := _find_module("zstandard")) is not None:
        reader = module.ZstdDecompressor().stream_reader(source, read_across_frames=True)
        return _Guarded(reader, module.ZstdError)
    raise UnsupportedHostError(
        "the layer is compressed with zstd, and this Python has no module for it;"
        " install one with: pip install zstandard"
    )


class _Guarded:
    """A library's reader whose errors are made ours."""

    def __init__(self, reader: Any, errors: type[Exception]) -> None:
        self._reader = reader
        self._errors = (errors, EOFError)

    def read(self, size: int, /) -> bytes:
        try:
            data: bytes = self._reader.read(size)
        except self._errors as error:
            raise LayerError(f"zstd stream is damaged: {error}") from error
        return data


def _find_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_ZLIB: Any = _find_module("isal.isal_zlib") or zlib
_ERRORS = (_ZLIB.error, zlib.error)
