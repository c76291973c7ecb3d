"""The machine's read-only disks: this project as it is now, and the Python packages it needs."""

from __future__ import annotations

import compileall
import hashlib
import os
import re
import shutil
import sys
import tempfile
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from tests.vm.image import cache_folder, locked, make_ext4, unused

PROJECT = Path(__file__).parents[2]
PYTHON = (3, 11)
"""Debian 12's, which the machine has; packages with compiled parts fit one version only."""

_PARTS = ("provider", "runtime", "schemas", "systemd", "tests", "examples", "pyproject.toml")
_TEST_PACKAGES = ("pytest", "pytest-timeout", "isal", "zstandard")


def packages_disk(folder: Path | None = None) -> Path:
    """Return the disk of all packages that product and tests need, made if they are not kept.

    Raises:
        RuntimeError: this Python's packages are of no use to the machine's.
    """
    if sys.version_info[:2] != PYTHON:
        raise RuntimeError(f"the machine has Python {PYTHON}, this is {sys.version_info[:2]}")
    folder = folder or cache_folder()
    wanted = _closure()
    names = sorted(f"{found.name}-{found.version}" for found in wanted)
    key = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    disk = folder / f"packages-{key}.ext4"
    with locked(folder / "lock"):
        if not disk.exists():
            for old in unused(folder, "packages-*"):
                old.unlink()
            with tempfile.TemporaryDirectory(prefix="making-", dir=folder) as scratch:
                tree, new = Path(scratch, "tree"), Path(scratch, "new")
                for found in wanted:
                    _copy_package(found, tree)
                _compile(tree)
                _seal(tree, new)
                new.rename(disk)
        os.utime(disk)
    return disk


def project_disk(disk: Path) -> None:
    """Make the file *disk* from the project as it is."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch, "tree")
        tree.mkdir()
        for name in _PARTS:
            source = PROJECT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, symlinks=True)
            else:
                shutil.copy2(source, tree / name)
        _compile(tree)
        _seal(tree, disk)


def _closure() -> list[Distribution]:
    """Return what pyproject.toml names as dependencies, what the tests need, and what those need.

    Optional extras are left out.
    """
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    waiting = [*project["dependencies"], *_TEST_PACKAGES]
    found: dict[str, Distribution] = {}
    while waiting:
        requirement = waiting.pop()
        name = re.match(r"[\w.-]+", requirement)
        assert name is not None, requirement
        key = name[0].lower().replace("_", "-")
        if key in found or "extra ==" in requirement:
            continue
        try:
            found[key] = distribution(name[0])
        except PackageNotFoundError:
            if ";" in requirement:
                continue  # for another Python or platform than this one
            raise
        waiting += found[key].requires or ()
    return list(found.values())


def _copy_package(package: Distribution, tree: Path) -> None:
    for file in package.files or ():
        if file.parts[0] == ".." or "__pycache__" in file.parts:
            continue  # scripts, and what is compiled anew
        target = tree / Path(*file.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(file.locate()), target)


def _compile(tree: Path) -> None:
    # Nobody can write bytecode there later, and to compile in the machine takes ten times as long.
    compileall.compile_dir(tree, quiet=2, workers=0)


def _seal(tree: Path, disk: Path) -> None:
    size = sum(-(-path.lstat().st_size // 4096) * 4096 + 4096 for path in tree.rglob("*"))
    # Small file systems get small blocks, and to read each takes a request.
    make_ext4(
        tree, disk, size + size // 8 + (4 << 20), ("-b", "4096", "-O", "^has_journal", "-m", "0")
    )
