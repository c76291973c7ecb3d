"""The package sources of this host: reading both of apt's formats, choosing those of one suite.

Sources: sources.list(5), "One-Line-Style Format" and "deb822-Style Format".
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from runtime.errors import ImageError
from runtime.record import dataclass, field

_OPTION = re.compile(r"\[([^]]*)\]")
# One-line options and the deb822 fields they are.
_FIELDS = {
    "arch": "Architectures",
    "lang": "Languages",
    "target": "Targets",
    "signed-by": "Signed-By",
    "trusted": "Trusted",
    "by-hash": "By-Hash",
    "check-valid-until": "Check-Valid-Until",
    "valid-until-min": "Valid-Until-Min",
    "valid-until-max": "Valid-Until-Max",
    "allow-insecure": "Allow-Insecure",
}
# Suites that have no -updates and -security beside them.
_ROLLING = frozenset({"sid", "unstable", "experimental", "rc-buggy"})


@dataclass(frozen=True, slots=True)
class AptSource:
    """One stanza: every suite at every URI with every component."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    """Further fields by their deb822 name; values may have several lines."""

    def to_deb822(self) -> str:
        """Return the stanza as text, without an empty line after it."""
        fields = {
            "Types": "deb",
            "URIs": " ".join(self.uris),
            "Suites": " ".join(self.suites),
            "Components": " ".join(self.components),
            **self.options,
        }
        return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def resolve_suite(
    suite: str | None, *, apt: Path = Path("/etc/apt"), release: Path = Path("/etc/os-release")
) -> tuple[str, tuple[AptSource, ...]]:
    """Return the suite to build, and the host's sources for it (none: mmdebstrap's own defaults).

    Raises:
        ImageError: none was given and the host is no Debian with sources.
    """
    sources = read_sources(apt)
    served = suites_of(sources)
    codename = _codename(release)
    host_suite = codename if codename in served else next(iter(served), codename)
    wanted = suite or host_suite
    if not wanted:
        raise ImageError(
            "which Debian suite? this host names none, so the image must (debian.suite)"
        )
    return wanted, choose_sources(sources, wanted, host_suite=host_suite)


def read_sources(folder: Path = Path("/etc/apt")) -> tuple[AptSource, ...]:
    """Return the enabled binary sources of the host, in apt's order.

    Raises:
        ImageError: a file is malformed; names file and line.
    """
    parts = folder / "sources.list.d"
    files = [folder / "sources.list"]
    files += sorted((*parts.glob("*.list"), *parts.glob("*.sources")), key=lambda path: path.name)
    found: list[AptSource] = []
    for path in files:
        if path.is_file():
            text = path.read_text(errors="surrogateescape")
            parse = parse_deb822 if path.suffix == ".sources" else parse_one_line
            found += parse(text, str(path))
    return tuple(found)


def parse_one_line(text: str, origin: str) -> tuple[AptSource, ...]:
    """Return the ``deb`` lines of *text*; ``deb-src`` is left out."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].strip()
        match = _OPTION.search(content)
        options = match[1].split() if match else []
        words = _OPTION.sub(" ", content, count=1).split()
        if not words or words[0] == "deb-src":
            continue
        if words[0] != "deb" or len(words) < 3:
            raise ImageError(f"{origin}:{number}: not an apt source: {line.strip()!r}")
        fields = {}
        for option in options:
            key, _, value = option.partition("=")
            fields[_FIELDS.get(key.rstrip("+-").lower(), key)] = value.replace(",", " ")
        found.append(AptSource((words[1],), (words[2],), tuple(words[3:]), fields))
    return tuple(found)


def parse_deb822(text: str, origin: str) -> tuple[AptSource, ...]:
    """Return the enabled ``deb`` stanzas of *text*."""
    found = []
    fields: dict[str, str] = {}
    last = ""
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.startswith("#"):
            continue
        if not line.strip():
            found += _stanza(fields, f"{origin}:{number}")
            fields, last = {}, ""
        elif line[0] in " \t" and last:
            fields[last] += f"\n{line}"
        elif ":" in line:
            last, _, value = line.partition(":")
            last = _canonical(last.strip())
            fields[last] = value.strip()
        else:
            raise ImageError(f"{origin}:{number}: not a field: {line.strip()!r}")
    return tuple(found)


def suites_of(sources: Iterable[AptSource]) -> tuple[str, ...]:
    """Return every suite *sources* serve, in order, once."""
    return tuple(dict.fromkeys(suite for source in sources for suite in source.suites))


def choose_sources(
    sources: Sequence[AptSource], suite: str, *, host_suite: str
) -> tuple[AptSource, ...]:
    """Return what *sources* have of *suite*: itself, and its -updates, -security and so on.

    Sources for other suites are left out, third parties' above all: what is in an image called
    bookworm must not hang on what else this host has been told. For a suite the host does not use,
    the sources of the host's own one are taken with the name exchanged.
    """
    chosen = _of_suite(sources, suite)
    if chosen or suite == host_suite:
        return chosen
    renamed = []
    for source in _of_suite(sources, host_suite):
        suites = tuple(suite + name.removeprefix(host_suite) for name in source.suites)
        if suite in _ROLLING:
            suites = tuple(name for name in suites if name == suite)
        if suites:
            renamed.append(replace(source, suites=suites))
    return tuple(renamed)


def _of_suite(sources: Iterable[AptSource], suite: str) -> tuple[AptSource, ...]:
    chosen = []
    for source in sources:
        suites = tuple(
            name
            for name in source.suites
            if name == suite or re.match(f"{re.escape(suite)}[-/]", name)
        )
        if suites:
            chosen.append(replace(source, suites=suites))
    return tuple(chosen)


def _stanza(fields: dict[str, str], origin: str) -> list[AptSource]:
    if not fields or "deb" not in fields.get("Types", "").split():
        return []
    if fields.get("Enabled", "yes").lower() in ("no", "false", "without", "off", "disable"):
        return []
    if not fields.get("URIs") or not fields.get("Suites"):
        raise ImageError(f"{origin}: apt source without URIs or Suites")
    options = {
        key: value
        for key, value in fields.items()
        if key not in ("Types", "URIs", "Suites", "Components", "Enabled")
    }
    return [
        AptSource(
            tuple(fields["URIs"].split()),
            tuple(fields["Suites"].split()),
            tuple(fields.get("Components", "").split()),
            options,
        )
    ]


def _canonical(name: str) -> str:
    known = {"types", "uris", "suites", "components", "enabled"}
    spelled = {"uris": "URIs"}
    if name.lower() in known:
        return spelled.get(name.lower(), name.capitalize())
    return name


def _codename(release: Path) -> str:
    if not release.is_file():
        return ""
    match = re.search(r'^VERSION_CODENAME="?([a-z0-9-]+)"?$', release.read_text(), re.MULTILINE)
    return match[1] if match else ""
