"""Kernel settings the host and our bridges need, and what the host's were before.

Written only where different. Of the host's own, the former value goes to
``state/networks/sysctls.json`` first; those of our bridges go away with the bridge.
"""

import os
from collections.abc import Mapping
from typing import Any

from runtime.errors import KernelError
from runtime.network.files import read_json, write_json
from runtime.root import Root

HOST: Mapping[str, str] = {"net.ipv4.ip_forward": "1"}
"""Without it no packet passes from one link to another."""


def of_bridge(bridge: str) -> Mapping[str, str]:
    """Return what a bridge of ours needs."""
    return {
        # Before the bridge goes up, so that it never makes an address.
        f"net.ipv6.conf.{bridge}.disable_ipv6": "1",
        # Published ports on 127.0.0.1: packets leave here with that source, and answers come back.
        f"net.ipv4.conf.{bridge}.route_localnet": "1",
        # A container cannot send with an address of another network, or of the outside.
        f"net.ipv4.conf.{bridge}.rp_filter": "1",
        f"net.ipv4.conf.{bridge}.forwarding": "1",
    }


def deviations(wanted: Mapping[str, str]) -> dict[str, str | None]:
    """Return name and actual value of each setting that is not as wanted; None: there is none.

    Names absent in this kernel (no IPv6) are left out unless their whole link is absent.
    """
    return {
        name: actual
        for name, value in wanted.items()
        if (actual := read(name)) != value and not (actual is None and ".ipv6." in name)
    }


def ensure(wanted: Mapping[str, str]) -> None:
    """Write what is different."""
    for name in deviations(wanted):
        _write(name, wanted[name])


def ensure_host(root: Root) -> None:
    """Write what of the host's own is different, its former value into the ledger first."""
    for name, former in deviations(HOST).items():
        ledger = changed(root)
        # The oldest value is the one before us.
        ledger.setdefault(name, {"former": former, "value": HOST[name]})
        path = root.state / "networks" / "sysctls.json"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(path, ledger, durable=True)
        _write(name, HOST[name])


def changed(root: Root) -> dict[str, dict[str, Any]]:
    """Return the ledger: of each host setting we ever changed, ``former`` and ``value``."""
    ledger: dict[str, dict[str, Any]] | None = read_json(root.state / "networks" / "sysctls.json")
    return ledger or {}


def read(name: str) -> str | None:
    """Return a setting of the calling thread's network namespace; None: there is none."""
    try:
        fd = os.open(_path(name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.read(fd, 4096).decode().strip()
    finally:
        os.close(fd)


def write_if_there(name: str, value: str) -> None:
    """Write a setting; one this kernel does not have is left out."""
    if read(name) is not None:
        _write(name, value)


def _write(name: str, value: str) -> None:
    try:
        fd = os.open(_path(name), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError(error.errno or 0, "write", f"sysctl {name}") from error


def _path(name: str) -> str:
    return "/proc/sys/" + name.replace(".", "/")
