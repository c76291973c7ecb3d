"""`make bench`: ours, Podman and Docker side by side, interleaved; medians and ratios."""

import argparse
import json
import os
import re
import select
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import stage
from benchmarks.engines import SLEEP, Bayplan, Docker, Engine, Podman, removed, timed

PEERS: dict[str, type[Engine]] = {"podman": Podman, "docker": Docker}
IDLE = "bench-idle"
ROWS = ("start", "exec", "log", "apply")
LOG_BYTES = 200_000_000
Row = tuple[str, list[float]]


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each engine per row")
    parser.add_argument("--peers", choices=PEERS, nargs="+", default=[*PEERS])
    parser.add_argument("--only", choices=ROWS, nargs="+", default=ROWS, help="these rows")
    parser.add_argument("--many", type=int, nargs="+", default=[20, 100])
    parser.add_argument(stage.STAGED, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.staged:
        stage.install_peers()
        stage.enter()
    stage.prepare()
    folder = Path(tempfile.mkdtemp(prefix="bayplan-bench-"))
    engines: list[Engine] = []
    try:
        with stage.cgroups_swept():
            kinds: list[type[Engine]] = [Bayplan, *(PEERS[name] for name in options.peers)]
            for kind in kinds:
                engines.append(kind(folder))
            print(table(engines, list(rows(engines, folder, options))))
            for each in engines:
                each.close()
    finally:
        if sys.exc_info()[0] is None:
            shutil.rmtree(folder)
        else:
            print(f"what there was is left in {folder}", file=sys.stderr)


def rows(engines: list[Engine], folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Yield one row per thing measured."""
    only, rounds = options.only, options.rounds
    archive = folder / "box.tar"
    make_image(archive)
    for engine in engines:
        engine.load(archive)
    for engine in engines:
        stage.call(*engine.run(IDLE), *SLEEP)
    if "start" in only:
        yield start(engines, folder, rounds)
    if "exec" in only:
        yield execute(engines, rounds)
    if "log" in only:
        yield log(engines, folder, rounds)
    for engine in engines:
        stage.call(*engine.remove(IDLE))
    for count in options.many if "apply" in only else ():
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
            stage.call(*engine.run("bench-log", "-v", f"{place}:/log", *engine.rotation), *writer)
            stage.call(*engine.wait("bench-log"))
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


def interleave(engines: list[Engine], once: Callable[[Engine], float], rounds: int) -> list[float]:
    """Return each engine's median of turns taken in rotation, the first round left out."""
    turns = [[once(engine) for engine in engines] for _ in range(rounds + 1)][1:]
    return [statistics.median(each) for each in zip(*turns, strict=True)]


def pss(*words: bytes) -> float:
    """Return MiB of all processes with one of *words* in their command line."""
    total = 0
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and any(
                word in (entry / "cmdline").read_bytes() for word in words
            ):
                lines = (entry / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except OSError:
            continue
    return total / 1024


def table(engines: list[Engine], measured: list[Row]) -> str:
    """Return the rows as Markdown, with a JSON line below for programs."""
    ours, *peers = [engine.name for engine in engines]
    heads = ["what", ours, *peers, *(f"{ours} / {peer}" for peer in peers)]
    lines = [" | ".join(heads), "|".join("---" for _ in heads)]
    for what, (first, *others) in measured:
        figures = [first, *others, *(first / other for other in others)]
        lines.append(" | ".join([what, *(f"{figure:.3g}" for figure in figures)]))
    return "\n".join([*(f"| {line} |" for line in lines), "", json.dumps(measured)])


if __name__ == "__main__":
    main()
