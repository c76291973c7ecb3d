"""Paths inside a root that a hostile image filled; needs no privileges."""

import errno
import os

import pytest

from runtime.errors import KernelError
from runtime.rootfs.resolve import open_file, open_folder, open_in_root


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def at(root):
    """Call a function with the root and a path; return where it got to, below the root."""
    root_fd = os.open(root, os.O_PATH)

    def call(function, path, **options):
        fd = function(root_fd, path, **options)
        place = os.readlink(f"/proc/self/fd/{fd}")
        os.close(fd)
        return place.removeprefix(str(root)) or "/"

    yield call
    os.close(root_fd)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/a/b", "/a/b"),
        ("a//b/./", "/a/b"),
        ("/../../a/../b", "/b"),
        ("/", "/"),
        ("", "/"),
    ],
)
def test_folders_are_made(at, root, path, place):
    for _ in range(2):
        assert at(open_folder, path) == place
    assert (root / place.lstrip("/")).is_dir()


def test_files_are_made_with_their_folders(at, root):
    assert at(open_file, "/etc/ssl/cert", mode=0o600) == "/etc/ssl/cert"
    assert (root / "etc/ssl/cert").stat().st_mode & 0o777 == 0o600
    (root / "etc/ssl/cert").write_text("kept")
    at(open_file, "/etc/ssl/cert")
    assert (root / "etc/ssl/cert").read_text() == "kept"


@pytest.mark.parametrize("style", ["absolute", "relative"])
def test_links_out_end_inside(at, root, outside, style):
    target = str(outside) if style == "absolute" else f"../../../../../../..{outside}"
    (root / "etc").symlink_to(target)
    assert at(open_file, "/etc/hosts") == f"{outside}/hosts"
    assert at(open_folder, "/etc/conf.d") == f"{outside}/conf.d"
    assert (root / str(outside).lstrip("/") / "hosts").exists()


def test_a_dangling_last_link_is_where_the_file_is_made(at, root, outside):
    (root / "etc").mkdir()
    (root / "etc/resolv.conf").symlink_to(f"..{outside}/resolv.conf")
    assert at(open_file, "/etc/resolv.conf") == f"{outside}/resolv.conf"


def test_links_to_links(at, root):
    (root / "var").symlink_to("/srv/var")
    (root / "srv").symlink_to("data")
    assert at(open_folder, "/var/log") == "/data/var/log"


@pytest.mark.parametrize("function", [open_file, open_folder])
def test_loops_end(at, root, function):
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(KernelError) as caught:
        at(function, "/a/x")
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize("function", [open_file, open_folder])
def test_a_file_is_no_folder(at, root, function):
    (root / "file").touch()
    with pytest.raises(KernelError) as caught:
        at(function, "/file/x")
    assert caught.value.errno == errno.ENOTDIR


def test_magic_links_are_not_followed():
    root_fd = os.open("/", os.O_PATH)
    with pytest.raises(KernelError) as caught:
        open_in_root(root_fd, "/proc/self/root/etc")
    os.close(root_fd)
    assert caught.value.errno == errno.ELOOP


def test_nothing_stays_open(at, root, outside):
    (root / "etc").symlink_to(outside)
    before = os.listdir("/proc/self/fd")
    at(open_file, "/etc/a/b/c")
    assert os.listdir("/proc/self/fd") == before
