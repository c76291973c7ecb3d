"""Secret values from where they live: a file, the environment, a command, an age file.

Nothing here puts a value into a text: errors name the source and what is wrong with it, never
what it says, and a command's output is not repeated even when it fails.
"""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from provider.manifest.reading import read_file
from provider.model.secret import SecretValue
from provider.model.tree import Tree
from runtime.record import dataclass

if TYPE_CHECKING:
    import subprocess

UNRESOLVED = "(unresolved)"
"""Stands for a fingerprint where values may not be read, or there is no key to hash them with."""

ARMOR = "-----BEGIN AGE ENCRYPTED FILE-----"
COMMAND_TIMEOUT_S = 30.0
_MAX_BYTES = 1 << 20


class SecretSourceError(Exception):
    """A value cannot be had; the text says why without any of it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the sources of one manifest see."""

    folder: Path
    """Folder of the manifest; relative files are there, and commands run there."""
    environment: Mapping[str, str]
    command_timeout_s: float = COMMAND_TIMEOUT_S


def read_secret(
    item: Tree, surroundings: Surroundings, *, identity: str | None = None
) -> SecretValue:
    """Return the value behind one normalised item (``file``, ``fromEnv``, ...).

    A file's bytes are taken as they are; one newline at the end of a command's output is dropped,
    as a shell does. *identity* is the file with the age identities that open ``encrypted``.

    Raises:
        SecretSourceError: the source is missing, unreadable, too large, or refuses.
    """
    if item["file"] is not None:
        return SecretValue(_read_file(surroundings.folder / item["file"]))
    if item["fromEnv"] is not None:
        return SecretValue(_from_environment(item["fromEnv"], surroundings.environment))
    if item["command"] is not None:
        return SecretValue(_run(item["command"], surroundings))
    if item["encrypted"] is not None:
        return SecretValue(_decrypt(item["encrypted"], surroundings, identity))
    return SecretValue(item["text"].encode())


def _read_file(path: Path) -> bytes:
    try:
        content = read_file(str(path), _MAX_BYTES)
    except OSError as error:
        raise SecretSourceError(f"cannot read {path}: {error.strerror}") from error
    return _checked(content, str(path))


def _checked(content: bytes, source: str) -> bytes:
    if len(content) > _MAX_BYTES:
        raise SecretSourceError(f"{source} holds more than {_MAX_BYTES >> 20} MiB")
    return content


def _from_environment(name: str, environment: Mapping[str, str]) -> bytes:
    if name not in environment:
        raise SecretSourceError(f"environment variable {name} is not set")
    return os.fsencode(environment[name])


def _run(command: list[str], surroundings: Surroundings) -> bytes:
    import subprocess  # Not needed for a load without such a source.

    program = command[0]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=surroundings.folder,
            env=dict(surroundings.environment),
            start_new_session=True,
        )
    except OSError as error:
        raise SecretSourceError(f"cannot run {program}: {error.strerror}") from error
    with process:
        try:
            output, _ = process.communicate(timeout=surroundings.command_timeout_s)
        except subprocess.TimeoutExpired as error:
            raise SecretSourceError(
                f"{program} gave no answer within {surroundings.command_timeout_s:g} s"
            ) from error
        finally:
            _kill_session(process)
    if process.returncode != 0:
        raise SecretSourceError(
            f"{program} failed with exit code {process.returncode} (its output is not shown)"
        )
    return _checked(output.removesuffix(b"\n"), f"the output of {program}")


def _kill_session(process: "subprocess.Popen[bytes]") -> None:
    """End what the command left running, so that its pipe closes and nothing stays behind."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _decrypt(text: str, surroundings: Surroundings, identity: str | None) -> bytes:
    if identity is None:
        raise SecretSourceError("an encrypted value needs spec.identity, the age identity file")
    # Costs more than all of a cached load; few manifests need it.
    import pyrage  # type: ignore[import-untyped]

    keys = _identities(surroundings.folder / identity)
    if text.lstrip().startswith(ARMOR):
        source, sealed = "the encrypted text", text.strip().encode()
    else:
        source = str(surroundings.folder / text)
        sealed = _read_file(surroundings.folder / text)
    try:
        return bytes(pyrage.decrypt(sealed, keys))
    except pyrage.DecryptError as error:
        raise SecretSourceError(f"cannot decrypt {source} with {identity}: {error}") from error


def _identities(path: Path) -> list[object]:
    import pyrage

    content = _read_file(path)
    try:
        if b"PRIVATE KEY-----" in content:
            return [pyrage.ssh.Identity.from_buffer(content)]
        keys: list[object] = [
            pyrage.x25519.Identity.from_str(line.strip())
            for line in content.decode("ascii", "replace").splitlines()
            if line.strip() and not line.startswith("#")
        ]
    except pyrage.IdentityError as error:
        raise SecretSourceError(f"{path} is not an age identity file: {error}") from error
    if not keys:
        raise SecretSourceError(f"{path} holds no age identity")
    return keys
