"""Compressed layers: every valid form opens, everything else is an error that says why."""

from __future__ import annotations

import gzip
import importlib.util
import io
import os

import pytest

from runtime.errors import LayerError, UnsupportedHostError
from runtime.image import compression
from runtime.image.compression import Compression, decompress, detect
from runtime.image.digest import Readable

DATA = os.urandom(100_000) + bytes(3_000_000) + b"end"


class Trickle:
    """A source that gives a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._file = io.BytesIO(data)
        self._size = size

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._size))


def everything(stream: Readable) -> bytes:
    return b"".join(iter(lambda: stream.read(1 << 16), b""))


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_gzip_of_one_and_of_many_members(size: int) -> None:
    data = DATA if size > 7 else DATA[:2000]
    assert everything(decompress(Trickle(gzip.compress(data), size))) == data
    # Layers that can be fetched in parts have a member for every file.
    parts = [data[at : at + 50_000] for at in range(0, len(data), 50_000)]
    members = b"".join(gzip.compress(part) for part in parts)
    assert everything(decompress(Trickle(members, size))) == data
    assert everything(decompress(Trickle(members + bytes(5000), size))) == data


@pytest.mark.parametrize("size", [3, 4096])
def test_no_compression(size: int) -> None:
    assert everything(decompress(Trickle(DATA[:9000], size))) == DATA[:9000]
    assert everything(decompress(Trickle(b"", size))) == b""
    assert everything(decompress(Trickle(b"abc", size))) == b"abc"


@pytest.mark.parametrize("cut", [12, 1000, -1])
def test_gzip_that_is_cut_short(cut: int) -> None:
    with pytest.raises(LayerError, match="cut short"):
        everything(decompress(Trickle(gzip.compress(DATA)[:cut], 4096)))


@pytest.mark.parametrize("at", [3000, -3, -8])
def test_gzip_that_is_damaged(at: int) -> None:
    packed = bytearray(gzip.compress(DATA))
    packed[at] ^= 0xFF
    with pytest.raises(LayerError, match=r"damaged|cut short|followed"):
        everything(decompress(Trickle(bytes(packed), 4096)))


@pytest.mark.parametrize(
    ("head", "name"),
    [(b"BZh91AY", "bzip2"), (b"\xfd7zXZ\0\0", "xz"), (b"\x04\x22\x4d\x18aaa", "lz4")],
)
def test_foreign_compressions_are_named(head: bytes, name: str) -> None:
    with pytest.raises(LayerError, match=f"compressed with {name}"):
        detect(head)


def test_zstd_without_a_module_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_find_module", lambda _name: None)
    assert detect(b"\x28\xb5\x2f\xfd\0\0") is Compression.ZSTD
    with pytest.raises(UnsupportedHostError, match="pip install zstandard"):
        decompress(io.BytesIO(b"\x28\xb5\x2f\xfd" + bytes(20)))


def test_zstd_opens_where_a_module_is_installed() -> None:
    # One frame that holds b"end\n" as a raw block, without checksum.
    frame = bytes.fromhex("28b52ffd2004210000656e640a")
    if not any(map(_is_installed, ("compression", "backports.zstd", "zstandard"))):
        with pytest.raises(UnsupportedHostError, match="zstd"):
            decompress(io.BytesIO(frame))
        return
    assert everything(decompress(Trickle(frame * 3, 5))) == b"end\n" * 3
    with pytest.raises(LayerError, match="zstd stream is damaged"):
        everything(decompress(Trickle(frame[:4] + b"\xff" * 50, 4096)))


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
