"""Images from programs of this host: what is taken, and what is said about what is not there."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import sys
from pathlib import Path

import pytest

from runtime.errors import ImageError
from runtime.image.elf import read_elf
from runtime.image.host import collect, find_program
from runtime.image.hosttree import HostTree, Made
from runtime.image.inputkey import host_key
from runtime.image.mutate import Overrides
from runtime.image.store import ImageStore
from runtime.image.tarentry import Kind
from runtime.root import Root


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(Root.at(tmp_path / "world"))


def unpacked(store: ImageStore, image: str) -> Path:
    (folder,) = store.layers(image)
    return Path(folder)


def script(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.kernel
def test_program_comes_with_loader_libraries_and_links(store: ImageStore) -> None:
    image = store.build_host(("ls",))
    top = unpacked(store, image)
    program = shutil.which("ls", path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert program is not None
    elf = read_elf(os.path.realpath(program))
    assert elf is not None
    assert elf.interpreter is not None
    assert inside(top, elf.interpreter).is_file()
    found = {path.name for path in top.rglob("*.so*")}
    assert set(elf.needed) <= found
    assert "libc.so.6" in found
    for name in ("bin", "lib", "lib64", "sbin"):
        if os.path.islink(f"/{name}"):
            assert os.readlink(top / name) == os.readlink(f"/{name}")
    assert store.config(image).command == (find_program("ls"),)
    assert "/usr/bin" in store.config(image).env["PATH"].split(":")


@pytest.mark.kernel
def test_root_has_what_programs_expect(store: ImageStore) -> None:
    top = unpacked(store, store.build_host(("true",)))
    users = (top / "etc/passwd").read_text().splitlines()
    assert [line.split(":")[:4] for line in users] == [
        ["root", "x", "0", "0"],
        ["nobody", "x", "65534", "65534"],
    ]
    assert (top / "etc/group").read_text().startswith("root:x:0:\n")
    assert stat.S_IMODE((top / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE((top / "root").stat().st_mode) == 0o700
    assert "files dns" in (top / "etc/nsswitch.conf").read_text()
    for name in ("proc", "sys", "dev", "run", "var/tmp"):
        assert (top / name).is_dir()


def test_same_request_gives_the_same_image(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/b").write_text("b")
    (tmp_path / "data/a").write_text("a")
    files = (str(tmp_path / "data"),)
    first = store.build_host(("true",), files)
    os.utime(tmp_path / "data", (1, 1))
    assert store.build_host(("true",), files) == first
    (tmp_path / "data/a").write_text("c")
    assert store.build_host(("true",), files) != first


@pytest.mark.kernel
def test_python_brings_its_library_but_not_its_tests(store: ImageStore) -> None:
    top = unpacked(store, store.build_host(("/usr/bin/python3",)))
    assert os.readlink(top / "usr/bin/python3").startswith("python3.")
    (library,) = (top / "usr/lib").glob("python3.*/http/server.py")
    names = {path.name for path in library.parents[1].rglob("*")}
    assert any(name.startswith("_ssl.") for name in names)
    assert not names & {"idlelib", "test", "tests", "site-packages"}
    assert not [name for name in names if name.startswith("config-")]
    assert {path.name for path in top.rglob("libssl.so*")}


@pytest.mark.kernel
def test_script_brings_its_interpreter(store: ImageStore, tmp_path: Path) -> None:
    path = script(tmp_path / "bin/hello", "#!/bin/sh -e\necho hello\n")
    image = store.build_host((path,))
    top = unpacked(store, image)
    assert inside(top, path).read_text().startswith("#!/bin/sh")
    assert inside(top, "/bin/sh").is_file()
    assert store.config(image).command == (path,)
    assert str(tmp_path / "bin") in store.config(image).env["PATH"].split(":")


def test_script_through_env_brings_both(tmp_path: Path) -> None:
    path = script(tmp_path / "tool", "#!/usr/bin/env -S A=1 bash -u\n")
    tree, commands = collect((path,))
    assert commands == (path,)
    assert {os.path.realpath("/usr/bin/env"), os.path.realpath("/bin/bash")} <= set(tree.files)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo no first line\n", "neither a program nor a script"),
        ("#!\n", "neither a program nor a script"),
        ("#!/no/such/interpreter\n", "program /no/such/interpreter is not on this host"),
        ("#!/usr/bin/env nosuchthing\n", "program nosuchthing is not on this host"),
        ("#!{self}\n", "interpreters of interpreters"),
    ],
)
def test_script_without_a_usable_interpreter(text: str, reason: str, tmp_path: Path) -> None:
    path = script(tmp_path / "tool", text.format(self=tmp_path / "tool"))
    with pytest.raises(ImageError, match=reason):
        collect((path,))


def test_missing_program_says_where_was_looked_and_what_is_close() -> None:
    with pytest.raises(
        ImageError, match=r"bassh is not on this host \(looked in .*/usr/bin.*bash\?"
    ):
        collect(("bassh",))
    with pytest.raises(ImageError, match=r"program /opt/none is not on this host"):
        collect(("/opt/none",))
    with pytest.raises(ImageError, match=r"/etc/passwd is not executable"):
        collect(("/etc/passwd",))
    with pytest.raises(ImageError, match=r"'a/b' is neither a name nor an absolute path"):
        collect(("a/b",))
    with pytest.raises(ImageError, match="neither programs nor files"):
        collect(())


def test_programs_outside_the_system_are_found_by_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "mine/onlyhere", "#!/bin/sh\n")
    script(tmp_path / "mine/sh", "#!/bin/bash\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/mine:relative:")
    assert find_program("onlyhere") == f"{tmp_path}/mine/onlyhere"
    assert not find_program("sh").startswith(str(tmp_path))


@pytest.mark.kernel
def test_files_are_copied_with_parents_modes_and_links(store: ImageStore, tmp_path: Path) -> None:
    site = tmp_path / "srv/site"
    (site / "deep/er").mkdir(parents=True)
    (site / "deep/er/page").write_text("page")
    (site / "deep").chmod(0o750)
    (site / "secret").write_text("s")
    (site / "secret").chmod(0o600)
    (site / "link").symlink_to("deep/er")
    os.link(site / "secret", site / "twin")
    os.mkfifo(site / "pipe")
    os.utime(site / "secret", (1_000_000_000, 1_000_000_000))
    top = inside(unpacked(store, store.build_host((), (str(site),))), str(site))
    assert (top / "deep/er/page").read_text() == "page"
    assert stat.S_IMODE((top / "deep").stat().st_mode) == 0o750
    assert stat.S_IMODE((top / "secret").stat().st_mode) == 0o600
    assert (top / "secret").stat().st_mtime == 1_000_000_000
    assert os.readlink(top / "link") == "deep/er"
    assert (top / "twin").samefile(top / "secret")
    assert not (top / "pipe").exists()


@pytest.mark.kernel
def test_files_bring_the_libraries_of_programs_among_them(
    store: ImageStore, tmp_path: Path
) -> None:
    shutil.copy(os.path.realpath(shutil.which("ls") or "/bin/ls"), tmp_path / "app")
    top = unpacked(store, store.build_host((), (str(tmp_path / "app"),)))
    assert list(top.rglob("libc.so.6"))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("relative", "not an absolute path"),
        ("/", "cannot be copied"),
        ("/proc/", "cannot be copied"),
        ("/no/such", "/no: No such file or directory"),
        ("/dev/null", "neither file, folder nor link"),
    ],
)
def test_files_that_cannot_be_copied(path: str, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        collect((), (path,))


@pytest.mark.kernel
def test_own_user_names_are_kept(store: ImageStore) -> None:
    top = unpacked(store, store.build_host(("true",), ("/etc/passwd",)))
    assert (top / "etc/passwd").read_bytes() == Path("/etc/passwd").read_bytes()


def test_links_go_in_circles(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ImageError, match="too many symbolic links"):
        HostTree().add(str(tmp_path / "a"))


def test_every_link_on_the_way_is_taken(tmp_path: Path) -> None:
    (tmp_path / "real/bin").mkdir(parents=True)
    (tmp_path / "real/bin/tool-1").touch()
    (tmp_path / "real/bin/tool").symlink_to("tool-1")
    (tmp_path / "short").symlink_to(tmp_path / "real")
    (tmp_path / "up").symlink_to("real/../short")
    tree = HostTree()
    assert tree.add(f"{tmp_path}/up/./bin/tool") == f"{tmp_path}/real/bin/tool-1"
    assert set(tree.links) == {f"{tmp_path}/{name}" for name in ("up", "short", "real/bin/tool")}


def test_made_files_go_where_links_lead() -> None:
    tree = HostTree()
    tree.links["/bin"] = "usr/bin"
    tree.make("/bin/sh", Made(Kind.SYMLINK, target="busybox"))
    tree.make("/usr/bin/sh", Made(Kind.SYMLINK, target="other"))
    assert tree.made == {"/usr/bin/sh": Made(Kind.SYMLINK, target="busybox")}


def test_static_and_damaged_elf_files(tmp_path: Path) -> None:
    assert read_elf("/etc/passwd") is None
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 0, 0, 0, 0)
    (tmp_path / "static").write_bytes(ident + header)
    elf = read_elf(str(tmp_path / "static"))
    assert elf is not None
    assert (elf.interpreter, elf.needed) == (None, ())
    good = Path(os.path.realpath(sys.executable)).read_bytes()[:4096]
    for cut in (20, 63, 200, 4096):
        (tmp_path / "cut").write_bytes(good[:cut])
        with pytest.raises(ImageError, match="damaged ELF"):
            read_elf(str(tmp_path / "cut"))


def test_program_with_a_strange_interpreter_is_not_run(tmp_path: Path) -> None:
    shutil.copy("/bin/ls", tmp_path / "ls")
    data = (tmp_path / "ls").read_bytes()
    elf = read_elf("/bin/ls")
    assert elf is not None
    assert elf.interpreter is not None
    old = elf.interpreter.encode()
    (tmp_path / "ls").write_bytes(data.replace(old, b"/bin/echo".ljust(len(old), b"\0"), 1))
    with pytest.raises(ImageError, match="is not a dynamic loader"):
        collect((str(tmp_path / "ls"),))


def test_key_is_the_request_and_not_the_host(tmp_path: Path) -> None:
    path = script(tmp_path / "tool", "#!/bin/sh\n")
    key = host_key((path,))
    assert host_key((path,), ("/etc/passwd",)) != key
    assert host_key((path,), config=Overrides(user="nobody")) != key
    assert host_key((path,), config=Overrides()) == key
    fresh = host_key((path,), refresh=True)
    assert fresh != key
    script(tmp_path / "tool", "#!/bin/sh\necho newer\n")
    assert host_key((path,)) == key
    assert host_key((path,), refresh=True) != fresh
    assert host_key(("/no/such",)) != key


def inside(top: Path, path: str) -> Path:
    """Return *path* as a container with the root *top* sees it."""
    done = top
    todo = [part for part in path.split("/") if part]
    while todo:
        part = todo.pop(0)
        if part == "..":
            done = done.parent
            continue
        here = done / part
        if not here.is_symlink():
            done = here
            continue
        target = os.readlink(here)
        todo = [item for item in target.split("/") if item] + todo
        done = top if target.startswith("/") else done
    return done
