"""Names of containers, asked from inside them; what is passed on, and to whom nothing is said."""

import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from runtime.kernel.selfexe import command
from runtime.network import attachment, network
from runtime.network.dnsforward import Upstreams
from runtime.network.dnsloop import IN, Loop
from runtime.network.dnsserver import Server
from runtime.network.dnszone import Zones
from runtime.root import Root
from tests.support import dnsclient
from tests.support.dnsclient import AAAA, PTR, Reply, question
from tests.support.testhost import NEIGHBOUR, TestHost, inside, test_host

pytestmark = pytest.mark.kernel

NXDOMAIN, SERVFAIL = 3, 2


class Stage:
    """Networks a and b and the internal i; ``both`` is on a and b; upstream is the neighbour."""

    def __init__(self, root: Root, host: TestHost, folder: Path) -> None:
        self.root, self.host, self.folder = root, host, folder
        self.resolv_conf = folder / "resolv.conf"
        self.resolv_conf.write_text(f"nameserver {NEIGHBOUR}\n")
        self.asked: list[str] = []
        self.gateway = {
            name: network.ensure_network(root, name, internal=name == "i").gateway for name in "abi"
        }
        self.ns: dict[str, str] = {}
        self.ip: dict[str, str] = {}
        self.join("web1", "a", "web", "web.shop", "web-0")
        self.join("web2", "a", "web", "web.shop", "web-1")
        self.join("db", "b", "db", "db.shop")
        self.join("inner", "i", "inner")
        self.join("both", "a", "both")
        self.ip["both@b"] = attachment.attach(
            root, "b", "both", self.ns["both"], names=("both",), interface="eth1"
        ).ip

    def join(self, container: str, net: str, *names: str, **options: tuple[str, ...]) -> None:
        self.ns[container] = self.host.namespace(container)
        made = attachment.attach(
            self.root, net, container, self.ns[container], names=names, **options
        )
        self.ip[container] = made.ip

    def ask(self, who: str, gateway: str, name: str, qtype: int = 1, **options: int) -> Reply:
        with inside(self.ns[who], lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as s:
            return dnsclient.by_udp(s, self.gateway[gateway], question(name, qtype, **options))

    def ask_by_tcp(self, who: str, gateway: str, *datas: bytes) -> list[Reply]:
        with inside(self.ns[who], lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as s:
            return dnsclient.by_tcp(s, self.gateway[gateway], *datas)

    def upstream(self, answer: Callable[[bytes], bytes]) -> None:
        """Have the neighbour answer by UDP and TCP with what *answer* makes of a question."""
        udp = inside(self.host.neighbour, lambda: _listen(socket.SOCK_DGRAM, NEIGHBOUR))
        tcp = inside(self.host.neighbour, lambda: _listen(socket.SOCK_STREAM, NEIGHBOUR))

        def datagram() -> None:
            data, peer = udp.recvfrom(4096)
            self.asked.append(_asked_name(data))
            udp.sendto(answer(data), peer)

        def connection() -> None:
            made, _ = tcp.accept()
            with made:
                data = answer(dnsclient.read_framed(made))
                made.sendall(struct.pack(">H", len(data)) + data)

        self.host._serve(udp, datagram)
        self.host._serve(tcp, connection)


@pytest.fixture
def stage(world: Path, tmp_path: Path) -> Iterator[Stage]:
    with test_host(world) as host:
        stage = Stage(Root.at(world), host, tmp_path)
        with _serving(stage):
            yield stage


@contextmanager
def _serving(stage: Stage) -> Iterator[None]:
    """Run the server's own loop in a thread, on the host."""
    loop = Loop()
    folder = os.open(stage.root.run / "dns", os.O_RDONLY | os.O_DIRECTORY)
    server = Server(loop, Zones(folder), Upstreams(str(stage.resolv_conf)))
    for gateway in stage.gateway.values():
        server.listen(gateway, *_sockets(gateway))
    stop_read, stop_write = os.pipe()
    stopping = threading.Event()

    def serve() -> None:
        with open(stop_read) as stop:
            loop.watch(stop, IN, lambda _: stopping.set())
            while not stopping.is_set():
                loop.turn()
            loop.forget(stop)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        os.close(stop_write)
        thread.join()
        server.stop()
        loop.close()
        os.close(folder)


def _sockets(gateway: str) -> tuple[socket.socket, socket.socket]:
    return _listen(socket.SOCK_DGRAM, gateway), _listen(socket.SOCK_STREAM, gateway)


def _listen(kind: int, ip: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((ip, 53))
    if kind == socket.SOCK_STREAM:
        made.listen(16)
    return made


def _asked_name(data: bytes) -> str:
    labels, offset = [], 12
    while data[offset]:
        labels.append(data[offset + 1 : offset + 1 + data[offset]].decode())
        offset += data[offset] + 1
    return ".".join(labels)


def _answer_with(*addresses: str) -> Callable[[bytes], bytes]:
    def answer(data: bytes) -> bytes:
        end = data.index(b"\0", 12) + 5
        header = data[:2] + struct.pack(">HHHHH", 0x8180, 1, len(addresses), 0, 0)
        records = b"".join(
            struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(ip) for ip in addresses
        )
        return header + data[12:end] + records

    return answer


def test_a_name_gives_all_replicas_in_turn(stage: Stage) -> None:
    replies = [stage.ask("both", "a", "web") for _ in range(20)]

    both = {stage.ip["web1"], stage.ip["web2"]}
    assert all(set(reply.records) == both for reply in replies)
    assert {reply.records[0] for reply in replies} == both
    assert stage.ask("both", "a", "web-1").records == (stage.ip["web2"],)
    assert stage.ask("both", "a", "WEB.Shop").rcode == 0


def test_addresses_resolve_back_and_unknown_ones_are_not_passed_on(stage: Stage) -> None:
    stage.upstream(_answer_with("203.0.113.1"))
    octets = stage.ip["web1"].split(".")
    reverse = ".".join(reversed(octets)) + ".in-addr.arpa"

    assert stage.ask("web2", "a", reverse, PTR).records == ("web",)
    unknown = ".".join(reversed([*octets[:3], "200"])) + ".in-addr.arpa"
    assert stage.ask("web2", "a", unknown, PTR).rcode == NXDOMAIN
    assert stage.asked == []


def test_a_known_name_has_no_ipv6_address_and_that_is_no_error(stage: Stage) -> None:
    reply = stage.ask("web1", "a", "web", AAAA)

    assert (reply.rcode, reply.records) == (0, ())


def test_names_of_other_networks_are_not_told(stage: Stage) -> None:
    stage.upstream(lambda data: data[:2] + struct.pack(">HHHHH", 0x8183, 1, 0, 0, 0) + data[12:])

    assert stage.ask("web1", "a", "db").rcode == NXDOMAIN


def test_a_container_on_two_networks_is_told_the_names_of_both(stage: Stage) -> None:
    assert stage.ask("both", "a", "db").records == (stage.ip["db"],)
    assert stage.ask("both", "b", "web-0").records == (stage.ip["web1"],)
    assert stage.ask("both", "b", "both").records == (stage.ip["both@b"],)


def test_a_container_of_another_network_gets_no_answer(stage: Stage) -> None:
    asker = inside(stage.ns["db"], lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with asker, pytest.raises(TimeoutError):
        dnsclient.by_udp(asker, stage.gateway["a"], question("web"), timeout_s=0.4)


def test_other_names_are_passed_on_single_words_included(stage: Stage) -> None:
    stage.upstream(_answer_with("203.0.113.1", "203.0.113.2"))

    assert stage.ask("web1", "a", "example.org").records == ("203.0.113.1", "203.0.113.2")
    assert stage.ask("web1", "a", "intranet").records == ("203.0.113.1", "203.0.113.2")
    assert stage.asked == ["example.org", "intranet"]


def test_nothing_is_passed_on_from_an_internal_network(stage: Stage) -> None:
    stage.upstream(_answer_with("203.0.113.1"))

    assert stage.ask("inner", "i", "secret.evil.example").rcode == NXDOMAIN
    assert stage.ask("inner", "i", "inner").records == (stage.ip["inner"],)
    assert stage.asked == []


def test_a_container_may_have_name_servers_of_its_own(stage: Stage) -> None:
    stage.upstream(_answer_with("203.0.113.1"))
    stage.resolv_conf.write_text("nameserver 192.0.2.253\n")
    stage.join("own", "a", "own", servers=(NEIGHBOUR,))

    assert stage.ask("own", "a", "example.org").records == ("203.0.113.1",)
    assert stage.ask("own", "a", "web-0").records == (stage.ip["web1"],)


def test_what_a_new_container_sends_first_is_not_lost(stage: Stage) -> None:
    """Where many start and end, the kernel is late in letting a new link carry anything."""
    stage.upstream(_answer_with("203.0.113.1"))
    make = "ip link add a type veth peer name b; ip link set a up; ip link set b up"
    churn = f"while :; do unshare -n sh -c '{make}; ip link add c type bridge'; done"
    with ExitStack() as busy:
        for _ in range(4):
            neighbours = subprocess.Popen(["sh", "-c", churn], stderr=subprocess.DEVNULL)
            busy.callback(neighbours.wait)
            busy.callback(neighbours.kill)
        for number in range(20):
            stage.join(f"new{number}", "a", f"new{number}")
            assert stage.ask(f"new{number}", "a", "example.org").records == ("203.0.113.1",)


def test_changes_are_seen_at_once(stage: Stage) -> None:
    stage.upstream(lambda data: data[:2] + struct.pack(">HHHHH", 0x8183, 1, 0, 0, 0) + data[12:])
    assert stage.ask("web1", "a", "db-new").rcode == NXDOMAIN

    attachment.set_names(stage.root, "a", "web2", ("db-new",))
    assert stage.ask("web1", "a", "db-new").records == (stage.ip["web2"],)
    assert stage.ask("web1", "a", "web").records == (stage.ip["web1"],)

    attachment.park(stage.root, "web2")
    assert stage.ask("web1", "a", "db-new").rcode == NXDOMAIN

    # The host's name servers too.
    stage.resolv_conf.unlink()
    assert stage.ask("web1", "a", "example.org").rcode == SERVFAIL


def test_the_next_server_is_asked_when_one_is_dead(stage: Stage) -> None:
    stage.upstream(_answer_with("203.0.113.1"))
    # Nobody listens on the first: the kernel says so.
    stage.resolv_conf.write_text(f"nameserver 127.0.0.99\nnameserver {NEIGHBOUR}\n")

    assert stage.ask("web1", "a", "example.org").records == ("203.0.113.1",)


def test_a_long_answer_is_cut_by_udp_and_whole_by_tcp(stage: Stage) -> None:
    many = [f"203.0.113.{n}" for n in range(1, 120)]
    stage.upstream(_answer_with(*many))
    for n in range(60):
        stage.join(f"r{n}", "a", "replica")

    own = stage.ask("web1", "a", "replica")
    assert own.cut
    assert own.size <= 512
    assert not stage.ask("web1", "a", "replica", edns=1232).cut
    assert stage.ask("web1", "a", "example.org").cut

    by_tcp = stage.ask_by_tcp("web1", "a", question("replica"), question("example.org"))
    assert [len(reply.records) for reply in by_tcp] == [60, 119]
    assert not any(reply.cut for reply in by_tcp)


def test_an_answer_to_another_question_is_not_believed(stage: Stage) -> None:
    def lie(data: bytes) -> bytes:
        return _answer_with("203.0.113.66")(data.replace(b"example", b"exomple"))

    stage.upstream(lie)

    assert stage.ask("web1", "a", "example.org").rcode == SERVFAIL


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\0" * 5,
        b"\0" * 12,
        b"\xff" * 40,
        question("web")[:-3],
        question("web")[:12] + b"\xc0\x0c\0\1\0\1",
        question("web")[:2] + b"\x80" + question("web")[3:],
    ],
    ids=["empty", "short", "no question", "noise", "torn", "pointer loop", "an answer"],
)
def test_garbage_does_no_harm(stage: Stage, garbage: bytes) -> None:
    with inside(stage.ns["web1"], lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as s:
        s.sendto(garbage, (stage.gateway["a"], 53))
    with inside(stage.ns["web1"], lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as s:
        s.settimeout(5)
        s.connect((stage.gateway["a"], 53))
        s.sendall(struct.pack(">H", len(garbage)) + garbage)

    assert stage.ask("web1", "a", "web-0").records == (stage.ip["web1"],)


def test_one_client_cannot_take_all_the_room(stage: Stage) -> None:
    # An upstream that never answers: every question waits.
    silent = inside(stage.host.neighbour, lambda: _listen(socket.SOCK_DGRAM, NEIGHBOUR))
    stage.host.stack.callback(silent.close)
    with inside(stage.ns["web1"], lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as s:
        for number in range(200):
            s.sendto(question(f"n{number}.example", number=number), (stage.gateway["a"], 53))
        s.settimeout(5)
        refused = [dnsclient.parse(s.recv(512)) for _ in range(100)]

    assert {reply.rcode for reply in refused} == {SERVFAIL}
    assert stage.ask("web2", "a", "web-0").records == (stage.ip["web1"],)


def test_the_process_serves_as_nobody_and_ends_with_its_orders(world: Path) -> None:
    root = Root.at(world)
    with test_host(world) as host:
        gateway = network.ensure_network(root, "a").gateway
        ns = host.namespace("c1")
        ip = attachment.attach(root, "a", "c1", ns, names=("c1",)).ip
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        zones = os.open(root.run / "dns", os.O_RDONLY | os.O_DIRECTORY)
        pid = os.posix_spawn(
            "/proc/self/exe",
            command("runtime.network.dnsserver", "3", "4"),
            {},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
                (os.POSIX_SPAWN_DUP2, zones, 4),
            ],
        )
        theirs.close()
        os.close(zones)
        udp, tcp = _sockets(gateway)
        order = json.dumps({"op": "listen", "address": gateway}).encode()
        socket.send_fds(ours, [order], [udp.fileno(), tcp.fileno()])
        with inside(ns, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asker:
            assert dnsclient.by_udp(asker, gateway, question("c1")).records == (ip,)
        status = Path(f"/proc/{pid}/status").read_text()

        for held in (udp, tcp, ours):
            held.close()
        _, code = os.waitpid(pid, 0)

    assert "Uid:\t65534\t65534\t65534\t65534" in status
    assert "CapEff:\t0000000000000000" in status
    assert code == 0
    print(next(line for line in status.splitlines() if line.startswith("VmRSS")))
