"""Where secret values come from, and that nothing of them gets out."""

import os
import select
import time
from pathlib import Path
from typing import Any

import pyrage
import pytest

from provider.manifest.normalise import canonical_spec
from provider.manifest.secrets import SecretSourceError, Surroundings, read_secret
from provider.model.ids import Kind
from tests.support.documents import write

CANARY = "canary-5b1f"


def item(**source: Any) -> Any:
    return canonical_spec(Kind.SECRET, {"data": {"k": source}})["data"]["k"]


def surroundings(folder: Path, **environment: str) -> Surroundings:
    return Surroundings(folder, {"PATH": os.environ["PATH"], **environment}, command_timeout_s=5)


def value(folder: Path, *, identity: str | None = None, **source: Any) -> bytes:
    return read_secret(
        item(**source), surroundings(folder, TOKEN="t\udcff"), identity=identity
    ).reveal()


def fault(folder: Path, *, identity: str | None = None, **source: Any) -> str:
    with pytest.raises(SecretSourceError) as caught:
        value(folder, identity=identity, **source)
    assert CANARY not in str(caught.value)
    return str(caught.value).replace(str(folder), "FOLDER")


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\x00\xffvalue\n")
    assert value(tmp_path, file="key") == b"\x00\xffvalue\n"
    assert value(tmp_path, file=str(tmp_path / "key")) == b"\x00\xffvalue\n"


def test_files_that_cannot_be_had(tmp_path: Path) -> None:
    assert fault(tmp_path, file="none") == "cannot read FOLDER/none: No such file or directory"
    assert fault(tmp_path, file=".") == "cannot read FOLDER: Is a directory"
    (tmp_path / "big").write_bytes(b"x" * (1 << 20) + b"y")
    assert fault(tmp_path, file="big") == "FOLDER/big holds more than 1 MiB"


def test_an_environment_variable_keeps_its_bytes(tmp_path: Path) -> None:
    assert value(tmp_path, fromEnv="TOKEN") == b"t\xff"
    assert fault(tmp_path, fromEnv="NONE") == "environment variable NONE is not set"


def test_a_command_runs_in_the_folder_without_shell_and_input(tmp_path: Path) -> None:
    write(tmp_path, {"key": "value\n\n"})
    assert value(tmp_path, command=["cat", "key"]) == b"value\n"
    assert value(tmp_path, command=["printf", "%s", "$HOME;`id`"]) == b"$HOME;`id`"
    assert value(tmp_path, command=["cat"]) == b""
    assert value(tmp_path, command=["sh", "-c", "printf %s $TOKEN"]) == b"t\xff"


def test_a_failing_command_is_not_quoted(tmp_path: Path) -> None:
    script = f"echo {CANARY}; echo {CANARY} >&2; exit 3"
    assert fault(tmp_path, command=["sh", "-c", script]) == (
        "sh failed with exit code 3 (its output is not shown)"
    )
    assert fault(tmp_path, command=["no-such-program", CANARY]) == (
        "cannot run no-such-program: No such file or directory"
    )


def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    script = "sleep 300 & echo $! > pid; sleep 300"
    patience = Surroundings(tmp_path, {"PATH": os.environ["PATH"]}, command_timeout_s=0.5)
    started = time.monotonic()
    with pytest.raises(SecretSourceError, match=r"sh gave no answer within 0\.5 s"):
        read_secret(item(command=["sh", "-c", script]), patience)
    assert time.monotonic() - started < 5
    assert has_ended(int((tmp_path / "pid").read_text()))


def has_ended(pid: int) -> bool:
    """Return whether the process ends within a few seconds."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with open(descriptor) as process:
        return bool(select.select([process], [], [], 5)[0])


@pytest.fixture
def identity(tmp_path: Path) -> Any:
    key = pyrage.x25519.Identity.generate()
    (tmp_path / "key.txt").write_text(f"# created: today\n\n{key}\n")
    return key


def test_age_in_armor(tmp_path: Path, identity: Any) -> None:
    sealed = pyrage.encrypt(CANARY.encode(), [identity.to_public()], armored=True).decode()
    assert value(tmp_path, encrypted=sealed, identity="key.txt") == CANARY.encode()


def test_age_in_a_file(tmp_path: Path, identity: Any) -> None:
    (tmp_path / "db.age").write_bytes(pyrage.encrypt(b"\x00bytes", [identity.to_public()]))
    assert value(tmp_path, encrypted="db.age", identity="key.txt") == b"\x00bytes"


def test_age_that_cannot_be_opened(tmp_path: Path, identity: Any) -> None:
    other = pyrage.x25519.Identity.generate()
    sealed = pyrage.encrypt(CANARY.encode(), [other.to_public()], armored=True).decode()
    assert fault(tmp_path, encrypted=sealed, identity="key.txt").startswith(
        "cannot decrypt the encrypted text with key.txt: "
    )
    assert "needs spec.identity" in fault(tmp_path, encrypted=sealed)
    assert fault(tmp_path, encrypted=sealed, identity="none.txt") == (
        "cannot read FOLDER/none.txt: No such file or directory"
    )
    (tmp_path / "none.txt").write_text("# nothing\n")
    assert fault(tmp_path, encrypted=sealed, identity="none.txt") == (
        "FOLDER/none.txt holds no age identity"
    )
    (tmp_path / "none.txt").write_text(f"{CANARY}\n")
    assert "FOLDER/none.txt is not an age identity file" in fault(
        tmp_path, encrypted=sealed, identity="none.txt"
    )


def test_values_print_as_stars(tmp_path: Path) -> None:
    secret = read_secret(item(text=CANARY), surroundings(tmp_path))
    assert (str(secret), repr(secret), f"{secret}") == ("***", "***", "***")
    assert secret.reveal() == CANARY.encode()
