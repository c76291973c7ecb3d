"""The host's package sources, and mmdebstrap's failures in words."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runtime.errors import ImageError, UnsupportedHostError
from runtime.image import debian
from runtime.image.aptsource import (
    AptSource,
    choose_sources,
    parse_deb822,
    parse_one_line,
    read_sources,
    resolve_suite,
)
from runtime.image.inputkey import debian_key
from runtime.image.store import ImageStore
from runtime.root import Root

ONE_LINE = """
# comment
deb http://deb.debian.org/debian bookworm main contrib # end
deb-src http://deb.debian.org/debian bookworm main
deb [arch=amd64,arm64 signed-by=/k.gpg] https://example.org/apt ./
"""
DEB822 = """# comment
Types: deb deb-src
URIs: http://a.example/debian http://b.example/debian
Suites: bookworm bookworm-updates
Components: main non-free
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
# in between
 -----END PGP PUBLIC KEY BLOCK-----

types: deb-src
uris: http://c.example
suites: bookworm

Types: deb
URIs: http://d.example
Suites: bookworm-security
Enabled: no
"""


def test_one_line_format() -> None:
    first, second = parse_one_line(ONE_LINE, "f")
    assert first == AptSource(("http://deb.debian.org/debian",), ("bookworm",), ("main", "contrib"))
    assert second.options == {"Architectures": "amd64 arm64", "Signed-By": "/k.gpg"}
    assert second.suites == ("./",)


def test_deb822_format_survives_a_round_trip() -> None:
    (source,) = parse_deb822(DEB822, "f")
    assert source.uris == ("http://a.example/debian", "http://b.example/debian")
    assert source.suites == ("bookworm", "bookworm-updates")
    assert "BEGIN PGP" in source.options["Signed-By"]
    assert parse_deb822(source.to_deb822(), "f") == (source,)


@pytest.mark.parametrize(
    ("parse", "text", "reason"),
    [
        (parse_one_line, "\nrpm http://x y", "f:2: not an apt source"),
        (parse_one_line, "deb http://x", "f:1: not an apt source"),
        (parse_deb822, "Types: deb\nnonsense", "f:2: not a field"),
        (parse_deb822, "Types: deb\nURIs: x\n", "without URIs or Suites"),
    ],
)
def test_malformed_sources_are_named(parse, text: str, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        parse(text, "f")


def test_all_files_of_the_host_are_read(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://one x main\n")
    (tmp_path / "sources.list.d/b.list").write_text("deb http://three x main\n")
    (tmp_path / "sources.list.d/a.sources").write_text("Types: deb\nURIs: http://two\nSuites: x\n")
    (tmp_path / "sources.list.d/c.list.save").write_text("deb http://no x main\n")
    assert [source.uris[0] for source in read_sources(tmp_path)] == [
        "http://one",
        "http://two",
        "http://three",
    ]
    assert read_sources(tmp_path / "absent") == ()


SOURCES = (
    AptSource(("http://deb",), ("bookworm", "bookworm-updates"), ("main",)),
    AptSource(("http://security",), ("bookworm-security",), ("main",)),
    AptSource(("http://third",), ("nodistro",), ("main",)),
    AptSource(("http://other",), ("cloud-bookworm", "bookworms"), ("main",)),
)


def test_only_sources_of_the_suite_are_used() -> None:
    chosen = choose_sources(SOURCES, "bookworm", host_suite="bookworm")
    assert [source.uris[0] for source in chosen] == ["http://deb", "http://security"]


def test_another_suite_comes_from_the_same_places() -> None:
    chosen = choose_sources(SOURCES, "trixie", host_suite="bookworm")
    assert [source.suites for source in chosen] == [
        ("trixie", "trixie-updates"),
        ("trixie-security",),
    ]
    (rolling,) = choose_sources(SOURCES, "sid", host_suite="bookworm")
    assert rolling.suites == ("sid",)


def test_suite_of_the_host_is_the_default(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('NAME="Debian"\nVERSION_CODENAME=bookworm\n')
    (tmp_path / "sources.list").write_text("deb http://deb bookworm main\n")
    assert resolve_suite(None, apt=tmp_path, release=release)[0] == "bookworm"
    (tmp_path / "sources.list").write_text("deb http://deb stable main\n")
    suite, sources = resolve_suite(None, apt=tmp_path, release=release)
    assert suite == "stable"
    assert sources[0].uris == ("http://deb",)
    with pytest.raises(ImageError, match="which Debian suite"):
        resolve_suite(None, apt=tmp_path / "no", release=tmp_path / "no")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "E: Unable to locate package redisx",
            r"package redisx not found in bookworm \(asked http://deb",
        ),
        (
            "Package 'a' has no installation candidate\nE: Unable to locate package b",
            "packages a, b not found",
        ),
        ("E: Version '9' for 'redis' was not found", "package Version '9' for 'redis' not found"),
        ("Could not resolve 'deb.debian.org'", "archive cannot be resolved"),
        ("Could not connect to deb", "cannot be reached"),
        ("404  Not Found", "no such suite"),
        ("NO_PUBKEY 123", "not signed with a key known here"),
        ("No space left on device", "no space left"),
        (
            "I: chatter\nE: something else\nlast line",
            "mmdebstrap failed\nE: something else\nlast line",
        ),
    ],
)
def test_failures_are_explained(text: str, reason: str) -> None:
    error = subprocess.CalledProcessError(1, "mmdebstrap", stderr=text)
    with pytest.raises(ImageError, match=reason):
        raise debian.explain(error, ("x",), "bookworm", SOURCES)


@pytest.mark.parametrize("package", ["", "--opt", "a b", "a;b", "/etc/x.deb", "?essential", "A"])
def test_package_names_cannot_be_options(package: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not a package name"):
        ImageStore(Root.at(tmp_path)).build_debian((package,))


def test_unknown_variant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="unknown variant 'huge'"):
        ImageStore(Root.at(tmp_path)).build_debian((), "bookworm", "huge")


def test_host_without_mmdebstrap_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "DEFAULT_PATH", str(tmp_path))
    with pytest.raises(UnsupportedHostError, match="apt-get install mmdebstrap"):
        ImageStore(Root.at(tmp_path)).build_debian(("redis-server",), "bookworm")


def test_key_is_the_request() -> None:
    key = debian_key(("b", "a"), "bookworm")
    assert debian_key(("a", "b"), "bookworm") == key
    assert debian_key(("a",), "bookworm") != key
    assert debian_key(("a", "b"), "trixie") != key
    assert debian_key(("a", "b"), "bookworm", "minbase") != key
