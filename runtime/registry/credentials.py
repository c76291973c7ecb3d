"""Names and passwords of registries: Docker's config.json, and the helpers it names.

Source: Docker CLI reference, "docker login", "Credential stores" and "Credential helpers";
docker-credential-helpers, README.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.errors import ImageError
from runtime.image.reference import DEFAULT_REGISTRY
from runtime.kernel.flock import flock_within
from runtime.kernel.replace import replace_file
from runtime.registry.auth import Credentials

_DOCKER_HUB = "https://index.docker.io/v1/"
"""What Docker Hub is called in config.json."""
_HELPER = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_HELPER_S = 30.0
_WAIT_S = 10.0
_IDENTITY = "<token>"
"""The name a helper gives an identity token."""


class Keyring:
    """The credentials in one config.json, which need not exist."""

    def __init__(self, path: Path | None = None) -> None:
        """Take the file at *path*: by default that of ``DOCKER_CONFIG``, or in the home folder."""
        folder = os.environ.get("DOCKER_CONFIG")
        home = Path(folder) if folder else Path.home() / ".docker"
        self.path = path or home / "config.json"

    def find(self, registry: str, repository: str = "") -> Credentials | None:
        """Return the credentials for a repository; those that say more of its name come first.

        Raises:
            ImageError: the file is none of Docker's, or a helper fails.
        """
        tree = self._read()
        helpers = _mapping(tree, "credHelpers")
        if (helper := helpers.get(_key(registry))) is not None:
            return _ask(helper, _key(registry))
        store = tree.get("credsStore")
        if store and (found := _ask(store, _key(registry))) is not None:
            return found
        entries = {_plain(key): value for key, value in _mapping(tree, "auths").items()}
        parts = [_plain(_key(registry)), *(repository.split("/") if repository else ())]
        for length in range(len(parts), 0, -1):
            entry = entries.get("/".join(parts[:length]))
            if entry is not None and (found := _entry(entry, self.path)) is not None:
                return found
        return None

    def put(self, registry: str, credentials: Credentials) -> str:
        """Keep *credentials*, by a helper if one is configured; return where they are now.

        In the file they are readable to whoever reads it (0600), as Docker keeps them.

        Raises:
            ImageError: the file is none of Docker's, or a helper fails.
        """
        tree = self._read()
        helper = _mapping(tree, "credHelpers").get(_key(registry)) or tree.get("credsStore")
        if helper:
            name = _IDENTITY if credentials.identity_token else credentials.username
            secret = credentials.identity_token or credentials.password
            said = {"ServerURL": _key(registry), "Username": name, "Secret": secret}
            _run(helper, "store", json.dumps(said))
            return f"docker-credential-{helper}"
        pair = f"{credentials.username}:{credentials.password}".encode()
        entry = {"auth": base64.b64encode(pair).decode()}
        if credentials.identity_token:
            entry["identitytoken"] = credentials.identity_token
        self._change(lambda auths: auths | {_key(registry): entry})
        return str(self.path)

    def drop(self, registry: str) -> bool:
        """Forget the credentials of *registry*; tell whether there were any. Idempotent.

        Raises:
            ImageError: the file is none of Docker's, or a helper fails.
        """
        tree = self._read()
        helper = _mapping(tree, "credHelpers").get(_key(registry)) or tree.get("credsStore")
        found = False
        if helper and _ask(helper, _key(registry)) is not None:
            _run(helper, "erase", _key(registry))
            found = True
        wanted = _plain(_key(registry))
        if any(_plain(key) == wanted for key in _mapping(tree, "auths")):
            self._change(lambda auths: {k: v for k, v in auths.items() if _plain(k) != wanted})
            found = True
        return found

    def _read(self) -> dict[str, Any]:
        try:
            tree = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (ValueError, OSError) as error:
            raise ImageError(f"{self.path}: {error}") from error
        if not isinstance(tree, dict):
            raise ImageError(f"{self.path}: is no JSON object")
        return tree

    def _change(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Write the file anew with other ``auths``; what else is in it stays."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not flock_within(fd, fcntl.LOCK_EX, _WAIT_S):
                raise ImageError(f"{self.path}: is being changed by somebody else")
            tree = self._read()
            tree["auths"] = change(_mapping(tree, "auths"))
            # Where it is a link, as those who keep such files elsewhere have it, it stays one.
            target = os.path.realpath(self.path)
            replace_file(target, json.dumps(tree, indent="\t").encode() + b"\n", safe=True)
        finally:
            os.close(fd)


def _ask(helper: Any, registry: str) -> Credentials | None:
    said = _run(helper, "get", registry, may_fail=True)
    if said is None:
        return None
    try:
        tree = json.loads(said)
        name, secret = str(tree["Username"]), str(tree["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(f"docker-credential-{helper} get: answers no credentials") from error
    if name == _IDENTITY:
        return Credentials(identity_token=secret)
    return Credentials(name, secret)


def _run(helper: Any, verb: str, said: str, *, may_fail: bool = False) -> str | None:
    """Return what a helper answers; None if it *may_fail* and has no such credentials."""
    if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
        raise ImageError(f"config.json names a credential helper {helper!r}, which is no name")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, verb],
            input=said,
            capture_output=True,
            text=True,
            timeout=_HELPER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"{program} {verb}: {error}") from error
    if done.returncode == 0:
        return done.stdout
    # Helpers say on stdout what went wrong.
    reason = (done.stdout or done.stderr).strip()
    if may_fail and "not found" in reason:
        return None
    raise ImageError(f"{program} {verb}: {reason[:200] or f'failed with {done.returncode}'}")


def _entry(entry: Any, path: Path) -> Credentials | None:
    """Return what an entry of ``auths`` holds; None for the empty one that stands for a helper."""
    if not isinstance(entry, dict):
        raise ImageError(f"{path}: an entry of auths is no JSON object")
    if token := entry.get("identitytoken"):
        return Credentials(identity_token=str(token))
    if auth := entry.get("auth"):
        try:
            name, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, ValueError, TypeError) as error:
            raise ImageError(f"{path}: an auth is not base64 of NAME:PASSWORD") from error
        if colon:
            # Docker for Windows pads with zero bytes.
            return Credentials(name, password.rstrip("\0"))
    if entry.get("username"):
        return Credentials(str(entry["username"]), str(entry.get("password", "")))
    return None


def _key(registry: str) -> str:
    return _DOCKER_HUB if registry == DEFAULT_REGISTRY else registry


def _plain(key: str) -> str:
    """Return a key of ``auths`` without scheme and the path of an API, as old clients wrote it."""
    for scheme in ("https://", "http://"):
        key = key.removeprefix(scheme)
    key = key.removesuffix("/")
    return key.removesuffix("/v1").removesuffix("/v2")


def _mapping(tree: dict[str, Any], key: str) -> dict[str, Any]:
    value = tree.get(key)
    return value if isinstance(value, dict) else {}
