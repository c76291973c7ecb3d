"""Where registries are, and how they may be talked to: what the operator has configured.

The files are those podman, buildah and skopeo read, so that a host needs only one: registries.conf
in its second version, and folders of certificates. Of the former `unqualified-search-registries`
and short names are not followed: what a name without a registry means does not depend on the host.

Source: containers-registries.conf(5), containers-registries.conf.d(5), containers-certs.d(5).
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runtime.errors import ImageError
from runtime.image.reference import Reference
from runtime.record import dataclass

_SYSTEM = Path("/etc/containers")
_CERTIFICATES = (Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d"))
_HOSTS = {"docker.io": "registry-1.docker.io"}
"""Registries that are asked at another address than their name."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address that is asked for the content of a repository."""

    host: str
    """With a port, unless it is the protocol's."""
    repository: str
    insecure: bool = False
    """Plain HTTP, and certificates nobody vouches for, are taken."""

    def __str__(self) -> str:
        """Return how people write it."""
        return f"{self.host}/{self.repository}"


@dataclass(frozen=True, slots=True)
class _Mirror:
    location: str
    insecure: bool
    pulls: str
    """``all | digest-only | tag-only``: which references it is asked for."""


@dataclass(frozen=True, slots=True)
class _Rule:
    prefix: str
    location: str
    insecure: bool
    blocked: bool
    mirrors: tuple[_Mirror, ...]

    def rest_of(self, name: str) -> str | None:
        """Return what follows the prefix in *name*; None if that does not begin with it."""
        if self.prefix.startswith("*."):
            host, slash, path = name.partition("/")
            return slash + path if host.partition(":")[0].endswith(self.prefix[1:]) else None
        if not name.startswith(self.prefix):
            return None
        rest = name[len(self.prefix) :]
        return rest if not rest or rest[0] == "/" else None


@dataclass(frozen=True, slots=True)
class Trust:
    """What TLS with one host rests on; paths of PEM files."""

    authorities: tuple[str, ...] = ()
    """Beside those of the system."""
    certificate: str | None = None
    key: str | None = None
    insecure: bool = False


class Settings:
    """What was read of the files; the most specific rule counts."""

    def __init__(
        self, rules: Sequence[_Rule] = (), certificates: Sequence[Path] = _CERTIFICATES
    ) -> None:
        self._rules = sorted(rules, key=lambda rule: len(rule.prefix), reverse=True)
        self._certificates = certificates

    def endpoints(self, reference: Reference, *, insecure: bool = False) -> tuple[Endpoint, ...]:
        """Return where to pull *reference* from, in the order to try; the registry comes last.

        Raises:
            ImageError: the configuration blocks it.
        """
        name = f"{reference.registry}/{reference.repository}"
        rule, rest = self._rule_of(name)
        if rule is None:
            return (_endpoint(name, insecure),)
        if rule.blocked:
            raise ImageError(f"{name}: registries.conf blocks {rule.prefix}")
        wanted = {"all", "digest-only" if reference.digest else "tag-only"}
        mirrors = [
            _endpoint(mirror.location + rest, insecure or mirror.insecure)
            for mirror in rule.mirrors
            if mirror.pulls in wanted
        ]
        return (*mirrors, _located(rule, rest, name, insecure))

    def endpoint(self, reference: Reference, *, insecure: bool = False) -> Endpoint:
        """Return where to push *reference* to: no mirror takes anything.

        Raises:
            ImageError: the configuration blocks it.
        """
        return self.endpoints(reference, insecure=insecure)[-1]

    def trust(self, host: str, *, insecure: bool = False) -> Trust:
        """Return what TLS with *host* rests on.

        Raises:
            ImageError: a certificate has no key.
        """
        for folder in self._certificates:
            if (folder / host).is_dir():
                return _trust(folder / host, insecure)
        return Trust(insecure=insecure)

    def _rule_of(self, name: str) -> tuple[_Rule | None, str]:
        for rule in self._rules:
            if (rest := rule.rest_of(name)) is not None:
                return rule, rest
        return None, ""


def read_settings(folders: Sequence[Path] | None = None) -> Settings:
    """Return what the configuration files say; absent ones say nothing.

    ``CONTAINERS_REGISTRIES_CONF`` names the only one that counts. Else *folders* are looked into,
    by default a user's own and the system's: the first with a registries.conf has it, and files of
    ``registries.conf.d`` are added in the order of their names.

    Raises:
        ImageError: a file is not as its manual page has it.
    """
    alone = os.environ.get("CONTAINERS_REGISTRIES_CONF")
    if alone:
        return Settings(list(_rules([Path(alone)])))
    if folders is None:
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "containers"
        folders = (_SYSTEM,) if os.geteuid() == 0 else (home, _SYSTEM)
    main = [path for each in folders if (path := each / "registries.conf").is_file()][:1]
    added = [
        path for each in reversed(folders) for path in (each / "registries.conf.d").glob("*.conf")
    ]
    return Settings(list(_rules([*main, *sorted(added, key=lambda path: path.name)])))


def _rules(files: Sequence[Path]) -> Iterator[_Rule]:
    found: dict[str, _Rule] = {}
    for path in files:
        try:
            tree = tomllib.loads(path.read_text())
            if "registries" in tree:
                raise ValueError(
                    "is in version 1 of the format, which has no mirrors; use [[registry]]"
                )
            for item in tree.get("registry", []):
                rule = _rule(item)
                found[rule.prefix] = rule
        except (ValueError, TypeError, AttributeError, OSError) as error:
            raise ImageError(f"{path}: {error}") from error
    yield from found.values()


def _rule(item: Any) -> _Rule:
    location = str(item.get("location", ""))
    prefix = str(item.get("prefix", location))
    if not prefix:
        raise ValueError("a registry has neither prefix nor location")
    digests_only = bool(item.get("mirror-by-digest-only", False))
    return _Rule(
        prefix=prefix,
        location=location,
        insecure=bool(item.get("insecure", False)),
        blocked=bool(item.get("blocked", False)),
        mirrors=tuple(_mirror(each, digests_only) for each in item.get("mirror", [])),
    )


def _mirror(item: Any, digests_only: bool) -> _Mirror:
    pulls = str(item.get("pull-from-mirror", "digest-only" if digests_only else "all"))
    if pulls not in ("all", "digest-only", "tag-only"):
        raise ValueError(f"pull-from-mirror is {pulls!r}, not all, digest-only or tag-only")
    location = str(item.get("location", ""))
    if not location:
        raise ValueError("a mirror has no location")
    return _Mirror(location, bool(item.get("insecure", False)), pulls)


def _located(rule: _Rule, rest: str, name: str, insecure: bool) -> Endpoint:
    # A prefix with a wildcard has no location to put in its place.
    place = rule.location + rest if rule.location else name
    return _endpoint(place, insecure or rule.insecure)


def _endpoint(name: str, insecure: bool) -> Endpoint:
    host, _, repository = name.partition("/")
    return Endpoint(_HOSTS.get(host, host), repository, insecure)


def _trust(folder: Path, insecure: bool) -> Trust:
    certificates = sorted(folder.glob("*.cert"))
    for path in certificates:
        if not path.with_suffix(".key").exists():
            raise ImageError(f"{path}: has no {path.with_suffix('.key').name} beside it")
    chosen = certificates[0] if certificates else None
    return Trust(
        authorities=tuple(str(path) for path in sorted(folder.glob("*.crt"))),
        certificate=str(chosen) if chosen else None,
        key=str(chosen.with_suffix(".key")) if chosen else None,
        insecure=insecure,
    )
