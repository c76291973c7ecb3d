"""An image that loses its name while a container uses it goes with the container."""

import time

import pytest

from tests.support.manifests import HEAD

pytestmark = pytest.mark.e2e


def layers(bayplan):
    folders = [bayplan.folder / "lib" / "layers", bayplan.folder / "lib/images/blobs/sha256"]
    return [path for folder in folders for path in folder.iterdir()]


@pytest.fixture
def nameless(bayplan):
    """Runs a container by hand whose image's project is deleted meanwhile."""

    def run(*words):
        bayplan.apply(HEAD)
        bayplan("run", "-d", "--name", "last", *words)
        bayplan.delete("test")
        assert layers(bayplan)
        assert bayplan("doctor").stdout == "all is well\n"

    return run


def test_rm_takes_it_along(bayplan, nameless):
    nameless("test/box", "sleep", "1000")
    bayplan("rm", "-f", "last")
    assert bayplan("doctor").stdout == "all is well\n"
    assert not layers(bayplan)


def test_so_does_the_end_of_a_container_to_be_removed(bayplan, nameless):
    nameless("--rm", "test/box", "sleep", "1000")
    bayplan("kill", "last")
    deadline = time.monotonic() + 20
    while layers(bayplan) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not layers(bayplan)
    assert bayplan("doctor").stdout == "all is well\n"


def test_another_container_of_it_keeps_it(bayplan, nameless):
    bayplan.apply(HEAD)
    bayplan("run", "-d", "--name", "first", "test/box", "sleep", "1000")
    nameless("test/box", "sleep", "1000")
    bayplan("rm", "-f", "last")
    assert layers(bayplan)
    bayplan("restart", "first", "-t", "0s")
    bayplan("rm", "-f", "first")
    assert not layers(bayplan)
