"""`bayplan cp` with tars on its streams, and tars as a stranger may have made them."""

import io
import subprocess
import tarfile

from tests.support.cli import COMMAND


def tar_of(*members: tuple[str, dict, bytes]) -> bytes:
    """Return a tar with members of any kind, as a stranger may have made it."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, fields, data in members:
            tar.addfile(tar_info(name, size=len(data), **fields), io.BytesIO(data))
    return made.getvalue()


def tar_info(name: str, **fields) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def cp(box, *words: str, stdin: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [*COMMAND, "cp", *words], input=stdin, capture_output=True, env=box.environment, check=False
    )
    assert done.returncode == code, done.stderr
    return done
