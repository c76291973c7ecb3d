"""Engines side by side: a start, an exec, many at once, as their command lines do it."""

import os
import re
import select
import shutil
import statistics
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.engines import SLEEP, Engine, removed
from benchmarks.figures import Row, interleave, pss, timed
from tests.support.calling import call

IDLE = "bench-idle"
ROWS = ("start", "exec", "log", "apply")
LOG_BYTES = 200_000_000


def rows(
    engines: list[Engine], folder: Path, *, only: list[str], rounds: int, many: list[int]
) -> Iterator[Row]:
    """Yield one row per thing measured, of those in *only*."""
    archive = folder / "box.tar"
    make_image(archive)
    for engine in engines:
        engine.load(archive)
    for engine in engines:
        call(*engine.run(IDLE), *SLEEP)
    if "start" in only:
        yield start(engines, folder, rounds)
    if "exec" in only:
        yield execute(engines, rounds)
    if "log" in only:
        yield log(engines, folder, rounds)
    for engine in engines:
        call(*engine.remove(IDLE))
    for count in many if "apply" in only else ():
        yield from apply(engines, count)


def start(engines: list[Engine], folder: Path, rounds: int) -> Row:
    """Detached, with network and limits: exec of the command to the program's first byte.

    Another container runs meanwhile, as on a host in use: no engine is started or ended by it.
    """
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    shell = ["sh", "-c", "echo x > /fifo; exec sleep 1000000"]

    def once(engine: Engine) -> float:
        with removed(engine.remove("bench-start")):
            return first_byte([*engine.run("bench-start", "-v", f"{fifo}:/fifo"), *shell], fifo)

    return "start, ms to the first byte", [1000 * s for s in interleave(engines, once, rounds)]


def execute(engines: list[Engine], rounds: int) -> Row:
    """`exec true` in a running container."""
    seconds = interleave(engines, lambda e: timed(e.execute(IDLE, "true")), rounds)
    return "exec of true, ms", [1000 * s for s in seconds]


def log(engines: list[Engine], folder: Path, rounds: int) -> Row:
    """As fast as a container can write its log: the time dd takes, held up by its pipe."""
    place = folder / "log"
    place.mkdir()
    (place / "lines").write_bytes((b"x" * 99 + b"\n") * (LOG_BYTES // 100))
    writer = ["busybox", "time", "-o", "/log/time", "dd", "if=/log/lines", "bs=64k"]

    def once(engine: Engine) -> float:
        with removed(engine.remove("bench-log")):
            call(*engine.run("bench-log", "-v", f"{place}:/log", *engine.rotation), *writer)
            call(*engine.wait("bench-log"))
        said = (place / "time").read_text()
        ((minutes, seconds),) = re.findall(r"real\s+(\d+)m ([0-9.]+)s", said)
        return LOG_BYTES / 1e6 / (60 * int(minutes) + float(seconds))

    return "log of lines of 100 bytes, MB/s", interleave(engines, once, rounds)


def apply(engines: list[Engine], count: int) -> Iterator[Row]:
    """Bring up many, do it again, weigh what stands beside them, remove them."""
    up, again, weight, down = [], [], [], []
    for engine in engines:
        up.append(engine.up(count))
        again.append(statistics.median(engine.again(count) for _ in range(5)))
        weight.append(pss(*engine.beside) / count)
        down.append(engine.down(count))
    yield f"first apply of {count}, s", up
    yield f"second apply of {count}, s", again
    yield f"memory beside each of {count}, MiB (PSS)", weight
    yield f"removal of {count}, s", down


def make_image(archive: Path) -> None:
    """Write the root of a small image: a static busybox."""
    with tarfile.open(archive, "w") as tar:
        tar.add(shutil.which("busybox") or "/bin/busybox", "bin/busybox")
        for name in ("sh", "sleep", "true"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)


def first_byte(command: list[str], fifo: Path) -> float:
    """Return seconds from exec to the first byte in *fifo*."""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    keep = os.open(fifo, os.O_WRONLY)
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        ended = os.pidfd_open(process.pid)
        ready, _, _ = select.select([reader, ended], [], [])
        if reader not in ready and process.wait() == 0:
            ready, _, _ = select.select([reader], [], [], 30)
        elapsed = time.perf_counter() - began
        if process.wait() or reader not in ready:
            raise SystemExit(f"{' '.join(command)}: no byte, exit code {process.returncode}")
    for fd in (reader, keep, ended):
        os.close(fd)
    return elapsed
