"""An nft that does not answer, and other ends of a commit: what is wanted is as it was."""

import os

import pytest

from runtime.errors import NetworkError, UnsupportedHostError
from runtime.network import firewall, network, nft
from runtime.network.firewall import Publication
from runtime.network.observe import observe
from runtime.root import Root
from tests.support.testhost import test_host

pytestmark = pytest.mark.kernel

PORT = Publication(8080, "tcp", (("10.72.0.9", 80),))


@pytest.fixture
def root(world):
    with test_host(world):
        root = Root.at(world)
        network.ensure_network(root, "a")
        yield root
        network.delete_network(root, "a")


@pytest.fixture
def silent(tmp_path, monkeypatch):
    program = tmp_path / "nft"
    program.write_text("#!/bin/sh\nexec sleep 98756\n")
    program.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(nft, "_program", lambda: str(program))
        patch.setattr(nft, "_TIMEOUT_S", 0.1)
        yield patch


def test_an_nft_that_does_not_answer_is_an_error_of_the_network(root, silent):
    before = firewall.wanted(root)
    with pytest.raises(NetworkError, match=r"nft -f -: no answer within 0\.1 s"):
        firewall.publish(root, "shop/web", (PORT,))
    assert firewall.wanted(root) == before
    # Nobody knows what it did, so that is found out.
    silent.undo()
    firewall.finish(root)
    assert os.listdir(root.state / "networks").count("firewall.pending") == 0
    assert observe(root).deviations == ()


@pytest.mark.parametrize("error", [UnsupportedHostError("no nft"), KeyboardInterrupt()])
def test_whatever_ends_a_commit_it_publishes_nothing(root, monkeypatch, error):
    before = firewall.wanted(root)

    def fail(_script):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(nft, "load", fail)
        with pytest.raises(type(error)):
            firewall.publish(root, "shop/web", (PORT,))
    assert firewall.wanted(root) == before
    firewall.finish(root)
    assert observe(root).deviations == ()
