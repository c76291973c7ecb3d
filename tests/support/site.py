"""A project of nearly every kind in two states, for tests that stop the engine anywhere in it."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.support.cli import Bayplan
from tests.support.fuse import Ran, run_with_fuse
from tests.support.leaks import Snapshot
from tests.support.manifests import HEAD, document, sleeper

PORTS = {"alpha": 18131, "beta": 18132}


def manifest(word: str, *, subnet: str = "", env: str = "") -> str:
    return (
        HEAD.replace("[/bin/busybox]", "[/bin/busybox], files: [/etc/debian_version]")
        + document("Network", "net", f"{{subnet: {subnet}}}" if subnet else "{}")
        + document("Volume", "data", "{}")
        + document("Volume", "etc", "{}")
        + document("Config", "page", f"{{data: {{index.html: {word}}}}}")
        + document("Secret", "key", f"{{allowPlaintext: true, data: {{word: {{text: x{word}}}}}}}")
        + sleeper(
            "keeper",
            "networks: [net], secrets: [key], volumes: [{volume: data, target: /data}, "
            f"{{volume: etc, target: /etc}}], env: {{WORD: {env or word}}}",
        )
        + document(
            "Job",
            "seed",
            "{idempotent: true, container: {image: box, command: [sh, -c, 'date >> /data/runs'], "
            "networks: [net], volumes: [{volume: data, target: /data}]}}",
        )
        + document(
            "Service",
            "web",
            f"{{replicas: 2, publish: [{{port: {PORTS[word]}, targetPort: 8080}}], "
            "container: {image: box, command: [busybox, httpd, -f, -p, '8080', -h, /srv], "
            "stopSignal: SIGKILL, networks: [net], configs: [{name: page, target: /srv}], "
            "health: {http: {port: 8080, path: /index.html}, interval: 100ms, timeout: 20s}}, "
            "dependsOn: [{kind: Job, name: seed, condition: completed}]}",
        )
    )


class Site:
    """Two states of one project, and what must be true of each however it was got to."""

    def __init__(self, world: Path | None, manifests: Path) -> None:
        """*world* is none for the default one; *manifests* is a folder to put them."""
        self.bayplan = Bayplan(world)
        self.fresh = Snapshot.take(world, files=True)
        self.files = {}
        for word, subnet in (("alpha", "10.79.241.0/24"), ("beta", "10.79.242.0/24")):
            self.files[word] = str(manifests / f"{word}.yaml")
            (manifests / f"{word}.yaml").write_text(manifest(word, subnet=subnet))

    def apply(self, word: str, left: int, *, deep: bool = False) -> Ran:
        words = ["apply", "-f", self.files[word]]
        return run_with_fuse(self.bayplan, words, left, deep=deep)

    def delete(self, left: int, *, deep: bool = False) -> Ran:
        words = ["delete", "-p", "test", "--delete-volumes"]
        return run_with_fuse(self.bayplan, words, left, deep=deep)

    def check_converges(self, word: str, when: str) -> None:
        bayplan = self.bayplan
        done = bayplan("apply", "-f", self.files[word], code=None)
        assert done.returncode == 0, f"{when}\n{done.stdout}\n{done.stderr}"
        plan = bayplan("plan", "-f", self.files[word]).stdout
        assert "nothing to do" in plan, f"{when}\n{plan}"
        assert bayplan("doctor", code=None).stdout == "all is well\n", when
        names = [container["name"] for container in bayplan.json("ps", "-a")]
        assert sorted(names) == ["test.keeper", "test.seed", "test.web.0", "test.web.1"], when
        assert _page(PORTS[word]).endswith(f"\r\n\r\n{word}"), when

    def check_gone(self, when: str) -> None:
        self.bayplan("delete", "-p", "test", "--delete-volumes")
        assert self.bayplan("doctor", code=None).stdout == "all is well\n", when
        left = Snapshot.take(self.bayplan.folder, files=True).wait_settled(self.fresh)
        assert left == [], when


def _page(port: int) -> str:
    """Return the whole answer to a request; urllib takes seconds to import in a slow machine."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as server:
        server.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: server.recv(4096), b"")).decode()
