"""Requests that make no sense get an answer or no ear; the supervisor and its containers stay."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
from contextlib import suppress

import pytest

from runtime.errors import NotFoundError
from runtime.supervisor import protocol
from tests.support.mutation import mutated
from tests.support.supervised import Supervised
from tests.support.waiting import SLOWNESS, wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.long, pytest.mark.timeout(900)]

CASES = round(3000 / SLOWNESS)
# Whose members are what our own code makes of what it has checked.
KEPT = frozenset(("restart", "stop", "balanced"))
# Not what runs programs that are given, or ends the supervisor when asked properly.
REQUESTS = (
    *({"op": op, "id": "b"} for op in ("status", "pause", "resume", "attach", "wait", "forget")),
    *({"op": op} for op in ("list", "ping", "events", "stats", "spare", "")),
    {"op": "stop", "id": "b", "signal": 15, "grace": 0.1},
    {"op": "kill", "id": "b", "signal": 10},
    {"op": "dns", "listen": ["127.0.0.9"], "close": []},
    {
        "op": "configure",
        "id": "b",
        "restart": {"policy": "always", "backoff": 0.1, "max_backoff": 1.0, "max_retries": 3},
        "stop": {"signal": 15, "grace": 10.0},
        "balanced": False,
    },
)


@pytest.fixture
def host(world):
    host = Supervised(world)
    yield host
    host.client.shutdown(kill=True)
    log = host.root.run / "supervisor.log"
    assert not log.exists() or "Traceback" not in log.read_text()


def _frame(chance: random.Random) -> bytes:
    message = mutated({"n": 1, **chance.choice(REQUESTS)}, chance, KEPT)
    data = json.dumps(message).encode()
    kind = chance.randrange(12)
    if kind == 0:
        data = chance.randbytes(chance.randrange(200))
    elif kind == 1:
        data = data[: chance.randrange(len(data))]
    elif kind == 2:
        data = b"[" * 100_000
    length = len(data)
    if chance.randrange(12) == 0:
        length = chance.choice((0, 1, length - 1 if length else 0, length + 5, (1 << 32) - 1))
    return struct.pack(">I", length) + data


def _say(path: str, frames: list[bytes], fds: list[int]) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(0.2)
        connection.connect(path)
        with suppress(ConnectionError, TimeoutError):
            for frame in frames:
                socket.send_fds(connection, [frame], fds)
            # As long as it answers; what it has no answer to is hung up on, or waits.
            while connection.recv(65536):
                connection.settimeout(0.01)


def _without_the_other(host: Supervised) -> None:
    with suppress(NotFoundError):
        host.client.stop("b", grace=0)
    host.client.forget("b")
    host.client.dns(["127.0.0.9"])
    host.client.dns([], close=["127.0.0.9"])


def test_no_request_ends_the_supervisor_or_a_container_that_was_not_meant(host):
    seed = int(os.environ.get("BAYPLAN_FUZZ_SEED") or random.randrange(1 << 32))
    print(f"BAYPLAN_FUZZ_SEED={seed}")
    chance = random.Random(seed)
    host.launch("a", "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done")
    host.wait_line("a", "up")
    known = host.client.ping()
    before = host.client.status("a")
    descriptors = f"/proc/{known['pid']}/fd"
    _without_the_other(host)
    held = len(os.listdir(descriptors))
    (path,) = (str(p) for p in host.root.run.iterdir() if p.is_socket())
    hello = protocol.encode({"hello": protocol.VERSION})
    for number in range(CASES):
        if number % 100 == 0:
            with suppress(Exception):
                host.launch("b", "sleep 1000")
        greeting = [] if chance.randrange(20) == 0 else [hello]
        fds = [0] * chance.choice((0, 0, 0, 1, 3, 20))
        frames = [_frame(chance) for _ in range(chance.randint(1, 3))]
        _say(path, [*greeting, *frames], fds)
        assert host.client.ping()["pid"] == known["pid"], frames
    assert host.client.status("a") == before
    _without_the_other(host)
    wait_until(lambda: len(os.listdir(descriptors)) <= held)
    assert host.client.stop("a").exit_code == 3
