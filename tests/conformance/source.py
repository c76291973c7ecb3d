"""Debian's source packages, fetched when they are needed; nothing of them is ours to keep.

apt is given a configuration of its own, so that the host's sources and lists stay as they are.
"""

import os
import shutil
from pathlib import Path

from runtime.image.aptsource import resolve_suite
from tests.support.calling import call

CACHE = Path(__file__).resolve().parents[2] / ".make" / "conformance"
"""Where fetched sources and what is built from them stay until `make clean`."""


def source(package: str) -> Path:
    """Return the unpacked source of a Debian package, with Debian's patches."""
    place = CACHE / package
    unpacked = place / "source"
    if not unpacked.is_dir():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        environment = os.environ | {"APT_CONFIG": str(_apt())}
        words = ("apt-get", "source", "-qq", "--only-source", package)
        call(*words, env=environment, cwd=place)
        (folder,) = (entry for entry in place.iterdir() if entry.is_dir())
        folder.rename(unpacked)
    return unpacked


def _apt() -> Path:
    """Return an apt.conf that knows the sources of where this host has its packages from."""
    place = CACHE / "apt"
    configuration = place / "apt.conf"
    if configuration.exists():
        return configuration
    for folder in ("lists/partial", "cache/archives/partial", "parts"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    _suite, archives = resolve_suite(None)
    stanzas = (
        archive.to_deb822().replace("Types: deb\n", "Types: deb-src\n") for archive in archives
    )
    (place / "parts/archives.sources").write_text("\n".join(stanzas))
    settings = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": place / "parts",
        "Dir::State::lists": place / "lists",
        "Dir::Cache": place / "cache",
        # apt's own user need not be able to come here.
        "APT::Sandbox::User": "root",
    }
    fresh = place / "fresh.conf"
    fresh.write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    strict = "APT::Update::Error-Mode=any"
    call("apt-get", "update", "-qq", "-o", strict, env=os.environ | {"APT_CONFIG": str(fresh)})
    fresh.rename(configuration)
    return configuration
