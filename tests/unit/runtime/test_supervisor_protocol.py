"""Frames, descriptors and errors between client and supervisor; requests and their JSON."""

import json
import os
import socket

import pytest

from runtime.errors import ContainerError, LaunchError, NotFoundError, SupervisorError
from runtime.supervisor import protocol, request, status
from runtime.supervisor.protocol import Decoder
from runtime.supervisor.request import ExecRequest, Health, LaunchRequest, Logs, Restart
from runtime.supervisor.status import Status


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_messages_come_through_however_they_are_cut():
    sent = [{"n": n, "text": "ü" * n} for n in range(50)]
    stream = b"".join(map(protocol.encode, sent))
    for size in (1, 3, 1000, len(stream)):
        decoder, got = Decoder(), []
        for start in range(0, len(stream), size):
            decoder.feed(stream[start : start + size], [])
            got += [message for message, _ in decoder.messages()]
        assert got == sent


def test_descriptors_belong_to_their_message(pair):
    here, there = pair
    reads = []
    for n in range(3):
        read, write = os.pipe()
        reads.append(read)
        protocol.send(here, {"n": n}, (write,) * n)
        os.close(write)
    decoder, got = Decoder(), {}
    while len(got) < 3:
        assert protocol.receive(there, decoder)
        got |= {message["n"]: fds for message, fds in decoder.messages()}
    assert {n: len(fds) for n, fds in got.items()} == {0: 0, 1: 1, 2: 2}
    for n, fds in got.items():
        for fd in fds:
            assert not os.get_inheritable(fd)
            os.write(fd, b"x")
            os.close(fd)
        assert os.read(reads[n], 10) == b"x" * n
        os.close(reads[n])


def test_unasked_descriptors_are_closed(pair):
    here, there = pair
    read, write = os.pipe()
    socket.send_fds(here, [b"\0"], [write])
    os.close(write)
    decoder = Decoder()
    protocol.receive(there, decoder)
    decoder.close()
    assert os.read(read, 1) == b""
    os.close(read)


@pytest.mark.parametrize(
    "stream",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\1{",
        b"\0\0\0\2[]",
        b'\0\0\0\x0b{"fds": 99}',
        b'\0\0\0\x0c{"fds": "a"}',
        b"\0\0\x10\0" + b"[" * 4096,
    ],
)
def test_what_is_not_in_the_protocol_is_refused(stream):
    decoder = Decoder()
    decoder.feed(stream, [])
    with pytest.raises(SupervisorError):
        list(decoder.messages())


def test_too_large_a_message_is_not_even_sent():
    with pytest.raises(SupervisorError, match="larger than"):
        protocol.encode({"text": "x" * protocol.MAX_FRAME})


def test_errors_travel_with_class_and_text():
    travelled = [
        protocol.error_from_json(json.loads(json.dumps(protocol.error_to_json(error))))
        for error in (NotFoundError("no a"), LaunchError("no such file", exit_code=127))
    ]
    assert [type(error) for error in travelled] == [NotFoundError, LaunchError]
    assert [str(error) for error in travelled] == ["no a", "no such file"]
    assert travelled[1].exit_code == 127
    for code in ("FutureError", "KernelError", "DamagedError", "os", None):
        assert type(protocol.error_from_json({"code": code, "message": "m"})) is ContainerError


FULL = LaunchRequest(
    id="a",
    program={"namespaces": 0, "operations": [["exec", ["true"], []]]},
    logs=Logs(path="/l", max_size=1, max_files=2),
    terminal=True,
    uid=3,
    gid=4,
    restart=Restart(policy="on-failure", max_retries=5),
    health=Health(kind="http", port=80, netns="/n"),
    auto_remove=True,
    oom_files=("/o",),
    cgroup_procs=("/c",),
    token="t",
)


@pytest.mark.parametrize(
    "value",
    [
        FULL,
        LaunchRequest(id="a", program={}, logs=Logs(path="/l")),
        ExecRequest(id="a", program={"x": 1}, terminal=True, rows=2),
    ],
)
def test_requests_survive_json(value):
    data = json.loads(json.dumps(request.encode(value)))
    assert request.decode(type(value), data) == value
    assert request.decode(type(value), {**data, "newer": 1}) == value


def test_requests_speak_camel_case_and_miss_what_they_need():
    data = request.encode(FULL)
    assert data["restart"]["maxRetries"] == 5
    assert data["oomFiles"] == ("/o",)
    with pytest.raises(TypeError):
        request.decode(LaunchRequest, {"id": "a"})


def test_status_survives_json():
    told = Status(id="a", state="exited", exit_code=137, signal=9, oom_killed=True)
    data = json.loads(json.dumps(status.encode(told)))
    assert data["oomKilled"] is True
    assert status.decode({**data, "newer": 1}) == told
