"""Copies between the host and containers, hostile ones too."""

import io
import os
import signal
import stat
import tarfile
from contextlib import suppress

import pytest

from tests.support.copying import cp, tar_info, tar_of
from tests.support.drift import container
from tests.support.manifests import HEAD
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture
def box(bayplan):
    """A running container ``p``; its shell is at /bin/sh."""
    bayplan.apply(HEAD)
    bayplan("run", "-d", "--name", "p", "--network", "none", "test/box", "sleep", "98769")
    yield bayplan
    bayplan("rm", "-f", "p")
    bayplan.delete("test")


def sh(bayplan, script: str) -> str:
    return bayplan("exec", "p", "sh", "-c", script).stdout


def test_files_and_folders_go_both_ways(box, tmp_path):
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/deep").write_text("deep")
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o751)
    (tree / "link").symlink_to("sub/deep")
    os.utime(tree / "run", (1, 2))
    box("cp", str(tree), "p:/new")
    assert sh(box, "cat /new/link; stat -c %a:%u:%Y /new/run") == "deep751:0:2\n"
    # Into a folder that is there; and what is in it.
    box("cp", str(tree / "run"), "p:/new/sub")
    box("cp", f"{tree}/.", "p:/new/sub/")
    assert sh(box, "ls /new/sub /new/sub/sub") == (
        "/new/sub:\ndeep\nlink\nrun\nsub\n\n/new/sub/sub:\ndeep\n"
    )
    back = tmp_path / "back"
    box("cp", "p:/new", str(back))
    assert sorted(p.name for p in back.iterdir()) == ["link", "run", "sub"]
    assert (back / "sub/sub/deep").read_text() == "deep"
    assert (back / "link").readlink().as_posix() == "sub/deep"
    assert stat.S_IMODE((back / "run").stat().st_mode) == 0o751
    box("cp", "p:/new/run", str(tmp_path / "other"))
    assert (tmp_path / "other").read_text() == "#!/bin/sh\n"
    box("cp", "p:new/.", str(back))
    assert not (back / "new").exists()


def test_what_is_wrong_is_told(box, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    for words, said in [
        (("p:/nope", str(tmp_path)), "no /nope in the container"),
        ((str(file), "p:/nope/"), "no folder /nope/ in the container"),
        ((str(file), "p:/nope/x"), "no /nope in the container"),
        ((str(tmp_path / "gone"), "p:/"), "gone"),
        (("p:/bin", str(tmp_path / "no/way")), "/no: No such file"),
    ]:
        assert said in box("cp", *words, code=1).stderr
    # A link without a meaning out here: what it was to become is not to blame.
    assert "self: No such file" in box("cp", "p:/proc/self", f"{tmp_path}/out", code=1).stderr
    box("cp", "p:/proc/1/environ", f"{tmp_path}/out")
    assert "PATH=" in (tmp_path / "out").read_text()
    assert "exactly one" in box("cp", "p:/a", "p:/b", code=64).stderr
    assert "exactly one" in box("cp", "a", "./b:c", code=64).stderr
    assert "no container q" in box("cp", "q:/a", "b", code=1).stderr


def test_what_the_system_refuses_is_no_bug_of_ours(box, tmp_path):
    (tmp_path / "file").write_text("x")
    said = box("cp", str(tmp_path / "file"), f"p:/{'x' * 256}", code=1).stderr
    assert "xxx: File name too long" in said
    assert ".bayplan" not in sh(box, "ls -a /")
    file = f"{tmp_path}/file"
    run = ("run", "-d", "--name", "v", "--network", "none", "-v", f"{file}:/file")
    box(*run, "test/box", "sleep", "98769")
    assert "file: it is mounted there" in box("cp", file, "v:/", code=1).stderr
    box("rm", "-f", "v")


def test_a_folder_is_not_copied_into_itself_by_way_of_a_volume(box, tmp_path):
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    run = ("run", "-d", "--name", "v", "--network", "none", "-v", f"{data}:/mine/data")
    box(*run, "test/box", "sleep", "98769")
    for words in [
        (str(data), "v:/mine/data"),
        (str(tmp_path), "v:/mine/data/sub"),
        ("v:/mine", str(data / "sub")),
        ("v:/mine/data/.", str(data)),
    ]:
        assert "into itself" in box("cp", *words, code=1).stderr
    assert [path.name for path in data.rglob("*")] == ["sub"]
    box("rm", "-f", "v")


def test_links_of_a_container_lead_nowhere_else(box, tmp_path):
    secret, mine = tmp_path / "secret", tmp_path / "mine"
    secret.write_text("of the host")
    mine.write_text("mine")
    sh(box, f"mkdir /a; ln -s {secret} /a/abs; ln -s ../../../..{tmp_path} /a/up; ln -s / /a/root")
    assert "no " in box("cp", "p:/a/up/secret", str(tmp_path / "got"), code=1).stderr
    box("cp", "p:/a/abs", str(tmp_path / "got"))
    assert (tmp_path / "got").is_symlink()
    # A link in the place of the target is replaced, what it names is left alone.
    box("cp", str(mine), "p:/a/abs")
    assert secret.read_text() == "of the host"
    assert sh(box, "cat /a/abs") == "mine"
    box("cp", str(mine), "p:/a/root/there")
    assert sh(box, "cat /there") == "mine"
    assert not os.path.exists("/there")
    # Inside the copied tree, too: what the host has there is a folder of ours.
    (tmp_path / "out").mkdir()
    box("cp", "p:/a/.", str(tmp_path / "out"))
    assert (tmp_path / "out/root").is_symlink()
    assert "sub" not in os.listdir(tmp_path)


def test_a_race_of_links_leads_nowhere_else(box, tmp_path):
    """Folder and link take turns at one name while it is copied from and to."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("of the host")
    script = (
        f"mkdir -p /d/x /k; ln -s {outside} /k/x; echo in > /d/x/secret; "
        "while [ ! -e /stop ]; do mv /d/x /d/y; mv /k/x /d/x; mv /d/x /k/x; mv /d/y /d/x; done"
    )
    (tmp_path / "put").write_text("put")
    with box.start("exec", "p", "sh", "-c", script):
        try:
            for number in range(25):
                got = tmp_path / f"got{number}"
                box("cp", "p:/d/x/secret", str(got), code=None)
                assert not got.exists() or got.read_text() == "in\n"
                box("cp", str(tmp_path / "put"), "p:/d/x/put", code=None)
        finally:
            sh(box, "touch /stop")
    assert os.listdir(outside) == ["secret"]


def test_set_id_bits_devices_and_owners_need_a_word(box, tmp_path):
    sh(box, "mkdir /a; cp /bin/busybox /a/suid; chown 7:8 /a/suid; chmod 4755 /a/suid; mkfifo /a/f")
    inside = f"/proc/{container(box, 'p')['pid']}/root"
    os.mknod(f"{inside}/a/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    said = box("cp", "p:/a", str(tmp_path / "plain")).stderr
    assert "left out: plain/null is a device" in said
    found = (tmp_path / "plain/suid").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o755, 0, 0)
    assert stat.S_ISFIFO((tmp_path / "plain/f").lstat().st_mode)
    assert not (tmp_path / "plain/null").exists()
    box("cp", "-a", "p:/a", str(tmp_path / "whole"))
    found = (tmp_path / "whole/suid").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o4755, 7, 8)
    assert stat.S_ISCHR((tmp_path / "whole/null").lstat().st_mode)


def test_nor_do_they_get_into_a_container_without_it(box, tmp_path):
    """What belonged to a user would be a program of root's with it."""
    tree = tmp_path / "tree"
    (tree / "group").mkdir(parents=True)
    for path, mode in ((tree / "own", 0o7755), (tree / "group", 0o3775)):
        path.touch()
        os.chown(path, 1000, 1000)
        path.chmod(mode)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(tree, "tree")
    look = "stat -c '%A %u %g' own tree/own tree/group in/tree/own in/tree/group"
    # The sticky bit as with cp -r: of folders.
    file, folder = "-rwxr-xr-x 0 0", "drwxrwxr-t 0 0"
    kept_file, kept_folder = "-rwsr-sr-t 1000 1000", "drwxrwsr-t 1000 1000"
    for options, expected in (
        ((), [file, file, folder, file, folder]),
        (("-a",), [kept_file, kept_file, kept_folder, kept_file, kept_folder]),
    ):
        sh(box, "rm -rf /w; mkdir -p /w/in; chmod g+s /w /w/in; chgrp 9 /w /w/in")
        box("cp", *options, str(tree / "own"), "p:/w/own")
        box("cp", *options, str(tree), "p:/w/tree")
        cp(box, *options, "-", "p:/w/in", stdin=packed.getvalue())
        assert sh(box, f"cd /w; {look}").splitlines() == expected


def test_what_is_in_a_folder_goes_to_a_new_one(box, tmp_path):
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").touch()
    os.chown(tree, 7, 8)
    tree.chmod(0o750)
    os.utime(tree, (1, 2))
    for target in ("new", "slash/"):
        box("cp", f"{tree}/.", f"p:/{target}")
        assert sh(box, f"ls /{target}; stat -c '%a %u %Y' /{target}") == "file\nsub\n750 0 2\n"
    box("cp", "-a", f"{tree}/.", "p:/whole")
    assert sh(box, "stat -c '%a %u' /whole") == "750 7\n"
    assert "no /none in the container" in box("cp", f"{tree}/.", "p:/none/new", code=1).stderr
    sh(box, f"echo file > /file; ln -s {tmp_path}/outside /dangling")
    for target in ("file", "file/", "dangling"):
        said = box("cp", f"{tree}/.", f"p:/{target}", code=1).stderr
        assert f"{target.rstrip('/')}: Not a directory" in said
    assert sh(box, "cat /file") == "file\n"
    assert not (tmp_path / "outside").exists()
    # Out of it in the same way.
    for target in ("new", "slash/"):
        box("cp", "-a", "p:/whole/.", f"{tmp_path}/{target}")
        found = (tmp_path / target).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_mtime) == (0o750, 7, 2)
        assert sorted(os.listdir(tmp_path / target)) == ["file", "sub"]


def test_a_link_with_a_slash_at_its_end_is_what_it_leads_to(box, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/secret").write_text("of the host")
    (tmp_path / "link").symlink_to("real")
    sh(box, "mkdir -p /w/d; echo in > /w/d/f; ln -s /w/d /w/link; ln -s f /w/d/file")
    sh(box, f"ln -s {tmp_path}/real /w/out; ln -s ../../../../../..{tmp_path}/real /w/up")
    box("cp", "p:/w/link/", str(tmp_path / "got"))
    assert not (tmp_path / "got").is_symlink()
    assert (tmp_path / "got/f").read_text() == "in\n"
    box("cp", "p:/w/link/", f"{tmp_path}/got/")
    assert (tmp_path / "got/link/f").read_text() == "in\n"
    # Inside the container only; and a file is no folder.
    for path in ("out", "up"):
        said = box("cp", f"p:/w/{path}/", str(tmp_path / "none"), code=1).stderr
        assert f"no /w/{path}/ in the container" in said
    for path in ("d/f", "d/file"):
        assert "Not a directory" in box("cp", f"p:/w/{path}/", f"{tmp_path}/none", code=1).stderr
    assert not (tmp_path / "none").exists()
    # Out of the host in the same way.
    box("cp", f"{tmp_path}/link/", "p:/w/d")
    box("cp", f"{tmp_path}/link/", "p:/w/new")
    for path in ("/w/d/link", "/w/new"):
        assert sh(box, f"cat {path}/secret; stat -c %F {path}") == "of the hostdirectory\n"
    said = box("cp", f"{tmp_path}/real/secret/", "p:/w/none", code=1).stderr
    assert "secret/: Not a directory" in said
    # Nor does what is asked for take the place of a link.
    assert "link: Not a directory" in box("cp", f"{tmp_path}/link/", "p:/w", code=1).stderr


def test_what_is_no_file_is_not_replaced_by_one(box, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/null").write_text("x")
    inside = f"/proc/{container(box, 'p')['pid']}/root"
    sh(box, "mkdir /w; mkfifo /w/fifo; ln -s fifo /w/link")
    os.mknod(f"{inside}/w/socket", 0o600 | stat.S_IFSOCK)
    before = sh(box, "stat -c '%F %i' /dev/null /w/fifo /w/socket")
    for path, what in (("dev/null", "device"), ("w/fifo", "FIFO"), ("w/socket", "socket")):
        said = box("cp", str(tmp_path / "file"), f"p:/{path}", code=1).stderr
        assert f"cannot replace {os.path.basename(path)}: it is a {what}" in said
        assert "remove it first" in said
    assert "it is a device" in box("cp", f"{tmp_path}/tree/.", "p:/dev", code=1).stderr
    link = tar_of(("null", {"type": tarfile.SYMTYPE, "linkname": "zero"}, b""))
    for tar in (tar_of(("null", {}, b"x")), link):
        assert b"it is a device" in cp(box, "-", "p:/dev", stdin=tar, code=1).stderr
    assert sh(box, "stat -c '%F %i' /dev/null /w/fifo /w/socket") == before
    assert ".bayplan" not in sh(box, "ls -a /dev /w")
    # One of its kind takes its place; so does a file that of a link.
    os.mkfifo(tmp_path / "fifo")
    box("cp", str(tmp_path / "fifo"), "p:/w/fifo")
    os.link(tmp_path / "fifo", tmp_path / "again")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(tmp_path / "again", "again")
        tar.addfile(tar_info("fifo", type=tarfile.LNKTYPE, linkname="again"))
    cp(box, "-", "p:/w", stdin=packed.getvalue())
    assert sh(box, "stat -c %F:%h /w/fifo") == "fifo:2\n"
    box("cp", str(tmp_path / "file"), "p:/w/link")
    assert sh(box, "cat /w/link; stat -c %F /w/fifo") == "xfifo\n"
    # On the host, too.
    assert "it is a FIFO" in box("cp", "p:/w/link", str(tmp_path / "fifo"), code=1).stderr


def test_the_whole_of_a_running_one_without_what_is_the_kernels(box, tmp_path):
    said = box("cp", "p:/", str(tmp_path / "all")).stderr
    assert (tmp_path / "all/bin/busybox").exists()
    assert os.listdir(tmp_path / "all/proc") == os.listdir(tmp_path / "all/sys") == []
    assert "proc shows what the kernel has" in said
    done = cp(box, "p:/", "-")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"bin", "proc", "sys"} <= names
    assert not any(name.startswith(("proc/", "sys/")) for name in names)
    box("cp", "p:/proc/1/status", str(tmp_path / "status"))
    assert "Name:" in (tmp_path / "status").read_text()


def test_out_of_one_that_has_ended(box, tmp_path):
    (tmp_path / "vol").mkdir()
    box(
        *("run", "--name", "q", "--network", "none", "-v", f"{tmp_path}/vol:/vol"),
        *("-v", f"{tmp_path}/vol:/srv/vol", "test/box", "sh", "-c"),
        "echo made > /made; rm /bin/cat; ln -s vol /link; ln -s srv/vol /other; echo s > /srv/s",
    )
    assert container(box, "q")["state"] == "exited"
    box("cp", "q:/made", str(tmp_path))
    assert (tmp_path / "made").read_text() == "made\n"
    box("cp", "q:/usr/bin", str(tmp_path / "bin"))
    assert "cat" not in os.listdir(tmp_path / "bin")
    assert "sh" in os.listdir(tmp_path / "bin")
    away = "is mounted while it runs; the container has ended"
    inner = (
        *("/vol/x", "vol", "/link/x", "/other/.", "/other/", "/srv/../other/x", "/srv/vol"),
        "/etc/hosts",
    )
    for path in inner:
        said = box("cp", f"q:{path}", str(tmp_path / "v"), code=1).stderr
        assert f"cannot copy {path}: that {away}" in said
    box("cp", "q:/other", str(tmp_path))
    assert os.readlink(tmp_path / "other") == "srv/vol"
    # As it is not there, nor is what the image has in its place.
    said = box("cp", "q:/srv", str(tmp_path / "srv")).stderr
    assert f"left out: srv/vol {away}" in said
    assert os.listdir(tmp_path / "srv") == ["s"]
    # Files of ours are no volumes.
    said = box("cp", "q:/etc", str(tmp_path / "etc")).stderr
    assert f"left out: etc/hosts {away}" in said
    assert "volume" not in said
    box("rm", "q")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
)
def test_who_leaves_in_the_middle_leaves_at_once_and_nothing_behind(box, tmp_path, number, code):
    make = "busybox dd if=/dev/zero of=/big bs=1 count=1 seek=2G"
    sh(box, make)
    box("run", "--name", "q", "--network", "none", "test/box", "sh", "-c", make)
    for name in ("p", "q"):
        with box.start("cp", f"{name}:/big", str(tmp_path)) as copying:
            wait_until(lambda pid=copying.pid: is_writing_below(tmp_path, pid))
            copying.send_signal(number)
            said = copying.communicate(timeout=30)
        assert os.listdir(tmp_path) == []
        assert copying.returncode == code, said
    box("rm", "q")


def is_writing_below(folder, pid: int) -> bool:
    """Tell whether the process has a file in *folder* open, also one without a name."""
    found = False
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            found |= os.readlink(f"/proc/{pid}/fd/{fd}").startswith(f"{folder}/")
    return found


def test_into_one_that_does_not_run(box, tmp_path):
    (tmp_path / "new").write_text("new\n")
    (tmp_path / "tree/vol").mkdir(parents=True)
    (tmp_path / "tree/vol/lost").write_text("")
    box(
        *("run", "--name", "q", "--network", "none", "-v", f"{tmp_path}:/vol:ro", "test/box"),
        *("sh", "-c", "cat /new || echo old > /new"),
    )
    box("cp", str(tmp_path / "new"), "q:/new")
    said = box("cp", f"{tmp_path}/tree/.", "q:/").stderr
    assert "left out: vol is mounted while it runs" in said
    tar = tar_of(("etc/hosts", {}, b""), ("vol/x", {}, b""), ("usr/made", {}, b"made"))
    said = cp(box, "-", "q:/", stdin=tar).stderr.decode()
    assert said.count("is mounted while it runs") == 2
    with tarfile.open(fileobj=io.BytesIO(cp(box, "q:/usr/made", "-").stdout)) as out:
        assert out.getnames() == ["made"]
    assert "that is mounted" in box("cp", str(tmp_path / "new"), "q:/vol/new", code=1).stderr
    cp(box, "-", "q:/", stdin=tar_of(("link", {"type": tarfile.SYMTYPE, "linkname": "vol"}, b"")))
    for source, path in (("new", "link"), ("new", "link/"), ("tree/.", "link")):
        said = box("cp", f"{tmp_path}/{source}", f"q:/{path}", code=1).stderr
        assert f"cannot copy /{path}: that is mounted" in said
    box("start", "q")
    box("wait", "q", code=0)
    assert box("logs", "q").stdout.endswith("new\n")
    box("rm", "q")
