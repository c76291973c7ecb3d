"""The DNS process: that it is there. What it answers is tested with the network."""

import os
import signal
import socket
from contextlib import suppress

import pytest

from runtime.errors import NetworkError
from tests.support.supervised import Supervised
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kernel


@pytest.fixture
def host(world):
    host = Supervised(world)
    yield host
    host.close()


@pytest.fixture
def address():
    pid = os.getpid()
    return f"127.53.{pid >> 8 & 255}.{pid & 255}"


def is_served(address):
    """A question that is none makes the server hang up; without a server nothing happens."""
    with socket.create_connection((address, 53), timeout=5) as connection:
        connection.sendall(b"\0\1x")
        return connection.recv(1) == b""


def ask_on(address):
    """Ask until it is refused: the socket may go a moment after the server."""
    while True:
        with suppress(ConnectionResetError):
            is_served(address)


def wait_other(host, before):
    wait_until(lambda: host.client.ping()["dns"] not in (0, before))
    return host.client.ping()["dns"]


def test_it_is_started_once_and_replaced_when_it_dies(host, address):
    host.launch("a", "exec sleep 98759")
    host.client.dns([address])
    first = host.client.ping()["dns"]
    host.client.dns([address])
    assert is_served(address)
    os.kill(first, signal.SIGKILL)
    second = wait_other(host, first)
    assert is_served(address)
    host.kill_supervisor()
    assert wait_other(host, second)
    assert is_served(address)
    host.client.dns([], close=[address])
    assert host.client.ping()["dns"] == 0
    with pytest.raises(ConnectionRefusedError):
        ask_on(address)


def test_one_that_cannot_even_die_holds_up_nobody(host, address):
    host.launch("a", "exec sleep 98759")
    host.client.dns([address])
    with host.frozen(host.client.ping()["dns"]):
        host.client.dns([], close=[address])
        assert host.client.ping()["dns"] == 0
    wait_until(lambda: not host.zombies())


def test_it_ends_with_the_supervisor(host, address):
    host.client.dns([address])
    pidfd = os.pidfd_open(host.client.ping()["dns"])
    host.client.shutdown()
    with pytest.raises(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, 0)
    os.close(pidfd)
    with pytest.raises(ConnectionRefusedError):
        is_served(address)


def test_a_port_that_is_taken_is_told(host, address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((address, 53))
        with pytest.raises(NetworkError, match=f"{address} port 53: Address already in use"):
            host.client.dns([address])
    host.client.dns([address])
    assert is_served(address)


def test_more_addresses_than_a_socket_takes_orders_are_served_by_one_process(host):
    pid = os.getpid()
    addresses = [f"127.{54 + n // 200}.{pid & 255}.{1 + n % 200}" for n in range(400)]
    host.launch("a", "exec sleep 98759")
    host.client.dns(addresses[:1])
    host.client.dns(addresses)
    first = host.client.ping()["dns"]
    assert is_served(addresses[-1])
    assert host.client.ping()["dns"] == first
    host.kill_supervisor()
    second = wait_other(host, first)
    assert is_served(addresses[-1])
    assert host.client.ping()["dns"] == second
