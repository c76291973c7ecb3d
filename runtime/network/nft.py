"""The nft command: load a script in one transaction, list a table, and a table's pristine form.

Source: nft(8), libnftables-json(5).
"""

import json
import os
import shutil
import subprocess
import threading
from typing import Any

from runtime.errors import NetworkError, UnsupportedHostError
from runtime.kernel.namespaces import CLONE_NEWNET, unshare

Listing = list[dict[str, Any]]
"""Objects as nft lists them, each ``{"chain": {...}}`` and so on."""

_TIMEOUT_S = 60.0


class NftError(NetworkError):
    """The nft command refused."""


class NftTimeoutError(NetworkError):
    """The nft command did not answer; whether it has done what it was to do, nobody knows."""


def load(script: str) -> None:
    """Apply *script* in one transaction: all of it or nothing.

    Raises:
        NftError: nft refused; the text is nft's.
        NftTimeoutError: it did not answer within a minute.
    """
    _run(("-f", "-"), script)


def list_table(table: str, family: str = "inet") -> Listing | None:
    """Return the table's objects, or None where there is no such table."""
    try:
        return _objects(_run(("-j", "list", "table", family, table)))
    except NftError:
        if (family, table) in tables():
            raise
        return None


def tables() -> tuple[tuple[str, str], ...]:
    """Return family and name of every table."""
    found = (entry.get("table") for entry in _objects(_run(("-j", "list", "tables"))))
    return tuple((table["family"], table["name"]) for table in found if table)


def pristine(script: str, table: str) -> Listing:
    """Return how nft lists *table* right after *script*, tried in a namespace made for it.

    This way what we compare with is spelled as this version of nft and kernel spell it. Takes
    some ten milliseconds; changes nothing outside of the namespace, which dies at once.
    """
    results: list[Listing | None] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            unshare(CLONE_NEWNET)
            load(script)
            results.append(list_table(table))
        except BaseException as error:  # handed to the caller, whatever it is
            errors.append(error)

    thread = threading.Thread(target=work, name="pristine")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0] or []


def version_key() -> str:
    """Return a text that changes when nft is upgraded."""
    status = os.stat(_program())
    return f"{status.st_ino}.{status.st_mtime_ns}.{os.uname().release}"


def _program() -> str:
    # Service managers hand down a PATH without sbin.
    path = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
    if path is None:
        raise UnsupportedHostError("there is no nft command (Debian package: nftables)")
    return path


def _run(arguments: tuple[str, ...], script: str = "") -> str:
    try:
        done = subprocess.run(
            [_program(), *arguments],
            input=script,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
    except BlockingIOError as error:  # of fork(2)
        raise NftError(f"nft cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        words = f"no answer within {_TIMEOUT_S:g} s"
        raise NftTimeoutError(f"nft {' '.join(arguments)}: {words}") from None
    if done.returncode:
        words = done.stderr.strip() or f"exit code {done.returncode}"
        raise NftError(f"nft {' '.join(arguments)}: {words}")
    return done.stdout


def _objects(text: str) -> Listing:
    listing: Listing = json.loads(text)["nftables"] if text else []
    return [entry for entry in listing if "metainfo" not in entry]
