"""Debian's docker-registry on loopback, and a line to it that may be cut."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Server:
    """A registry at *host*, which is ``ADDRESS:PORT``."""

    host: str
    scheme: str = "http"

    def push(self, archive: Path, tag: str, name: str, *, credentials: str = "") -> str:
        """Have skopeo push an image of a docker-archive; return its digest."""
        target = f"docker://{self.host}/{name}"
        source = f"docker-archive:{archive}:{tag}"
        known = [f"--dest-creds={credentials}"] if credentials else []
        copy = ["skopeo", "copy", "-q", "--dest-tls-verify=false", *known, source, target]
        subprocess.run(copy, check=True)
        known = [f"--creds={credentials}"] if credentials else []
        inspect = ["skopeo", "inspect", "--tls-verify=false", *known, target]
        said = subprocess.check_output(inspect)
        return str(json.loads(said)["Digest"])


@contextmanager
def docker_registry(folder: Path, *, auth: str = "", readonly: bool = False) -> Iterator[Server]:
    """Run one that keeps what it has in *folder*; *auth* is YAML of its configuration."""
    port = free_port()
    folder.mkdir()
    (folder / "config.yml").write_text(
        "version: 0.1\n"
        "log: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}, "
        f"maintenance: {{readonly: {{enabled: {str(readonly).lower()}}}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n{auth}"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )
        try:
            wait_until(lambda: process.poll() is None and _listens(port))
            yield Server(f"127.0.0.1:{port}")
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/", timeout=5):
            return True
    except OSError:
        return False


class Cutter:
    """Passes connections on to *target*, each for so many bytes of answer, and counts those."""

    def __init__(self, target: str, cut_after: int) -> None:
        address, _, port = target.partition(":")
        self._target = (address, int(port))
        self.cut_after = cut_after
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.passed = 0
        self.cuts = 0
        self._stalled: list[socket.socket] = []
        self.stalls = False
        """A connection that had its bytes stays, and gets no more."""
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        for each in (self._server, *self._stalled):
            each.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            there = socket.create_connection(self._target)
            threading.Thread(target=self._ask, args=(client, there), daemon=True).start()
            threading.Thread(target=self._answer, args=(there, client), daemon=True).start()

    def _ask(self, client: socket.socket, there: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                there.sendall(data)
            there.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _answer(self, there: socket.socket, client: socket.socket) -> None:
        left = self.cut_after
        try:
            while data := there.recv(min(65536, left)):
                client.sendall(data)
                self.passed += len(data)
                left -= len(data)
                if not left:
                    if self.stalls:
                        self._stalled += (there, client)
                        return
                    self.cuts += 1
                    break
        except OSError:
            pass
        for each in (there, client):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
