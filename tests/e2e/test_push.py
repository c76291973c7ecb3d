"""Images to a registry that others wrote, looked at with a client that others wrote."""

import json
import subprocess

import pytest

from tests.support.manifests import HEAD
from tests.support.registries import docker_registry, free_port

pytestmark = pytest.mark.e2e


@pytest.fixture
def registry(tmp_path, monkeypatch):
    with docker_registry(tmp_path / "registry") as server:
        (tmp_path / "registries.conf").write_text(
            f'[[registry]]\nlocation = "{server.host}"\ninsecure = true\n'
        )
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        yield server


@pytest.fixture
def box(bayplan):
    """A project's image in the store: its name."""
    bayplan.apply(HEAD)
    yield "test/box"
    bayplan.delete("test")


def seen(server, name):
    """Return what skopeo says of an image."""
    command = ["skopeo", "inspect", "--tls-verify=false", f"docker://{server.host}/{name}"]
    return json.loads(subprocess.check_output(command))


def test_what_is_pushed_is_what_others_pull_and_goes_once(tmp_path, bayplan, registry, box):
    target = f"{registry.host}/team/box:1"
    first = json.loads(bayplan("push", box, target, "-o", "json").stdout)
    assert (first["present"], first["mounted"]) == (0, 0)
    assert first["sent"] > 1 << 16
    assert seen(registry, "team/box:1")["Digest"] == first["digest"]
    again = json.loads(bayplan("push", box, target, "-o", "json").stdout)
    assert (again["sent"], again["present"]) == (0, first["sent"])
    assert "nothing to send" in bayplan("push", box, target).stdout
    copied = tmp_path / "copied"
    subprocess.run(
        ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{target}", f"dir:{copied}"],
        check=True,
    )


def test_what_another_repository_has_is_mounted(bayplan, registry, box):
    bayplan("tag", box, f"{registry.host}/one/box:1")
    first = json.loads(bayplan("push", f"{registry.host}/one/box:1", "-o", "json").stdout)
    second = json.loads(bayplan("push", box, f"{registry.host}/two/box:1", "-o", "json").stdout)
    assert second["sent"] == 0
    assert second["mounted"] + second["present"] == first["sent"]
    assert seen(registry, "two/box:1")["Digest"] == first["digest"]
    bayplan("rmi", f"{registry.host}/one/box:1")


def test_a_pushed_image_comes_back_as_it_was(bayplan, registry, box):
    target = f"{registry.host}/box"
    pushed = bayplan("push", "-q", box, target).stdout
    assert bayplan("pull", "-q", target).stdout == pushed
    assert bayplan("pull", "-q", f"{target}@{pushed.strip()}").stdout == pushed
    bayplan("rmi", f"{target}:latest", f"{target}@{pushed.strip()}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing",), "no image nothing"),
        (("test/box", "here.io/Upper"), "lower case"),
        (("test/box", f"127.0.0.1:{free_port()}/a"), "Connection refused"),
    ],
)
def test_what_cannot_be_pushed_is_said(bayplan, registry, box, words, said):
    assert said in bayplan("push", *words, code=1).stderr


def test_a_registry_that_takes_nothing_is_named(tmp_path, bayplan, box):
    with docker_registry(tmp_path / "still", readonly=True) as server:
        done = bayplan("push", "--no-tls-verify", box, f"{server.host}/box", code=1)
        assert server.host in done.stderr


def test_names(bayplan, box):
    bayplan("tag", box, "elsewhere/box:2")
    names = [image["name"] for image in json.loads(bayplan("images", "-o", "json").stdout)]
    assert names == ["docker.io/elsewhere/box:2", "test/box"]
    assert "no image" in bayplan("tag", "nothing", "x", code=1).stderr
    assert bayplan("run", "--rm", "elsewhere/box:2", "echo", "hi").stdout == "hi\n"
    bayplan("rmi", "elsewhere/box:2")
