"""How qemu runs the machine: by KVM where a probe boot with it succeeds, else by emulation."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.vm.image import Image

EMULATION = "tcg,thread=multi,tb-size=512"
KVM = "kvm"
_PROBE_S = 8.0


def accelerator(image: Image) -> str:
    """Return qemu's ``-accel``; what a probe has shown is kept until the host is booted again.

    That /dev/kvm opens says nothing: in a virtual machine without nested virtualisation the
    first entry into the guest may fail, or never return.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    verdict = image.root.parent / f"accelerator-{boot}"
    with suppress(FileNotFoundError):
        return verdict.read_text()
    found = KVM if os.access("/dev/kvm", os.R_OK | os.W_OK) and _boots(image) else EMULATION
    fresh = verdict.with_suffix(f".{os.getpid()}")
    fresh.write_text(found)
    fresh.rename(verdict)
    return found


def _boots(image: Image) -> bool:
    """Boot to the initrd, which says so and powers off."""
    command = [
        *("qemu-system-x86_64", "-accel", KVM, "-cpu", "host", "-m", "256", "-nodefaults"),
        *("-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", "console=ttyS0 quiet panic=-1 machine.probe"),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as qemu:
        try:
            said, _ = qemu.communicate(timeout=_PROBE_S)
        except subprocess.TimeoutExpired:
            qemu.kill()
            said, _ = qemu.communicate()
    return b"machine.probe ok" in said
