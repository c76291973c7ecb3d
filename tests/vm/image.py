"""The machine's first disk, kernel and initrd: made once, kept by the content of what makes them.

Debian 12 by mmdebstrap, trimmed of what a machine without a screen, a network and a tomorrow has
no use for: under software emulation each unit costs a tenth of a second or more of every boot.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.image.aptsource import resolve_suite

SUITE = "bookworm"
PACKAGES = (
    *("linux-image-cloud-amd64", "systemd", "systemd-sysv", "dbus", "udev", "kmod"),
    # What the product and its tests use.
    *("python3", "nftables", "busybox-static", "iproute2", "iptables", "procps", "binutils"),
    # What an ordinary user needs, and a service manager of their own.
    *("uidmap", "slirp4netns", "dbus-user-session", "libpam-systemd"),
)
DISK_BYTES = 4 << 30  # sparse
_KEPT_S = 2 * 24 * 3600.0

# In the order they can be inserted; ext4 is built in.
_DRIVERS = (
    *("virtio/virtio_ring", "virtio/virtio", "virtio/virtio_pci_legacy_dev"),
    *("virtio/virtio_pci_modern_dev", "virtio/virtio_pci", "block/virtio_blk"),
    "char/virtio_console",
)

_INIT = f"""#!/bin/busybox sh
busybox mount -t devtmpfs dev /dev
busybox mount -t proc proc /proc
if busybox grep -q machine.probe /proc/cmdline; then
  echo machine.probe ok
  busybox poweroff -f
fi
for driver in {" ".join(path.rpartition("/")[2] for path in _DRIVERS)}; do
  busybox insmod /drivers/$driver.ko
done
busybox mount -t ext4 -o rw /dev/vda /root
busybox mount -t ext4 -o ro /dev/vdb /root/srv/packages
busybox mount -t ext4 -o ro /dev/vdc /root/srv/bayplan
busybox umount /proc /dev
exec busybox switch_root /root /lib/systemd/systemd
"""

_UNUSED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "systemd-tmpfiles-clean.timer"),
    *("getty.target", "systemd-ask-password-console.path", "systemd-ask-password-wall.path"),
    *("modprobe@.service", "systemd-modules-load.service", "kmod-static-nodes.service"),
    *("systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "systemd-pstore.service"),
    *("sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("sys-fs-fuse-connections.mount", "systemd-update-utmp.service", "systemd-repart.service"),
    *("systemd-update-utmp-runlevel.service", "systemd-firstboot.service"),
    *("systemd-sysusers.service", "systemd-random-seed.service", "systemd-journal-flush.service"),
    "systemd-remount-fs.service",
)

_FILES = {
    # Without an id each boot is a first one, and enables all units anew.
    "etc/machine-id": "6d616368696e6520666f722074657374\n",
    "etc/hostname": "machine\n",
    "etc/hosts": "127.0.0.1 localhost machine\n",
    "etc/fstab": "",
    "etc/systemd/journald.conf.d/volatile.conf": "[Journal]\nStorage=volatile\n",
    # Coldplug only what units can wait for: disks and links.
    "etc/systemd/system/systemd-udev-trigger.service.d/few.conf": (
        "[Service]\nExecStart=\n"
        "ExecStart=udevadm trigger --action=add --subsystem-match=block --subsystem-match=net\n"
    ),
    # After basic.target as any service; what is started by the host outlives this one.
    "etc/systemd/system/machine-channel.service": (
        "[Unit]\nDescription=Commands of the host\n"
        "[Service]\nExecStart=/usr/bin/python3 -B -m tests.vm.guest /dev/vport0p1\n"
        "KillMode=process\nOOMScoreAdjust=-900\n"
    ),
    # The disks of packages and project are found by every Python here, however it is started.
    "usr/local/lib/python3.11/dist-packages/machine.pth": "/srv/packages\n/srv/bayplan\n",
    "usr/local/bin/bayplan": ("#!/usr/bin/python3\nfrom provider.cli.app import main\n\nmain()\n"),
}

_LINKS = {
    "usr/bin/bayplan-oci": "/srv/bayplan/runtime/cli/bayplan-oci",
    "etc/systemd/system/default.target": "/lib/systemd/system/multi-user.target",
    "etc/systemd/system/multi-user.target.wants/machine-channel.service": (
        "../machine-channel.service"
    ),
    **{f"etc/systemd/system/{unit}": "/dev/null" for unit in _UNUSED},
}

_FOLDERS = ("srv/packages", "srv/bayplan")


@dataclass(frozen=True)
class Image:
    """Files of one image; never written once they are there."""

    root: Path
    """An ext4 file system, sparse."""
    kernel: Path
    initrd: Path


def cache_folder() -> Path:
    """Return where images and disks are kept: with other caches, if a place for them is set."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = Path(base, "bayplan-vm") if base else Path(".make/vm").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def image(folder: Path | None = None) -> Image:
    """Return the image, made first if it is not in *folder*.

    Raises:
        subprocess.CalledProcessError: mmdebstrap or mke2fs failed; it has said why on stderr.
    """
    folder = folder or cache_folder()
    key = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    place = folder / f"image-{key}"
    made = Image(place / "root.ext4", place / "vmlinuz", place / "initrd")
    with locked(folder / "lock"):
        if not place.exists():
            for old in unused(folder, "image-*"):
                shutil.rmtree(old)
            _make(place)
        os.utime(place)
    return made


def unused(folder: Path, pattern: str) -> list[Path]:
    """Return those in the cache that nobody has asked for since the day before yesterday.

    Machines of other checkouts may run from others.
    """
    return [path for path in folder.glob(pattern) if time.time() - path.stat().st_mtime > _KEPT_S]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock *path*, so that what is missing is made once."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(place: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="making-", dir=place.parent) as scratch:
        # apt reads what it is given as a user of its own.
        Path(scratch).chmod(0o755)
        root, new = Path(scratch, "root"), Path(scratch, "new")
        new.mkdir()
        _bootstrap(root, Path(scratch))
        _trim(root)
        (kernel,) = root.glob("boot/vmlinuz-*")
        shutil.copy(kernel, new / "vmlinuz")
        (new / "initrd").write_bytes(_initrd(root))
        make_ext4(root, new / "root.ext4", DISK_BYTES)
        new.rename(place)


def _bootstrap(root: Path, scratch: Path) -> None:
    _, sources = resolve_suite(SUITE)
    command = [
        # What it mounts into the new root is seen by nobody else, and ends with it.
        *("unshare", "--mount", "mmdebstrap", "--mode=root", "--format=directory", "--quiet"),
        *("--variant=minbase", f"--include={','.join(PACKAGES)}", "--skip=essential/unlink"),
        *('--aptopt=Acquire::Languages "none"', "--dpkgopt=force-unsafe-io"),
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")),
        *(SUITE, str(root)),
        *(["-"] if sources else []),
    ]
    subprocess.run(
        command,
        input="\n".join(source.to_deb822() for source in sources).encode(),
        # The initrd is ours; initramfs-tools makes none when told so.
        env=os.environ | {"TMPDIR": str(scratch), "INITRD": "No", "LC_ALL": "C.UTF-8"},
        check=True,
    )


def _trim(root: Path) -> None:
    for path in root.glob("lib/systemd/system-generators/*"):
        mask = root / "etc/systemd/system-generators" / path.name
        mask.parent.mkdir(exist_ok=True)
        mask.symlink_to("/dev/null")
    for name in _FOLDERS:
        (root / name).mkdir(parents=True)
    for name, text in _FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if "/bin/" in name:
            path.chmod(0o755)
    for name, target in _LINKS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)


def _initrd(root: Path) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch)
        for name in ("bin", "dev", "drivers", "proc", "root"):
            (top / name).mkdir()
        shutil.copy(root / "bin/busybox", top / "bin/busybox")
        (modules,) = root.glob("lib/modules/*/kernel/drivers")
        for path in _DRIVERS:
            shutil.copy(modules / f"{path}.ko", top / "drivers")
        (top / "init").write_text(_INIT)
        (top / "init").chmod(0o755)
        names = "".join(f"{path.relative_to(top)}\n" for path in sorted(top.rglob("*")))
        packed = subprocess.run(
            ["cpio", "--create", "--format=newc", "--quiet", "--owner=0:0"],
            cwd=top,
            input=names.encode(),
            capture_output=True,
            check=True,
        )
        return packed.stdout


def make_ext4(tree: Path, disk: Path, size: int, options: Sequence[str] = ()) -> None:
    """Make a sparse file with a file system of *size* bytes that holds *tree*."""
    with disk.open("wb") as stream:
        stream.truncate(size)
    # All of it now: the machine must not spend its time on finishing the file system.
    settings = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-E", settings, *options, "-d", str(tree)]
    subprocess.run([*command, str(disk)], check=True)
