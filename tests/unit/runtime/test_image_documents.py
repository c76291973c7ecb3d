"""Documents of images: read, written, laid over one another, malformed."""

from __future__ import annotations

import pytest

from runtime.errors import ImageError
from runtime.image.digest import digest_of
from runtime.image.model import (
    OCI_CONFIG,
    Configuration,
    Descriptor,
    ImageConfig,
    Manifest,
    Platform,
)
from runtime.image.mutate import Overrides, override


def test_overrides_are_merged_over_the_image() -> None:
    config = ImageConfig(
        entrypoint=("/entry",),
        command=("serve",),
        env={"A": "1", "B": "2"},
        labels={"x": "1"},
        user="redis",
    )
    merged = override(config, Overrides(env={"B": "3", "C": "4"}, labels={"y": "2"}, workdir="/w"))
    assert merged.env == {"A": "1", "B": "3", "C": "4"}
    assert merged.labels == {"x": "1", "y": "2"}
    assert (merged.entrypoint, merged.command) == (("/entry",), ("serve",))
    assert (merged.user, merged.workdir) == ("redis", "/w")
    assert override(config, Overrides(command=("x",))).entrypoint == ("/entry",)
    alone = override(config, Overrides(entrypoint=("/new",)))
    assert (alone.entrypoint, alone.command) == (("/new",), ())
    assert override(config, Overrides()) == config


def test_documents_survive_a_round_trip() -> None:
    config = ImageConfig(  # noqa: S604  # the format's own word
        entrypoint=("/e",),
        command=("c",),
        env={"PATH": "/bin", "EMPTY": "", "EQ": "a=b"},
        workdir="/w",
        user="1:2",
        stop_signal="SIGINT",
        labels={"l": "ü"},
        exposed_ports=("80/tcp",),
        volumes=("/data",),
        healthcheck={"Test": ["CMD", "true"], "Interval": 1},
        shell=("/bin/sh", "-c"),
        on_build=("RUN x",),
    )
    document = Configuration(
        Platform("arm", "linux", "v7"), config, (digest_of(b"a"),), other={"k": [1]}
    )
    assert Configuration.from_bytes(document.to_bytes()) == document
    manifest = Manifest(Descriptor.of(OCI_CONFIG, b"x"), (), annotations={"a": "b"})
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


VALID = b'{"mediaType":"a","digest":"sha256:' + b"a" * 64 + b'","size":7}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"schemaVersion":1}',
        b'{"schemaVersion":2,"config":5}',
        b'{"schemaVersion":2,"config":{"mediaType":"a","digest":"sha256:zz","size":1}}',
        b'{"schemaVersion":2,"config":{"mediaType":"a","digest":"sha256:'
        + b"a" * 64
        + b'","size":-1}}',
        b"[" * 100000,
        b"\xff",
        b'{"schemaVersion":2,"config":%s,"annotations":{"a":"\\ud800"}}' % VALID,
        b'{"schemaVersion":2,"config":%s,"annotations":{"\xed\xb0\x80":"a"}}' % VALID,
        b'{"schemaVersion":2,"config":%s}' % VALID.replace(b"7", b"9223372036854775808"),
    ],
)
def test_malformed_documents_are_image_errors(data: bytes) -> None:
    with pytest.raises(ImageError):
        Manifest.from_bytes(data)
    if data not in (b"{}", b'{"schemaVersion":1}') and b"config" not in data:
        with pytest.raises(ImageError):
            Configuration.from_bytes(data)
