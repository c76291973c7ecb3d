"""Many containers with network on one host: what the hundredth costs, and what the thousandth."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Row, pss, timed

_HUNDRED = 100
_PORT = 8080
_MANIFEST = """
apiVersion: bayplan/v1alpha1
kind: Project
metadata: {{name: crowd}}
---
apiVersion: bayplan/v1alpha1
kind: Image
metadata: {{name: box}}
spec: {{host: {{programs: [/bin/busybox]}}}}
---
apiVersion: bayplan/v1alpha1
kind: Network
metadata: {{name: net}}
spec: {{subnet: 10.77.0.0/16}}
---
apiVersion: bayplan/v1alpha1
kind: Service
metadata: {{name: web}}
spec:
  replicas: {count}
  container:
    image: box
    command: [busybox, httpd, -f, -p, "80", -h, /]
    stopSignal: SIGKILL
    networks: [net]
    resources: {{memory: 32Mi}}
  publish: [{{port: {port}, targetPort: 80}}]
  update: {{healthyFor: 0s}}
"""


class Crowd:
    """A world with one Service."""

    def __init__(self, folder: Path) -> None:
        self._cli = [str(Path(sys.executable).parent / "bayplan"), "--root", str(folder / "crowd")]
        self._manifest = folder / "crowd.yaml"

    def apply(self, count: int) -> float:
        """Return the seconds it takes to have *count* replicas."""
        self._manifest.write_text(_MANIFEST.format(count=count, port=_PORT))
        return timed([*self._cli, "apply", "-f", str(self._manifest)])

    def call(self, *words: str) -> float:
        """Return the seconds of one command."""
        return timed([*self._cli, *words])

    def addresses(self) -> list[str]:
        """Return the address of each container."""
        ids = subprocess.check_output([*self._cli, "ps", "-q"], text=True).split()
        told = json.loads(subprocess.check_output([*self._cli, "inspect", *ids]))
        return [each["networks"][0]["ip"] for each in told]


def rows(folder: Path, count: int) -> Iterator[Row]:
    """Yield one row per thing measured, of *count* containers."""
    crowd = Crowd(folder)
    crowd.apply(0)
    try:
        yield from _up(crowd, count)
    finally:
        seconds = crowd.call("delete", "-p", "crowd")
    yield "delete, s", [seconds]


def _up(crowd: Crowd, count: int) -> Iterator[Row]:
    yield "first hundred, s", [crowd.apply(_HUNDRED)]
    crowd.apply(count - _HUNDRED)
    yield f"last hundred of {count}, s", [crowd.apply(count)]
    yield "apply that changes nothing, s", [min(crowd.apply(count) for _ in range(3))]
    yield "ps, s", [crowd.call("ps")]
    yield "stats once, s", [crowd.call("stats", "--no-stream")]
    yield "memory beside each, MiB (PSS)", [pss(b"runtime.supervisor", b"runtime.network") / count]
    addresses = crowd.addresses()
    assert len(addresses) == count
    began = time.perf_counter()
    for address in addresses:
        fetch(address, 80)
    yield "a page from each, s", [time.perf_counter() - began]
    began = time.perf_counter()
    for _ in range(count):
        fetch("127.0.0.1", _PORT)
    yield "as many by the published port, s", [time.perf_counter() - began]


def fetch(address: str, port: int) -> None:
    """Ask for a page; that there is an answer counts."""
    with socket.create_connection((address, port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.")
