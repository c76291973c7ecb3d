"""Images made for real: programs of this host that run in them, Debian roots, skopeo's opinion."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from runtime.errors import ImageError
from runtime.image.aptsource import resolve_suite
from runtime.image.inputkey import debian_key
from runtime.image.mutate import Overrides
from runtime.image.store import ImageStore
from runtime.root import Root

pytestmark = pytest.mark.kernel


@pytest.fixture
def store(world: Path) -> ImageStore:
    return ImageStore(Root.at(world))


def run_in(top: str, *command: str, stdin: bytes = b"") -> str:
    """Run *command* with *top* as its root, and nothing else of this host."""
    done = subprocess.run(
        ["chroot", top, *command],
        input=stdin,
        capture_output=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_busybox_is_a_whole_userland(store: ImageStore) -> None:
    (top,) = store.layers(store.build_host(("busybox",)))
    assert (
        run_in(top, "sh", "-c", "echo $((6*7)); id -un nobody; ls /bin/sh")
        == "42\nnobody\n/bin/sh\n"
    )


def test_python_serves_http(store: ImageStore) -> None:
    (top,) = store.layers(store.build_host(("python3", "busybox")))
    # Both ends in one process, so that nothing of the host but its loopback takes part.
    program = (
        "import http.server, threading, urllib.request, ssl, sqlite3, hashlib, ctypes, decimal\n"
        "s = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n"
        "threading.Thread(target=s.serve_forever, daemon=True).start()\n"
        "print(urllib.request.urlopen(f'http://127.0.0.1:{s.server_port}/etc/passwd').status)\n"
    )
    assert run_in(top, "python3", "-c", program) == "200\n"


def test_scripts_and_dynamic_programs_run(store: ImageStore, world: Path) -> None:
    script = world / "greet"
    script.write_text("#!/usr/bin/env bash\nls / | grep -c etc\n")
    script.chmod(0o755)
    (top,) = store.layers(store.build_host((str(script), "ls", "grep")))
    assert run_in(top, str(script)) == "1\n"


@pytest.mark.skipif(shutil.which("perl") is None, reason="perl is not installed")
def test_perl_finds_its_modules(store: ImageStore) -> None:
    (top,) = store.layers(store.build_host(("perl",)))
    Path(top, "dev/null").touch()  # no device here; perl only wants something to read
    program = "use POSIX; use List::Util qw(sum); print sum(1, 2, floor(3.5))"
    assert run_in(top, "/usr/bin/perl", "-e", program) == "6"


@pytest.fixture
def mmdebstrap() -> None:
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed: apt-get install mmdebstrap")


@pytest.mark.download
@pytest.mark.usefixtures("mmdebstrap")
def test_debian_packages_the_same_image_twice_the_second_time_from_the_cache(
    store: ImageStore,
) -> None:
    lines: list[str] = []
    first = store.build_debian(("hello",), variant="extract", name="hello", progress=lines.append)
    assert "I: running apt-get update..." in lines
    debs = sorted(os.listdir(store.folder / "debs"))
    assert [name for name in debs if name.startswith("hello_")]
    (top,) = store.layers(first)
    assert (Path(top) / "usr/bin/hello").exists()
    assert not list((Path(top) / "dev").iterdir())
    assert not [path for path in (Path(top) / "var").rglob("*.deb")]
    assert (Path(top) / "etc/resolv.conf").read_bytes() == b""
    second = store.build_debian(("hello",), variant="extract")
    assert second == first
    assert sorted(os.listdir(store.folder / "debs")) == debs
    assert os.listdir(store.folder / "tmp") == []


@pytest.mark.download
@pytest.mark.usefixtures("mmdebstrap")
def test_unknown_package_is_named(store: ImageStore) -> None:
    suite, _ = resolve_suite(None)
    with pytest.raises(ImageError, match=f"package no-such-thing not found in {suite}"):
        store.build_debian(("no-such-thing",), variant="extract")
    assert os.listdir(store.folder / "tmp") == []


@pytest.mark.download
@pytest.mark.usefixtures("mmdebstrap")
def test_interrupted_build_leaves_nothing(store: ImageStore, world: Path) -> None:
    def interrupt(line: str) -> None:
        if "apt-get update" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.build_debian(("hello",), variant="extract", progress=interrupt)
    assert os.listdir(store.folder / "tmp") == []
    assert store.list() == ()


@pytest.mark.download
@pytest.mark.usefixtures("mmdebstrap")
def test_killed_build_is_swept_once_its_children_are_gone(store: ImageStore, world: Path) -> None:
    script = (
        "import os, signal\n"
        "from runtime.root import Root; from runtime.image.store import ImageStore\n"
        "def stop(line):\n"
        "    if 'apt-get update' in line: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"store = ImageStore(Root.at({str(world)!r}))\n"
        "store.build_debian(('hello',), variant='extract', progress=stop)\n"
    )
    repository = Path(__file__).parents[2]
    python = str(repository / ".venv/bin/python")
    done = subprocess.run([python, "-c", script], cwd=repository, check=False)
    assert done.returncode == -signal.SIGKILL
    for _ in range(400):
        store.gc()
        if not os.listdir(store.folder / "tmp"):
            break
        time.sleep(0.05)  # until mmdebstrap has noticed its broken pipe; there is no event
    assert os.listdir(store.folder / "tmp") == []


@pytest.mark.download
@pytest.mark.usefixtures("mmdebstrap")
def test_key_with_refresh_asks_the_archive() -> None:
    assert debian_key(("hello",), refresh=True) == debian_key(("hello",), refresh=True)
    assert debian_key(("hello",), refresh=True) != debian_key(("hello",))


@pytest.mark.long
@pytest.mark.download
@pytest.mark.usefixtures("mmdebstrap")
def test_debian_services_run_and_share_their_bare_root(store: ImageStore) -> None:
    lines: list[str] = []
    for package, command, answer in (
        ("memcached", ("memcached", "--version"), "memcached 1."),
        ("redis-server", ("redis-server", "--version"), "Redis server v="),
        ("nodejs", ("node", "-p", "6 * 7"), "42"),
    ):
        image = store.build_debian((package,), name=package, progress=lines.append)
        (top,) = store.layers(image)
        assert run_in(top, *command).startswith(answer)
        assert "101" in (Path(top) / "usr/sbin/policy-rc.d").read_text()
        assert not list((Path(top) / "usr/share/man").rglob("*.gz"))
        assert not list((Path(top) / "var/lib/apt/lists").glob("*_*"))
        assert (Path(top) / f"usr/share/doc/{package}/copyright").exists()
    assert len([line for line in lines if line.startswith("bare root of")]) == 1
    assert store.build_debian(("memcached",)) == store.resolve("memcached")


@pytest.fixture
def skopeo() -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed: apt-get install skopeo")


def run_skopeo(*arguments: str) -> str:
    command = ["skopeo", "--insecure-policy", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("skopeo")
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci"])
def test_skopeo_reads_our_store_and_we_read_what_it_writes(
    form: str, store: ImageStore, world: Path
) -> None:
    config = Overrides(
        entrypoint=("/bin/busybox",), command=("httpd",), labels={"a": "b"}, user="1"
    )
    image = store.build_host(("busybox",), config=config, name="shop/web")
    source = f"oci:{store.folder}:shop/web"
    inspected = json.loads(run_skopeo("inspect", source))
    assert inspected["Digest"] == image
    assert inspected["Labels"] == {"a": "b"}
    target = world / "copy"
    options = [] if form == "docker-archive" else ["--preserve-digests"]
    run_skopeo("copy", *options, source, f"{form}:{target}:shop/web:1")
    other = ImageStore(Root.at(world / "other"))
    copied = other.load_archive(target, "shop/web:1")
    assert other.config(copied) == store.config(image)
    assert other.configuration(copied).diff_ids == store.configuration(image).diff_ids
    if form != "docker-archive":
        assert copied == image
    (top,) = other.layers(copied)
    assert run_in(top, "sh", "-c", "echo same") == "same\n"


@pytest.mark.usefixtures("skopeo")
def test_skopeo_packs_several_images_into_one_archive(store: ImageStore, world: Path) -> None:
    store.build_host(("busybox",), name="one")
    store.build_host(("busybox",), config=Overrides(user="2"), name="two")
    target = world / "both.tar"
    run_skopeo("copy", f"oci:{store.folder}:one", f"docker-archive:{target}:app:one")
    run_skopeo("copy", f"oci:{store.folder}:two", f"oci:{world}/layout:app:two")
    run_skopeo("copy", f"oci:{store.folder}:one", f"oci:{world}/layout:app:one")
    with pytest.raises(ImageError, match="say which one"):
        store.load_archive(world / "layout")
    assert store.config(store.load_archive(world / "layout", "app:two")).user == "2"
    assert store.load_archive(target)
