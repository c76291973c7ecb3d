"""Worlds of an ordinary user: the same commands, without root, and nothing left of them."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.manifests import HEAD, document
from tests.support.ordinary import Ordinary, delegated_group, first_subordinate, ordinary_user, uid
from tests.support.testhost import inside
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

PORT, LOCAL = 18180, 18181
_ANSWER = "[nc, -ll, -p, '80', -e, echo, hello]"


def web(port: int = PORT, *, resources: str = "", command: str = _ANSWER) -> str:
    """Return a container that answers on two ports of the host, one of localhost only."""
    limits = f", resources: {{{resources}}}" if resources else ""
    return HEAD + document(
        "Container",
        "web",
        f"{{publish: [{{port: {port}, targetPort: 80}},"
        f" {{port: {LOCAL}, targetPort: 80, ip: 127.0.0.1}}], update: {{healthyFor: 0s}},"
        f" container: {{image: box, command: {command},"
        f" stopSignal: SIGKILL{limits}}}}}",
    )


@pytest.fixture
def user() -> Iterator[Ordinary]:
    with ordinary_user() as found:
        yield found


def test_everything_a_user_does_works_without_root_and_leaves_nothing(user: Ordinary):
    assert user.plan(web())["summary"]["create"] > 0
    assert os.listdir(user.folder / "home") == os.listdir(user.folder / "session") == []

    user.apply(web())
    again = {verb: count for verb, count in user.apply(web())["summary"].items() if count}
    assert again == {"noop": 3}
    wait_until(lambda: user.ask(PORT) == "hello")
    assert user.ask(LOCAL) == user.ask(PORT, ip="198.51.100.2") == "hello"
    with pytest.raises(ConnectionRefusedError):
        user.ask(LOCAL, ip="198.51.100.2")
    assert user("doctor").stdout == "all is well\n"

    script = "id -u; cat /proc/self/uid_map; touch /x; echo told >&2; exit 7"
    done = user("run", "--rm", "test/box", "sh", "-c", script, code=7)
    assert done.stdout.split() == [
        "0",
        "0",
        str(uid()),
        "1",
        "1",
        str(first_subordinate()),
        "65536",
    ]
    assert "told" in done.stderr
    assert user("run", "--rm", "--user", "1000:1000", "test/box", "id").stdout.startswith(
        "uid=1000"
    )
    assert user("exec", "test.web", "hostname").stdout == "web\n"
    assert [each["command"][0] for each in user.json("top", "test.web")][:1] == ["nc"]
    outside = inside(user.host, lambda: socket.create_server(("198.51.100.2", 18182)))
    with outside, user.start("exec", "test.web", "nc", "198.51.100.2", "18182") as asking:
        outside.settimeout(20)
        connection, (who, _) = outside.accept()
        connection.sendall(b"reached\n")
        connection.close()
        assert (who, asking.communicate(timeout=20)[0]) == ("198.51.100.2", "reached\n")

    user.delete("test")
    user.delete("test")
    wait_until(lambda: not user.pids())
    assert not user.socket.parent.exists()


def test_what_a_user_cannot_have_is_refused_by_plan(user: Ordinary):
    (low,) = user.plan(web(80), code=1)["refusals"]
    assert "port 80/tcp is not for ordinary users, who have those from 1024 on" in low
    (limit,) = user.plan(web(resources="memory: 64Mi, cpus: 0.5, pids: 9"), code=1)["refusals"]
    assert "memory.limit, cpu.quota, pids.limit: no cgroup" in limit
    with inside(user.host, lambda: socket.create_server(("127.0.0.1", PORT))):
        (taken,) = user.plan(web(), code=1)["refusals"]
    assert taken == f"Container/web: port {PORT}/tcp is in use by a program of this host"
    assert user.pids() == {}


def test_containers_outlive_holder_and_network_program(user: Ordinary):
    user.apply(web())
    user.kill("slirp4netns")
    wait_until(lambda: _says(user, LOCAL) == "hello")
    user.kill("rootless.holder")
    wait_until(lambda: not user.pids("slirp4netns"))

    (container,) = user.json("ps")
    wait_until(lambda: _says(user, LOCAL) == _says(user, PORT) == "hello")
    assert user.json("ps")[0]["id"] == container["id"]
    user.kill("rootless.holder")
    taken: list[socket.socket] = []

    def take() -> bool:
        # slirp4netns is dead before its sockets are closed.
        with suppress(OSError):
            taken.append(inside(user.host, lambda: socket.create_server(("127.0.0.1", LOCAL))))
        return bool(taken)

    wait_until(take)
    with taken[0]:
        planned = " ".join(user("plan", "-f", "-", stdin=web()).stdout.split())
    assert f"port 127.0.0.1:{LOCAL}/tcp of the host is not handed on" in planned
    assert f"port {PORT}/tcp" not in planned
    user.apply(web())
    assert user.json("ps")[0]["id"] == container["id"]
    wait_until(lambda: _says(user, LOCAL) == "hello")
    user.delete("test")
    wait_until(lambda: not user.pids())


def test_containers_end_with_the_session(user: Ordinary):
    user.apply(web())
    user.socket.unlink()
    wait_until(lambda: not user.pids())

    user.apply(web())
    wait_until(lambda: _says(user, PORT) == "hello")
    user.delete("test")


def test_a_delegated_cgroup_is_used():
    with delegated_group() as group, ordinary_user(group=group) as user:
        user.apply(HEAD)
        name = user("run", "-d", "--name", "one", "test/box", "sleep", "1000").stdout.strip()
        user("pause", "one")
        frozen = (group / "bayplan" / name / "cgroup.events").read_text()
        assert "frozen 1" in frozen
        assert user.json("stats", "one")[0]["cpuPercent"] == 0.0
        user("rm", "-f", "one")
        user.delete("test")


_OCI = """
set -eu
oci() { "$PYTHON" -c 'from runtime.cli.main import main; main()' "$@"; }
mkdir -p "$HOME/box/rootfs/bin"
cp /bin/busybox "$HOME/box/rootfs/bin/sh"
cd "$HOME/box"
oci spec
sed -i 's/"terminal": true/"terminal": false/' config.json
echo 'echo from $$; : < /dev/zero; [ -d /proc/1 ]; (: > /x) || echo read-only' | oci run first
oci list -q
sed -i 's/"linux": {/"linux": {"resources": {"pids": {"limit": 9}},/' config.json
oci run second || true
"""


def test_another_engine_of_the_user_calls_the_runtime_as_root_of_its_namespace(user: Ordinary):
    words = [*user.as_user, "unshare", "--user", "--map-root-user", "--map-auto", "sh", "-c", _OCI]
    environment = user.environment | {"PYTHON": user.command[-3]}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split("\n") == ["from 1", "read-only", ""], done.stderr
    assert "pids.limit: no cgroup that could limit this is delegated" in done.stderr


def test_without_subordinate_ids_it_is_said_how_to_get_some():
    with ordinary_user(subordinate=False) as user:
        failed = user("run", "test/box", "true", code=77)
        assert "granted to ordinary by /etc/subuid and /etc/subgid; as root" in failed.stderr
        options = "--add-subuids 100000-165535 --add-subgids 100000-165535"
        assert f"usermod {options} ordinary" in failed.stderr
        user("validate", "-f", "-", stdin=web())
        assert os.listdir(user.folder / "home") == []


def _says(user: Ordinary, port: int) -> str:
    try:
        return user.ask(port)
    except OSError:
        return ""
