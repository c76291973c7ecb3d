"""Files of the run folder as a loss of power leaves them: taken for not there."""

import json
import os

import pytest

from runtime.container.config import ContainerConfig
from runtime.container.containers import Containers
from runtime.errors import NotFoundError
from runtime.network import dns, dnswire, store
from runtime.network.dnszone import Zones
from runtime.network.model import Network, Record
from runtime.root import Root
from runtime.spec import Process, Spec
from runtime.supervisor import record, status
from runtime.supervisor.context import Context
from runtime.supervisor.dns import DnsServer
from runtime.supervisor.loop import Loop
from runtime.supervisor.names import Home
from runtime.supervisor.request import LaunchRequest, Logs
from tests.support.dnsclient import question

LEFT = (b"", bytes(100), b'{"id": "c', b"\xff\xfe")


@pytest.mark.parametrize("left", LEFT)
def test_a_status_that_cannot_be_read_is_none(tmp_path, left):
    root = Root.at(tmp_path)
    Containers(root).create(ContainerConfig(id="c1", name="c1", spec=Spec(Process(("true",)))))
    folder = root.run / "containers/c1"
    folder.mkdir(parents=True)
    status.write(str(folder), status.Status(id="c1", state="exited"))
    assert status.read(root, "c1").state == "exited"
    (folder / status.FILE).write_bytes(left)
    assert status.read_recorded(str(folder)) is None
    assert status.read_all(root) == {}
    with pytest.raises(NotFoundError):
        status.read(root, "c1")
    assert Containers(root).status("c1").state == "created"


@pytest.mark.parametrize("left", LEFT)
def test_a_request_that_cannot_be_read_is_none(tmp_path, left):
    wanted = LaunchRequest(id="c1", program={}, logs=Logs(path="/log"))
    record.write_request(str(tmp_path), wanted)
    assert record.read_request(str(tmp_path)) == wanted
    (tmp_path / record.LAUNCH_FILE).write_bytes(left)
    assert record.read_request(str(tmp_path)) is None


@pytest.mark.parametrize("left", LEFT)
def test_addresses_that_cannot_be_read_are_asked_for_again(tmp_path, left):
    (tmp_path / "dns.json").write_bytes(left)
    loop = Loop()
    server = DnsServer(Context(Home(str(tmp_path), str(tmp_path), "c"), loop, None, None))
    server.adopt()
    loop.close()
    assert server.addresses == ()


@pytest.mark.parametrize("left", LEFT)
def test_a_zone_that_cannot_be_read_is_none_and_written_anew(tmp_path, left):
    root = Root.at(tmp_path)
    network = Network("a", 1, "bpn1", "10.9.0.0/24", "10.9.0.1", internal=False, mtu=1500)
    store.save(root, Record(network, ()))
    dns.write_zones(root)
    (path,) = (root.run / "dns").iterdir()
    path.write_bytes(left)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        zones = Zones(folder)
        asked = dnswire.parse_question(question("web"))
        assert zones.answer("10.9.0.1", "10.9.0.2", asked) is None
        assert [found.network.id for found in dns.stale(root, store.load_all(root))] == ["a"]
        dns.write_zones(root)
        assert zones.answer("10.9.0.1", "10.9.0.2", asked) is not None
    finally:
        os.close(folder)
    assert json.loads(path.read_bytes())["subnet"] == "10.9.0.0/24"
