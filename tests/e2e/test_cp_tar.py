"""Tars that `bayplan cp` makes and takes, hostile ones too."""

import gzip
import io
import tarfile

import pytest

from tests.support.copying import cp, tar_of
from tests.support.manifests import HEAD

pytestmark = pytest.mark.e2e


@pytest.fixture
def box(bayplan):
    """A running container ``p``."""
    bayplan.apply(HEAD)
    bayplan("run", "-d", "--name", "p", "--network", "none", "test/box", "sleep", "98769")
    yield bayplan
    bayplan("rm", "-f", "p")
    bayplan.delete("test")


def sh(bayplan, script: str) -> str:
    return bayplan("exec", "p", "sh", "-c", script).stdout


def test_a_tar_goes_out_and_in_again(box, tmp_path):
    sh(box, "mkdir -p /a/d; echo one > /a/f; ln /a/f /a/d/g; ln -s d /a/l; mkfifo /a/p; touch /a/e")
    sh(box, "chmod 4751 /a/f; chmod 700 /a/d; touch -d @7 /a/e /a/d")
    with tarfile.open(fileobj=io.BytesIO(cp(box, "p:/a", "-").stdout)) as tar:
        kept = [m.mode for m in tar.getmembers() if m.isreg() and m.name in ("a/f", "a/d/g")]
        assert kept == [0o751], "no set-user-id bit without -a"
    told = cp(box, "-a", "p:/a", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(told)) as tar:
        assert sorted(tar.getnames()) == ["a", "a/d", "a/d/g", "a/e", "a/f", "a/l", "a/p"]
        assert tar.getmember("a/f").islnk() or tar.getmember("a/d/g").islnk()
    sh(box, "mkdir /to; ln -s /to /link")
    cp(box, "-", "p:/link", stdin=gzip.compress(told))
    look = "cd /to/a; cat f; stat -c '%n %A %u %Y' e d f; readlink l; stat -c %h d/g"
    said = sh(box, look).split("\n")
    assert said[:4] == ["one", "e -rw-r--r-- 0 7", "d drwx------ 0 7", said[3]]
    assert said[3].startswith("f -rwxr-x--x 0")
    assert said[4:6] == ["d", "2"]
    assert b"cut short" in cp(box, "-", "p:/to", stdin=told[:700], code=1).stderr
    assert b"no /none" in cp(box, "-", "p:/none", stdin=told, code=1).stderr
    for path, names in (
        ("/a/d/.", [".", "./g"]),
        ("/to/a/l/.", [".", "./g"]),
        ("/a/l/", ["l", "l/g"]),
    ):
        with tarfile.open(fileobj=io.BytesIO(cp(box, f"p:{path}", "-").stdout)) as tar:
            assert tar.getnames() == names
    cp(box, "-", "p:/to", stdin=cp(box, "p:/a/d/.", "-").stdout)
    assert sh(box, "cat /to/g") == "one\n"
    for path in ("/a/e/", "/a/e/.", "/none/", "/none/."):
        assert b"descriptor" not in cp(box, f"p:{path}", "-", code=1).stderr


def test_a_hostile_tar_stays_where_it_is_put(box, tmp_path):
    sh(box, "mkdir /to; ln -s / /to/up; echo old > /victim; ln -s /victim /to/swap")
    (tmp_path / "of-host").mkdir()
    sh(box, f"mkdir /only-inside; ln -s /only-inside /to/in; ln -s {tmp_path}/of-host /to/out")
    outside = tmp_path / "outside"
    tar = tar_of(
        ("up/from-link", {}, b"1"),
        (f"up{outside}", {}, b"2"),
        ("swap", {}, b"new"),
        ("abs", {"type": tarfile.SYMTYPE, "linkname": str(tmp_path)}, b""),
        ("abs/written", {}, b"3"),
        ("in", {"type": tarfile.DIRTYPE, "mode": 0o700}, b""),
        ("in/file", {}, b"4"),
        ("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, b""),
    )
    said = cp(box, "-", "p:/to", stdin=tar).stderr
    assert b"left out: null is a device" in said
    assert not outside.exists()
    assert not (tmp_path / "written").exists()
    # Links lead, within the container; what takes the place of one is not written through it.
    assert sh(box, "cat /from-link /victim /to/swap /only-inside/file") == "1old\nnew4"
    # A folder that is there on the host only is none.
    folder = tar_of(("out", {"type": tarfile.DIRTYPE}, b""))
    assert b"out/: File exists" in cp(box, "-", "p:/to", stdin=folder, code=1).stderr
    for name, link in (("../x", ""), ("ok", "../../etc/passwd")):
        kind = {"type": tarfile.LNKTYPE, "linkname": link} if link else {}
        refused = cp(box, "-", "p:/to", stdin=tar_of((name, kind, b"")), code=1).stderr
        assert b"would leave its root" in refused
