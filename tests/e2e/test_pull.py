"""Images from a registry that others wrote, pushed there by a client that others wrote."""

import json
import os

import pytest

from tests.support.archives import write_archive
from tests.support.manifests import HEAD
from tests.support.registries import Cutter, docker_registry, free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

HTPASSWD = "me:$2b$05$abcdefghijklmnopqrstuuQDoL5Sa/TtfS/XN4AY/jgq.HBbO1BTu\n"
"""The password is: word."""


@pytest.fixture
def image(tmp_path):
    """An archive of one image of some size, tagged box:1."""
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "root").mkdir()
    (folder / "root/noise").write_bytes(os.urandom(3 << 20))
    write_archive(tmp_path / "image.tar", folder, "box:1")
    return tmp_path / "image.tar"


@pytest.fixture
def registry(tmp_path, image):
    with docker_registry(tmp_path / "registry") as server:
        yield server


@pytest.fixture(autouse=True)
def _no_settings_of_the_host(tmp_path, monkeypatch):
    (tmp_path / "registries.conf").write_text("")
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


def plain(tmp_path, host, more=""):
    """Configure *host* as one that speaks plain HTTP."""
    (tmp_path / "registries.conf").write_text(
        f'[[registry]]\nlocation = "{host}"\ninsecure = true\n{more}'
    )


def test_what_is_pulled_runs_and_only_what_is_missing_moves(tmp_path, bayplan, registry, image):
    digest = registry.push(image, "box:1", "team/box:1")
    plain(tmp_path, registry.host)
    name = f"{registry.host}/team/box:1"
    first = json.loads(bayplan("pull", name, "-o", "json").stdout)[0]
    assert (first["digest"], first["present"]) == (digest, 0)
    assert first["fetched"] > 3 << 20
    assert bayplan("run", "--rm", "--network", "none", name, "sh", "-c", "echo hi").stdout == "hi\n"
    again = json.loads(bayplan("pull", name, "-o", "json").stdout)[0]
    assert (again["digest"], again["fetched"]) == (digest, 0)
    assert "nothing to fetch" in bayplan("pull", name).stdout
    assert bayplan("pull", "-q", f"{registry.host}/team/box@{digest}").stdout == f"{digest}\n"
    bayplan("rmi", name, f"{registry.host}/team/box@{digest}")
    assert bayplan("doctor").stdout == "all is well\n"


def test_a_line_that_breaks_is_gone_on_with(tmp_path, bayplan, registry, image):
    registry.push(image, "box:1", "box:1")
    cutter = Cutter(registry.host, 1 << 20)
    try:
        plain(tmp_path, cutter.host)
        done = bayplan("pull", f"{cutter.host}/box:1")
    finally:
        cutter.close()
    assert "going on at" in done.stderr
    assert cutter.cuts >= 3
    size = json.loads(bayplan("images", "-o", "json").stdout)[0]["size"]
    assert cutter.passed < size + (cutter.cuts + 1) * (300 << 10)  # what was on its way
    bayplan("rmi", f"{cutter.host}/box:1")


def test_so_is_one_that_was_killed(tmp_path, bayplan, registry, image):
    """What the first call has fetched, the second need not."""
    registry.push(image, "box:1", "box:1")
    cutter = Cutter(registry.host, 4 << 20)
    cutter.stalls = True
    plain(tmp_path, cutter.host)
    begun = bayplan.folder / "lib/images/tmp"
    with bayplan.start("pull", f"{cutter.host}/box:1") as process:
        wait_until(lambda: sum(p.stat().st_size for p in begun.glob("partial-*")) > 3 << 20)
        process.kill()
    first, cutter.cut_after = cutter.passed, 1 << 40
    try:
        (told,) = json.loads(bayplan("pull", f"{cutter.host}/box:1", "-o", "json").stdout)
    finally:
        cutter.close()
    size = json.loads(bayplan("images", "-o", "json").stdout)[0]["size"]
    assert told["fetched"] <= size - (3 << 20)
    assert cutter.passed - first < size - (3 << 20) + (1 << 20)
    bayplan("rmi", f"{cutter.host}/box:1")


def test_a_mirror_is_asked_first_and_the_registry_if_it_has_not(tmp_path, bayplan, registry, image):
    digest = registry.push(image, "box:1", "copies/box:1")
    nobody = f"127.0.0.1:{free_port()}"
    mirrors = "".join(
        f'[[registry.mirror]]\nlocation = "{where}"\ninsecure = true\n'
        for where in (f"{registry.host}/nothing", f"{registry.host}/copies")
    )
    plain(tmp_path, nobody, mirrors)
    done = bayplan("pull", f"{nobody}/box:1")
    assert digest in done.stdout
    assert f"asking {registry.host}/copies/box" in done.stderr
    bayplan("rmi", f"{nobody}/box:1")


def test_plain_http_only_where_it_is_allowed(tmp_path, bayplan, registry, image):
    registry.push(image, "box:1", "box:1")
    refused = bayplan("pull", f"{registry.host}/box:1", code=1).stderr
    assert "speaks no TLS" in refused
    assert "registries.conf" in refused
    bayplan("pull", "--no-tls-verify", f"{registry.host}/box:1")
    bayplan("rmi", f"{registry.host}/box:1")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("box:2",), 1, "manifest unknown"),
        (("nothing:1",), 1, "manifest unknown"),
        (("--policy", "never", "box:1"), 1, "no image"),
        (("--platform", "linux", "box:1"), 64, "OS/ARCH"),
        (("--platform", "linux/s390x", "box:1"), 1, "is for linux/amd64, not"),
        (("Box:1",), 1, "lower case"),
    ],
)
def test_what_cannot_be_had_is_said(tmp_path, bayplan, registry, image, words, code, said):
    registry.push(image, "box:1", "box:1")
    plain(tmp_path, registry.host)
    *options, name = words
    assert said in bayplan("pull", *options, f"{registry.host}/{name}", code=code).stderr


def test_what_is_here_will_do_unless_the_registry_must_be_asked(tmp_path, bayplan, image):
    with docker_registry(tmp_path / "gone") as registry:
        registry.push(image, "box:1", "box:1")
        plain(tmp_path, registry.host)
        name = f"{registry.host}/box:1"
        bayplan("pull", "--policy", "missing", name)
    for policy in ("missing", "never", "newer"):
        done = bayplan("pull", "--policy", policy, name)
        assert ("what is here will do" in done.stderr) == (policy == "newer")
    assert "refused" in bayplan("pull", name, code=1).stderr
    bayplan("rmi", name)


def test_who_must_say_who_they_are_logs_in(tmp_path, bayplan, image):
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = f"auth: {{htpasswd: {{realm: here, path: {tmp_path}/htpasswd}}}}\n"
    with docker_registry(tmp_path / "closed", auth=auth) as registry:
        plain(tmp_path, registry.host)
        name = f"{registry.host}/box:1"
        login = ("login", registry.host, "-u", "me", "--password-stdin")
        registry.push(image, "box:1", "box:1", credentials="me:word")
        assert f"bayplan login {registry.host}" in bayplan("pull", name, code=1).stderr
        assert "refused" in bayplan(*login, stdin="guess\n", code=1).stderr
        assert "kept in" in bayplan(*login, stdin="word\n").stdout
        bayplan("pull", name)
        bayplan("push", name, f"{registry.host}/other:1")
        assert "logged out" in bayplan("logout", registry.host).stdout
        assert "was not" in bayplan("logout", registry.host).stdout
        assert "bayplan login" in bayplan("pull", name, code=1).stderr
        bayplan("rmi", name)


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (("h:1", "-u", "me"), ""),
        (("h:1", "--password-stdin"), "word\n"),
        (("h:1", "-u", "me", "--password-stdin"), ""),
        (("https://h/", "-u", "me", "--password-stdin"), "word\n"),
    ],
)
def test_a_login_that_lacks_something_is_none(bayplan, words, stdin):
    bayplan("login", *words, stdin=stdin, code=64)


def test_a_project_s_image_keeps_its_name(tmp_path, bayplan, registry, image):
    bayplan.apply(HEAD)
    registry.push(image, "box:1", "box:1")
    plain(tmp_path, registry.host)
    bayplan("pull", f"{registry.host}/box:1")
    assert bayplan("plan", "-f", "-", stdin=HEAD).returncode == 0
    bayplan("rmi", f"{registry.host}/box:1")
    bayplan.delete("test")
