"""Health checks as the supervisor makes them."""

import os
import signal
import socket
import threading

import pytest

from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy
from runtime.container.program import compile_enter
from runtime.kernel.namespaces import CLONE_NEWNET, setns
from runtime.spec import Mount, Resources
from runtime.supervisor.request import Health, Restart, Stop
from tests.support.supervised import Supervised
from tests.support.waiting import SLOWNESS, wait_until

pytestmark = pytest.mark.kernel

ALWAYS = Restart(policy="always", backoff=0.01)


@pytest.fixture
def host(world):
    host = Supervised(world)
    yield host
    host.close()


@pytest.fixture
def flags(host, world):
    """A folder that containers see at /flags."""
    folder = world / "flags"
    folder.mkdir()
    (host.places / "flags").mkdir()
    return folder


def launch(host, flags, health, **fields):
    return host.launch(
        "a",
        "echo run; exec sleep 98762",
        mounts=(Mount("/flags", "bind", str(flags), ("rbind", "ro")),),
        health=health,
        stop=Stop(grace=0),
        **fields,
    )


def exec_check(host, script, **times):
    program = compile_enter(host.process("sh", "-c", script)).to_json()
    times = {"interval": 0.05, "timeout": 5, "retries": 2, **times}
    return Health(kind="exec", program=program, **times)


def test_exec_health_restarts_what_is_unhealthy(host, flags):
    check = exec_check(
        host, "if [ -e /flags/sick ]; then echo $((6*7)) sick; exit 1; fi; echo fine"
    )
    launch(host, flags, check, restart=ALWAYS)
    told = host.wait_status("a", lambda s: s.health == "healthy")
    assert told.health_output == "fine"
    (flags / "sick").touch()
    told = host.wait_status("a", lambda s: s.health == "unhealthy")
    assert told.health_output == "42 sick"
    (flags / "sick").unlink()
    told = host.wait_status("a", lambda s: s.restarts == 1 and s.health == "healthy")
    assert told.state == "running"


def test_a_probe_that_cannot_even_die_holds_up_nobody(host, flags):
    """As in a container that was frozen: its signals wait for the thaw, SIGKILL included."""
    group = Cgroup(Hierarchy.detect(), f"{host.root.cgroup}/frozen")
    group.create(Resources())
    try:
        group.freeze()
        process = host.process("true")
        program = compile_enter(process, cgroup_join=group.join_files()).to_json()
        check = Health(kind="exec", program=program, interval=0.1, timeout=0.2, retries=1)
        launch(host, flags, check, restart=Restart())
        told = host.wait_status("a", lambda s: s.health == "unhealthy")
        assert "no end within 0.2 s" in told.health_output
        assert host.client.status("a").state == "running"
        if "freezer" in group.hierarchy.places:  # with version 2 SIGKILL ends who is frozen
            assert len(group.pids()) >= 1
        host.client.stop("a", signal=signal.SIGKILL, grace=0)
        group.thaw()
        wait_until(lambda: not group.pids())
        wait_until(lambda: not host.zombies())
    finally:
        group.kill()
        group.delete()
        Cgroup(group.hierarchy, host.root.cgroup).delete(nested=False)


def test_unhealthy_without_restart_is_only_told(host, flags):
    launch(host, flags, exec_check(host, "exit 1", on_unhealthy="none"), restart=ALWAYS)
    host.wait_status("a", lambda s: s.health == "unhealthy")
    # Nor where the container is never to be restarted.
    host.client.configure("a", health=exec_check(host, "exit 1"), restart=Restart())
    host.wait_status("a", lambda s: s.health == "starting")
    told = host.wait_status("a", lambda s: s.health == "unhealthy")
    assert (told.state, told.restarts) == ("running", 0)


def test_a_verdict_of_another_check_is_forgotten_also_while_it_waits_for_its_restart(host, flags):
    slowly = Restart(policy="always", backoff=1000, max_backoff=1000)
    launch(host, flags, exec_check(host, "echo no; exit 1"), restart=slowly)
    told = host.wait_status("a", lambda s: s.state == "restarting")
    assert (told.health, told.health_output) == ("unhealthy", "no")
    host.client.configure("a", health=exec_check(host, "exit 0"), restart=slowly)
    told = host.client.status("a")
    assert (told.state, told.health, told.health_output) == ("restarting", "starting", "")
    host.client.stop("a", signal=signal.SIGKILL, grace=0)


def test_failures_in_the_start_period_do_not_count(host, flags):
    check = exec_check(host, "[ -e /flags/ready ]", start_period=1000)
    launch(host, flags, check)
    with pytest.raises(TimeoutError):
        host.wait_status("a", lambda s: s.health != "starting", timeout_s=0.5)
    (flags / "ready").touch()
    host.wait_status("a", lambda s: s.health == "healthy")


def test_a_probe_that_hangs_is_killed_whole(host, flags):
    patience = 0.2 * SLOWNESS
    check = exec_check(host, "echo before; sleep 98761 & sleep 98761", timeout=patience)
    launch(host, flags, check)
    told = host.wait_status("a", lambda s: s.health == "unhealthy")
    assert told.health_output == f"no end within {patience:g} s: before"
    host.client.configure("a", health=None)
    wait_until(lambda: not host.processes("sleep", "98761"))
    assert host.client.status("a").health == "none"


def test_health_goes_on_after_the_supervisor_was_killed(host, flags):
    launch(host, flags, exec_check(host, "[ ! -e /flags/sick ]"), restart=Restart())
    host.wait_status("a", lambda s: s.health == "healthy")
    host.kill_supervisor()
    assert host.client.status("a").health == "healthy"
    (flags / "sick").touch()
    host.wait_status("a", lambda s: s.health == "unhealthy")


class Answering:
    """A server inside the network namespace of container a, answering with *reply*."""

    def __init__(self, host, reply):
        self.reply = reply
        self.heard = b""
        self.listener = None
        pid = host.client.status("a").pid
        thread = threading.Thread(target=self._listen, args=(pid,))
        thread.start()
        thread.join()
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _listen(self, pid):
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        setns(namespace, CLONE_NEWNET)
        os.close(namespace)
        self.listener = socket.create_server(("127.0.0.1", 0))

    def _serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self.heard = connection.recv(4096)
                connection.sendall(self.reply)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


def network_check(supervised, kind, port, **changes):
    netns = f"/proc/{supervised.client.status('a').pid}/ns/net"
    changes = {"interval": 0.05, "timeout": 1, "retries": 1, **changes}
    return Health(kind=kind, port=port, netns=netns, on_unhealthy="none", **changes)


def test_http_health_from_inside_the_network(host):
    host.launch("a", "exec sleep 98762")
    server = Answering(host, b"HTTP/1.1 204 No Content\r\n\r\n")
    check = network_check(host, "http", server.port, path="/healthz", host="shop")
    host.client.configure("a", health=check)
    told = host.wait_status("a", lambda s: s.health == "healthy")
    assert told.health_output == "204 No Content"
    assert server.heard.startswith(b"GET /healthz HTTP/1.1\r\nHost: shop\r\n")
    server.reply = b"HTTP/1.1 503 Busy\r\nContent-Length: 8\r\n\r\ntry more and more"
    told = host.wait_status("a", lambda s: s.health == "unhealthy")
    assert told.health_output.startswith("503 Busy: try more")
    server.close()
    wait_until(lambda: "refused" in host.client.status("a").health_output)
    worker = host.client.ping()["probes"]
    with open(f"/proc/{worker}/status") as file:
        ids = dict(line.rstrip("\n").split(":\t") for line in file)
    assert ids["Uid"].split() == ids["Gid"].split() == ["65534"] * 4
    assert (ids["CapEff"], ids["Groups"].split()) == ("0" * 16, [])


def test_tcp_health_and_the_probe_process_is_replaced(host):
    host.launch("a", "exec sleep 98762")
    server = Answering(host, b"")
    host.client.configure("a", health=network_check(host, "tcp", server.port))
    host.wait_status("a", lambda s: s.health == "healthy")
    before = host.client.ping()["probes"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: host.client.ping()["probes"] not in (0, before))
    host.wait_status("a", lambda s: s.health == "healthy")
    server.close()
    host.wait_status("a", lambda s: s.health == "unhealthy")


def test_a_probe_process_that_cannot_even_die_holds_up_nobody(host):
    host.launch("a", "exec sleep 98762")
    server = Answering(host, b"")
    patience = 0.2 * SLOWNESS
    host.client.configure("a", health=network_check(host, "tcp", server.port, timeout=patience))
    host.wait_status("a", lambda s: s.health == "healthy")
    stuck = host.client.ping()["probes"]
    with host.frozen(stuck):
        told = host.wait_status("a", lambda s: s.health == "unhealthy")
        assert told.health_output == f"no answer within {patience:g} s"
        host.wait_status("a", lambda s: s.health == "healthy")
        assert host.client.ping()["probes"] != stuck
    wait_until(lambda: not host.zombies())
    server.close()


def test_a_silent_server_is_not_healthy(host):
    host.launch("a", "exec sleep 98762")
    server = Answering(host, b"HTT")
    server.reply = b"SSH-2.0-strange\r\n"
    host.client.configure("a", health=network_check(host, "http", server.port))
    told = host.wait_status("a", lambda s: s.health == "unhealthy")
    assert told.health_output.endswith("not an HTTP response")
    server.close()


def test_early_probes_make_healthy_before_the_first_interval_is_over(host):
    host.launch("a", "exec sleep 98762", health=exec_check(host, "exit 0", interval=1000))
    host.wait_status("a", lambda s: s.health == "healthy", timeout_s=5)
