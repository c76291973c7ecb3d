"""Users of an image, looked up in its layers."""

import os
import stat

import pytest

from runtime.errors import ContainerError, NotFoundError
from runtime.rootfs.merged import read_merged
from runtime.rootfs.passwd import resolve_user
from runtime.spec import User

PASSWD = """root:x:0:0:root:/root:/bin/sh
redis:x:999:998::/var/lib/redis:/bin/false
broken line
bad:x:one:two::/:/bin/sh
nohome:x:5:6:::
latin:x:7:8:Ren\xe9:/home/ren\xe9:
zeros:x:%s9:10::/:
"""
GROUP = "root:x:0:\nredis:x:998:\nvideo:x:44:redis,root\ntty:x:5:other\n"
MOST = 2**32 - 2


@pytest.fixture
def layers(tmp_path):
    base, top = tmp_path / "base", tmp_path / "top"
    (base / "etc").mkdir(parents=True)
    (top / "etc").mkdir(parents=True)
    (base / "etc/passwd").write_bytes((PASSWD % ("0" * 5000)).encode("latin-1"))
    (base / "etc/group").write_text(GROUP)
    return base, top


def find(layers, user, groups=()):
    return resolve_user([str(layer) for layer in layers], user, groups)


@pytest.mark.parametrize(
    ("user", "expected", "home"),
    [
        ("", User(0, 0, additional_gids=(44,)), "/root"),
        ("root", User(0, 0, additional_gids=(44,)), "/root"),
        ("redis", User(999, 998, additional_gids=(44,)), "/var/lib/redis"),
        ("999", User(999, 998, additional_gids=(44,)), "/var/lib/redis"),
        ("redis:tty", User(999, 5), "/var/lib/redis"),
        ("redis:77", User(999, 77), "/var/lib/redis"),
        ("1234", User(1234, 0), "/"),
        ("1234:5678", User(1234, 5678), "/"),
        (":video", User(0, 44), "/root"),
        ("nohome", User(5, 6), "/"),
        ("latin", User(7, 8), "/home/ren\N{REPLACEMENT CHARACTER}"),
        ("zeros", User(9, 10), "/"),
        (f"{MOST}:{MOST}", User(MOST, MOST), "/"),
    ],
)
def test_users(layers, user, expected, home):
    account = find(layers, user)
    assert (account.user, account.home) == (expected, home)


@pytest.mark.parametrize(
    ("user", "groups", "expected"),
    [
        ("redis", ["tty", "7", "video", "5"], (44, 5, 7)),
        ("redis:tty", ["video"], (44,)),
        ("1234", ["tty"], (5,)),
    ],
)
def test_groups_on_top(layers, user, groups, expected):
    assert find(layers, user, groups).user.additional_gids == expected
    with pytest.raises(NotFoundError, match="no group wheel"):
        find(layers, user, [*groups, "wheel"])


@pytest.mark.parametrize(
    ("user", "text"),
    [
        ("mysql", "no user mysql in the image's /etc/passwd"),
        ("redis:wheel", "no group wheel in the image's /etc/group"),
        ("bad", "no user bad"),
        (f"{MOST + 1}", "no user or group number"),
        ("9" * 5000, "no user or group number"),
        ("0:" + "9" * 5000, "no user or group number"),
        ("\N{ARABIC-INDIC DIGIT ONE}", "no user \N{ARABIC-INDIC DIGIT ONE}"),
    ],
)
def test_unknown_users(layers, user, text):
    with pytest.raises(NotFoundError, match=text):
        find(layers, user)


@pytest.mark.parametrize("number", [f"{MOST + 1}", "9" * 5000])
def test_a_line_with_a_number_that_is_none_counts_for_nothing(layers, number):
    _, top = layers
    (top / "etc/passwd").write_text(f"a:x:{number}:1::/:\nb:x:1:{number}::/:\nc:x:2:3::/:\n")
    (top / "etc/group").write_text(f"many:x:{number}:c\nfew:x:4:c\n")
    assert find(layers, "c").user == User(2, 3, additional_gids=(4,))
    for user in ("a", "b", "c:many"):
        with pytest.raises(NotFoundError, match=r"no user|no group"):
            find(layers, user)


def test_an_image_without_the_files_has_numbers_only(tmp_path):
    assert resolve_user(str(tmp_path), "7").user == User(7, 0)
    with pytest.raises(NotFoundError):
        resolve_user(str(tmp_path), "root")


def test_the_topmost_layer_wins(layers):
    _, top = layers
    (top / "etc/passwd").write_text("redis:x:1:1::/:/\n")
    assert find(layers, "redis").user == User(1, 1, additional_gids=(44,))


def test_links_are_followed_inside_only(layers, tmp_path):
    base, top = layers
    (tmp_path / "outside").write_text("evil:x:0:0::/:/\n")
    for target in (f"{tmp_path}/outside", "../../outside", "../../../../../../../outside"):
        (top / "etc/passwd").unlink(missing_ok=True)
        (top / "etc/passwd").symlink_to(target)
        with pytest.raises(NotFoundError):
            find(layers, "evil")
    (top / "etc/passwd").unlink()
    (top / "etc/passwd").symlink_to("/../users/list")
    (base / "users").symlink_to("etc")
    (base / "etc/list").write_text("inside:x:3:4::/:/\n")
    assert find(layers, "inside").user == User(3, 4)


def test_links_to_folders_outside_are_not_followed(layers, tmp_path):
    _, top = layers
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/passwd").write_text("evil:x:0:0::/:/\n")
    (top / "etc").rmdir()
    (top / "etc").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotFoundError):
        find(layers, "evil")


def test_a_loop_of_links_ends(layers):
    _, top = layers
    (top / "etc/passwd").symlink_to("passwd")
    with pytest.raises(ContainerError, match="form a loop"):
        find(layers, "root")


def test_what_is_no_regular_file_is_not_read(layers):
    _, top = layers
    os.mkfifo(top / "etc/passwd")
    with pytest.raises(ContainerError, match="no regular file"):
        find(layers, "root")


def test_a_file_of_absurd_size_is_not_read(layers):
    _, top = layers
    (top / "etc/passwd").touch()
    os.truncate(top / "etc/passwd", 1 << 40)
    with pytest.raises(ContainerError, match="too many"):
        find(layers, "root")


def whiteout(path):
    try:
        os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
    except PermissionError:
        pytest.skip("whiteouts cannot be made here (Linux 5.8, or root)")


def test_a_whiteout_hides_the_file(layers):
    _, top = layers
    whiteout(top / "etc/passwd")
    assert read_merged([str(layer) for layer in layers], "/etc/passwd") is None


def test_a_whiteout_hides_the_folder(layers):
    _, top = layers
    (top / "etc").rmdir()
    whiteout(top / "etc")
    assert read_merged([str(layer) for layer in layers], "/etc/passwd") is None


def test_an_opaque_folder_hides_what_is_below(layers):
    _, top = layers
    try:
        os.setxattr(top / "etc", "trusted.overlay.opaque", b"y")
    except OSError:
        pytest.skip("trusted attributes cannot be set here (root)")
    assert read_merged([str(layer) for layer in layers], "/etc/passwd") is None


def test_a_file_over_a_folder_hides_it(layers):
    _, top = layers
    (top / "etc").rmdir()
    (top / "etc").write_text("a file")
    assert read_merged([str(layer) for layer in layers], "/etc/passwd") is None


def test_a_folder_is_no_file(layers):
    with pytest.raises(ContainerError, match="is a folder"):
        read_merged([str(layer) for layer in layers], "/etc")
