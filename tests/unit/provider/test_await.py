"""Waiting for a container on the real host: what a stop that is asked for cuts short."""

import threading
import time
from dataclasses import replace

import pytest

from provider.drivers.await_container import settled
from provider.drivers.container_observe import how_it_ended
from provider.engine.ports import CutShortError, UnsettledError
from runtime.root import Root
from runtime.supervisor.status import Status

STARTING = Status(id="one", state="running", started_at=time.time(), health="starting")


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
        settled(self, "one", 0.0, self.stopping, deadline)


def test_a_wait_that_is_cut_short_tells_so(tmp_path):
    with pytest.raises(CutShortError):
        Containers(tmp_path, STARTING).settle()


def test_what_has_ended_meanwhile_has_failed(tmp_path):
    with pytest.raises(UnsettledError, match="3"):
        Containers(tmp_path, replace(STARTING, state="exited", exit_code=3)).settle()


def test_what_has_become_healthy_meanwhile_is_well(tmp_path):
    Containers(tmp_path, replace(STARTING, health="healthy")).settle()


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
