"""Waiting for a container on the real host: what a stop that is asked for cuts short."""

import threading
import time
from dataclasses import replace

import pytest

from provider.drivers.await_container import settled
from provider.drivers.container_observe import how_it_ended, is_done
from provider.engine.ports import CutShortError, UnsettledError
from provider.model import specs
from provider.model.codec import encode
from runtime.root import Root
from runtime.supervisor.status import Status

STARTING = Status(id="one", state="running", started_at=time.time(), health="starting")
ENDED = Status(id="one", state="exited", exit_code=0, started_at=100.0, finished_at=100.5)


def wanted(policy="always", *, health=None, publish=(), service=False):
    ran = specs.ContainerSpec(
        specs.ImageRef("base"), restart=specs.Restart(policy=policy), health=health
    )
    update = specs.Update(healthy_for=3.0)
    whole = (
        specs.Service(ran, update=update)
        if service
        else specs.Container(ran, publish=publish, update=update)
    )
    tree = encode(whole)
    if service:
        del tree["publish"]  # of a replica, as it is planned: the ports are another instance
    return tree


class Containers:
    """One container that is as it is told once a stop was asked for."""

    def __init__(self, folder, then):
        self.root = Root.at(folder)
        self.stopping = threading.Event()
        self._then = then

    def status(self, container_id):
        if self.stopping.is_set():
            return self._then
        self.stopping.set()
        return STARTING

    def settle(self):
        deadline = time.monotonic() + 10
        settled(self, "one", wanted(), self.stopping, deadline)


def test_a_wait_that_is_cut_short_tells_so(tmp_path):
    with pytest.raises(CutShortError):
        Containers(tmp_path, STARTING).settle()


def test_what_has_ended_meanwhile_has_failed(tmp_path):
    with pytest.raises(UnsettledError, match="3"):
        Containers(tmp_path, replace(STARTING, state="exited", exit_code=3)).settle()


def test_what_has_become_healthy_meanwhile_is_well(tmp_path):
    Containers(tmp_path, replace(STARTING, health="healthy")).settle()


class Ended:
    """One container that has ended before anybody looked."""

    def __init__(self, folder, status):
        self.root = Root.at(folder)
        self._status = status

    def status(self, container_id):
        return self._status


PROBE = specs.Health(tcp=specs.TcpProbe(port=80))
PORT = (specs.Publish(8080, 80),)


@pytest.mark.parametrize(
    ("tree", "health", "words"),
    [
        (wanted("no"), "none", "it ended with exit code 0 before it had run for 3s"),
        (wanted("always"), "none", "it ended with exit code 0 before it had run for 3s"),
        (wanted("on-failure", publish=PORT), "none", "exit code 0 before it had run for 3s"),
        (wanted("on-failure", service=True), "none", "exit code 0 before it had run for 3s"),
        (wanted("on-failure", health=PROBE), "starting", "exit code 0 before it was healthy"),
    ],
)
def test_what_ends_well_before_it_is_proven_has_not_proven_itself(tmp_path, tree, health, words):
    status = replace(ENDED, health=health)
    assert not is_done(status, tree)
    with pytest.raises(UnsettledError, match=words) as caught:
        settled(Ended(tmp_path, status), "one", tree, threading.Event(), time.monotonic() + 10)
    assert caught.value.hint == "what runs to completion is a Job; a daemon stays in the foreground"


def test_what_may_end_and_serves_nobody_is_done_when_it_ended_well(tmp_path):
    tree = wanted("on-failure")
    assert is_done(ENDED, tree)
    settled(Ended(tmp_path, ENDED), "one", tree, threading.Event(), time.monotonic() + 10)
    stopped = replace(ENDED, stop_requested=True)
    assert not is_done(stopped, tree)
    with pytest.raises(UnsettledError, match="it was stopped by hand"):
        settled(Ended(tmp_path, stopped), "one", tree, threading.Event(), time.monotonic() + 10)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"state": "exited", "exit_code": 3}, "it ended with exit code 3"),
        (
            {"state": "exited", "exit_code": 3, "error": "gave up after 2 retries"},
            "it ended with exit code 3; gave up after 2 retries",
        ),
        ({"state": "exited", "signal": 9, "exit_code": 137}, "it was killed by SIGKILL"),
        ({"state": "dead", "error": "no such program"}, "it could not be started: no such program"),
        ({"state": "exited", "error": "nobody could tell"}, "it is gone; nobody could tell"),
        ({"state": "exited"}, "it is gone, nobody knows how it ended"),
    ],
)
def test_how_it_ended(how, words):
    assert how_it_ended(replace(STARTING, **how)) == words
