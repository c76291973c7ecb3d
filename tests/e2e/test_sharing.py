"""Containers in the network, and among the processes, of another one."""

import pytest

from tests.support.drift import container, kill
from tests.support.manifests import HEAD
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture
def box(bayplan):
    bayplan.apply(HEAD)
    yield bayplan
    for each in bayplan.json("ps", "-a"):
        bayplan("rm", "-f", each["id"])
    bayplan.delete("test")
    assert bayplan("doctor", code=None).stdout == "all is well\n"


RUN = ("run", "--stop-timeout", "0")


def test_one_is_in_the_network_of_another(box):
    serve = "while :; do echo hello | nc -l -p 8000; done"
    box(*RUN, "-d", "--name", "web", "test/box", "sh", "-c", serve)
    beside = (*RUN, "--rm", "--network", "container:web", "test/box")
    address = box("inspect", "web").stdout
    inside = "hostname; cat /etc/hosts; nc -w 5 127.0.0.1 8000 < /dev/null"
    said = box(*beside, "sh", "-c", inside).stdout.split()
    assert said[0] == "web"
    assert said[-1] == "hello"
    assert any(word in address for word in said if word.startswith("10."))
    # What shares a network that is gone cannot start; one that runs is cut off, and harms nobody.
    box(*RUN, "-d", "--name", "side", *beside[-3:], "sleep", "1000")
    box("restart", "web")
    box("exec", "web", "ping", "-c", "1", "-W", "2", "10.255.255.255", code=None)
    assert "eth0" not in box("exec", "side", "cat", "/proc/net/dev").stdout
    box("stop", "web", "side")
    assert "shares namespaces with web, which is exited" in box("start", "side", code=1).stderr
    box("start", "web")
    box("start", "side")
    assert "eth0" in box("exec", "side", "cat", "/proc/net/dev").stdout


def test_one_is_among_the_processes_of_another(box):
    box(*RUN, "-d", "--name", "app", "test/box", "sh", "-c", "sleep 4711; true")
    among = ("--pid", "container:app", "test/box")
    listed = box(*RUN, "--rm", *among, "ps", "-o", "pid,args").stdout
    assert "sleep 4711" in listed
    assert "1 sh -c" in listed
    # What it leaves behind does not stay with the other one.
    box(*RUN, "--rm", *among, "sh", "-c", "sleep 4712 & sleep 4713 &")
    wait_until(lambda: "471" not in box("exec", "app", "ps").stdout.replace("4711", ""))
    # When the first process of all goes, so does this one; it comes back with the other.
    box(*RUN, "-d", "--name", "side", "--restart", "always", *among, "sleep", "4714")
    box("restart", "app")
    wait_until(lambda: container(box, "side")["restarts"] > 0)
    wait_until(lambda: container(box, "side")["state"] == "running")
    assert "sleep 4714" in box("exec", "app", "ps").stdout
    kill(container(box, "side")["pid"])
    wait_until(lambda: container(box, "side")["restarts"] > 1)
    assert container(box, "app")["restarts"] == 0


def test_what_cannot_be_shared_is_told(box):
    def refused(*words: str, code: int) -> str:
        return box(*RUN, "--rm", *words, "test/box", "true", code=code).stderr

    assert "no container nobody" in refused("--network", "container:nobody", code=125)
    assert "no container nobody" in refused("--pid", "container:nobody", code=125)
    assert "container:NAME" in refused("--network", "container:", code=64)
    assert "container:NAME" in refused("--pid", "host", code=64)
    assert "--hostname" in refused("--network", "container:x", "--hostname", "y", code=64)
    assert "--init" in refused("--pid", "container:x", "--init", code=64)
    box(*RUN, "-d", "--name", "out", "--network", "host", "test/box", "sleep", "100")
    assert "--network host" in refused("--network", "container:out", code=125)
