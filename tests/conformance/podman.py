"""Podman in a world of its own, and the image its tests expect, made from a static busybox."""

import os
import shutil
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

from tests.support.calling import call

IMAGE = "quay.io/libpod/testimage:20220615"
"""What podman's own tests would pull."""
_IMAGE_BORN = 1600000000
"""Time of the file testimage-id, which they read."""
_PAUSE = "#!/bin/sh\necho Confirmed: testimage pause invoked as $0\nwhile :; do sleep 0.1; done\n"
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
_GROUP = "root:x:0:root\nbin:x:1:root\nnobody:x:65534:\n"


def environment(runtime: str, scratch: Path) -> dict[str, str]:
    """Return an environment in which ``podman`` has *runtime*, and its state in *scratch*."""
    name = os.path.basename(runtime)
    storage = scratch / "storage.conf"
    storage.write_text(
        f'[storage]\ndriver = "overlay"\nrunroot = "{scratch}/run"\ngraphroot = "{scratch}/graph"\n'
    )
    # The default limits are more than root may set on some hosts.
    limits = "default_ulimits = ['nofile=1024:1024', 'nproc=1024:1024']"
    conf = scratch / "containers.conf"
    conf.write_text(
        f"[containers]\n{limits}\n"
        f'[engine]\nruntime = "{name}"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        f'[engine.runtimes]\n{name} = ["{runtime}"]\n'
        f'[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "{scratch}/networks"\n'
    )
    return os.environ | {
        "CONTAINERS_CONF": str(conf),
        "CONTAINERS_STORAGE_CONF": str(storage),
        "TMPDIR": str(scratch),
    }


def make_image(env: dict[str, str], scratch: Path) -> None:
    """Import the image into podman's storage."""
    archive, changes = write_image(scratch)
    call("podman", "import", "--quiet", *changes, str(archive), IMAGE, env=env)


def write_image(scratch: Path) -> tuple[Path, list[str]]:
    """Write the image's root as an archive; return it and how ``import`` is told the rest."""
    archive = scratch / "image.tar"
    with tarfile.open(archive, "w") as tar:
        _add_root(tar)
    changes = (
        "WORKDIR /home/podman",
        'CMD ["/bin/echo", "This container is intended for podman CI testing"]',
        "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LABEL created_by=bayplan",
    )
    return archive, [word for change in changes for word in ("--change", change)]


def _add_root(tar: tarfile.TarFile) -> None:
    """Add a root with every program of busybox, and the files that the tests look for."""
    busybox = shutil.which("busybox") or "/bin/busybox"
    listed = subprocess.run([busybox, "--list-full"], capture_output=True, text=True, check=True)
    programs = [path for path in listed.stdout.split() if os.path.basename(path) != "busybox"]
    folders = {"tmp", "root", "home", "home/podman", "etc", "bin", "var", "var/tmp", "run", "proc"}
    folders |= {"sys", "dev", "mnt", "srv", "usr", *(os.path.dirname(path) for path in programs)}
    for folder in sorted(folders - {""}):
        entry = tarfile.TarInfo(folder)
        entry.type = tarfile.DIRTYPE
        entry.mode = 0o1777 if folder.endswith("tmp") else 0o755
        tar.addfile(entry)
    tar.add(os.path.realpath(busybox), "bin/busybox")
    for path in programs:
        link = tarfile.TarInfo(path)
        link.type, link.linkname = tarfile.SYMTYPE, "/bin/busybox"
        tar.addfile(link)
    for path, text, mode in (
        ("etc/passwd", _PASSWD, 0o644),
        ("etc/group", _GROUP, 0o644),
        ("etc/hosts", "", 0o644),
        ("etc/os-release", "ID=busybox\n", 0o644),
        ("home/podman/testimage-id", "20220615\n", 0o644),
        ("home/podman/pause", _PAUSE, 0o755),
        ("hello", "#!/bin/sh\necho Hello\n", 0o755),
    ):
        entry = tarfile.TarInfo(path)
        entry.size, entry.mode, entry.mtime = len(text), mode, _IMAGE_BORN
        tar.addfile(entry, BytesIO(text.encode()))
