"""References as people write them."""

from __future__ import annotations

import pytest

from runtime.errors import ImageError
from runtime.image.reference import Reference, parse_reference

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("redis", "docker.io/library/redis:latest"),
        ("redis:7", "docker.io/library/redis:7"),
        ("a/b", "docker.io/a/b:latest"),
        ("docker.io/redis", "docker.io/library/redis:latest"),
        ("index.docker.io/a/b:1", "docker.io/a/b:1"),
        ("ghcr.io/a/b/c:1.2-x_y", "ghcr.io/a/b/c:1.2-x_y"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a", "localhost:5000/a:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("HOST/a", "HOST/a:latest"),
        (f"a@{DIGEST}", f"docker.io/library/a@{DIGEST}"),
        (f"a:1@{DIGEST}", f"docker.io/library/a:1@{DIGEST}"),
        ("a--b__c.d", "docker.io/library/a--b__c.d:latest"),
    ],
)
def test_defaults_are_filled_in(text: str, full: str) -> None:
    reference = parse_reference(text)
    assert str(reference) == full
    assert parse_reference(full) == reference


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a repository"),
        ("Redis", "lower case"),
        ("a/B", "lower case"),
        ("a:", "not a tag"),
        ("a:-x", "not a tag"),
        ("a:" + "x" * 129, "not a tag"),
        ("a@sha256:abc", "not a digest"),
        ("a@", "not a digest"),
        ("a//b", "not a repository"),
        ("../a", "registry|repository"),
        ("-a.b/c", "not a registry"),
        ("a b", "not a repository"),
        ("a" * 300, "not a repository"),
        ("a.b:123456/c", "not a registry"),
        ("a\n", "not a repository"),
    ],
)
def test_wrong_part_is_named(text: str, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        parse_reference(text)


def test_parts() -> None:
    assert parse_reference(f"r.io:1/a/b:t@{DIGEST}") == Reference("r.io:1", "a/b", "t", DIGEST)
