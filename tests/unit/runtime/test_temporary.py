"""Half-written files: those of the dead are found wherever we write, and no others."""

import os
from pathlib import Path

import pytest

from runtime.container.recovery import recover
from runtime.container.temporary import unfinished
from runtime.kernel.replace import replace_file
from runtime.root import Root

PLACES = [
    "lib/key",
    "lib/networks/sysctls.json",
    "lib/networks/by-id/net.json",
    "lib/volumes/v/meta.json",
    "lib/containers/c/config.json",
    "lib/layers/l/layer.json",
    "run/firewall.json",
    "run/dns/net.json",
    "run/containers/c/status.json",
    "run/containers/c/launch.json",
]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    root = Root.at(tmp_path)
    for place in PLACES:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    return root


def killed_while_writing(path: Path) -> Path:
    """Return what a writer of *path* has left that was killed before it was done."""
    pid = os.fork()
    if pid == 0:
        os.rename = lambda *_: os._exit(9)  # type: ignore[assignment]
        replace_file(path, b"half")
    os.waitpid(pid, 0)
    (left,) = path.parent.glob(f"{path.name}.*.{pid}.tmp")
    return left


@pytest.mark.parametrize("place", PLACES)
def test_what_the_dead_wrote_is_found_and_cleared_away(root: Root, tmp_path: Path, place: str):
    left = killed_while_writing(tmp_path / place)
    assert list(unfinished(root)) == [left]
    recover(root)
    assert not left.exists()


def test_what_the_living_write_is_left_to_them(root: Root, tmp_path: Path):
    for place in PLACES:
        (tmp_path / f"{place}.{os.getpid()}.tmp").touch()
    assert list(unfinished(root)) == []
    recover(root)
    assert all((tmp_path / f"{place}.{os.getpid()}.tmp").exists() for place in PLACES)
