"""`make bench`: ours and podman side by side, interleaved, medians and ratios.

Both run the same static busybox with the same limits and a bridge network each. A start counts
from the exec of the command to the first byte the container's program writes.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

IMAGE = "localhost/bayplan-bench"
BOX = "bench/box"
CLI = [str(Path(sys.executable).parent / "bayplan")]
SLEEP = ["sleep", "1000000"]
PODMAN_RUN = ["podman", "run", "--ulimit", "host"]
# Podman's default limits are more than root may set on some hosts.
PODMAN_CONF = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'


def main() -> None:
    """Run everything and print one table."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--many", type=int, default=100)
    options = parser.parse_args()
    need_podman()
    folder = Path(tempfile.mkdtemp(prefix="bayplan-bench-"))
    os.environ["BAYPLAN_ROOT"] = str(folder / "world")
    try:
        prepare(folder)
        rows = [
            *bench_start(folder, options.rounds),
            *bench_exec(options.rounds),
            *bench_apply(folder, 20),
            *bench_apply(folder, options.many),
        ]
        print(table(rows))
    finally:
        for name in ("bench-start", "bench-exec"):
            call(*CLI, "rm", "-f", name, check=False)
            call("podman", "rm", "-f", "-t", "0", name, check=False)
        call(*CLI, "delete", "-p", "bench", "--delete-volumes", check=False)
        call("podman", "rmi", "-f", IMAGE, check=False)
        shutil.rmtree(folder)


def need_podman() -> None:
    """Install the peer where it is missing (Debian)."""
    if shutil.which("podman"):
        return
    apt = ["apt-get", "install", "-qq", "-y", "--no-install-recommends"]
    call("apt-get", "update", "-qq")
    call(*apt, "podman", "crun", "netavark", "aardvark-dns", "iptables")


def prepare(folder: Path) -> None:
    """Make the same image for both."""
    conf = folder / "containers.conf"
    conf.write_text(PODMAN_CONF)
    os.environ["CONTAINERS_CONF"] = str(conf)
    archive = folder / "box.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for name in ("sh", "sleep", "true"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    call("podman", "import", "-q", str(archive), IMAGE)
    apply(folder, manifest(0))


def bench_start(folder: Path, rounds: int) -> Iterator[tuple[str, float, float]]:
    """Detached, with network and limits."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    shell = ["sh", "-c", "echo x > /fifo; exec sleep 1000000"]
    common = ["-d", "-v", f"{fifo}:/fifo", "-m", "64m", "--name", "bench-start"]

    def ours() -> float:
        words = [*common]
        words[words.index("64m")] = "64Mi"
        with removed([*CLI, "rm", "-f", "bench-start"]):
            return first_byte([*CLI, "run", *words, BOX, *shell], fifo)

    def podman() -> float:
        with removed(["podman", "rm", "-f", "-t", "0", "bench-start"]):
            return first_byte([*PODMAN_RUN, *common, IMAGE, *shell], fifo)

    yield ("start, detached, network, limits", *interleave(ours, podman, rounds))


def bench_exec(rounds: int) -> Iterator[tuple[str, float, float]]:
    """`exec true` in a running container."""
    call(*CLI, "run", "-d", "--name", "bench-exec", BOX, *SLEEP)
    call(*PODMAN_RUN, "-d", "--name", "bench-exec", IMAGE, *SLEEP)
    try:
        yield (
            "exec true",
            *interleave(
                lambda: timed([*CLI, "exec", "bench-exec", "true"]),
                lambda: timed(["podman", "exec", "bench-exec", "true"]),
                rounds,
            ),
        )
    finally:
        call(*CLI, "rm", "-f", "bench-exec")
        call("podman", "rm", "-f", "-t", "0", "bench-exec")


def bench_apply(folder: Path, count: int) -> Iterator[tuple[str, float, float]]:
    """First apply of many containers; then one that has nothing to do; then what they weigh."""
    first = apply(folder, manifest(count))
    began = time.perf_counter()
    for number in range(count):
        call(*PODMAN_RUN, "-d", "-m", "64m", "--name", f"bench-{number}", IMAGE, *SLEEP)
    loop = time.perf_counter() - began
    yield (f"first apply of {count} (podman: loop of run)", first, loop)
    again = statistics.median(apply(folder, manifest(count)) for _ in range(5))
    listing = statistics.median(timed(["podman", "ps", "-a"]) for _ in range(5))
    yield (f"second apply of {count} (podman: ps -a)", again, listing)
    ours = pss(b"runtime.supervisor", b"runtime.network") / count
    conmon = pss(b"conmon") / count
    yield (f"MiB of memory (PSS) beside each of {count}", ours, conmon)
    apply(folder, manifest(0))
    names = [f"bench-{number}" for number in range(count)]
    call("podman", "rm", "-f", "-t", "0", *names)


def manifest(count: int) -> str:
    """Return *count* sleeping containers on one network, and the image."""
    head = "\n---\napiVersion: bayplan/v1alpha1\n"
    text = f"{head}kind: Project\nmetadata: {{name: bench}}\n"
    text += f"{head}kind: Image\nmetadata: {{name: box}}\n"
    text += "spec: {host: {programs: [/bin/busybox]}}\n"
    text += f"{head}kind: Network\nmetadata: {{name: net}}\nspec: {{}}\n"
    for number in range(count):
        text += (
            f"{head}kind: Container\nmetadata: {{name: c{number}}}\nspec: {{container: {{"
            "image: box, command: [sleep, '1000000'], stopSignal: SIGKILL, networks: [net], "
            "resources: {memory: 64Mi}}, update: {healthyFor: 0s}}\n"
        )
    return text


def apply(folder: Path, text: str) -> float:
    """Apply *text* and return seconds."""
    path = folder / "bench.yaml"
    path.write_text(text)
    return timed([*CLI, "apply", "-f", str(path), "--allow-prune", "-o", "json"])


def first_byte(command: list[str], fifo: Path) -> float:
    """Return seconds from exec to the first byte in *fifo*."""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    keep = os.open(fifo, os.O_WRONLY)
    os.set_blocking(reader, True)
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        os.read(reader, 1)
        elapsed = time.perf_counter() - began
        if process.wait():
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    os.close(keep)
    os.close(reader)
    return elapsed


@contextmanager
def removed(command: list[str]) -> Iterator[None]:
    """Run *command* afterwards."""
    try:
        yield
    finally:
        call(*command)


def interleave(
    ours: Callable[[], float], peer: Callable[[], float], rounds: int
) -> tuple[float, float]:
    """Return the medians of turns taken one after the other, the first of each left out."""
    pairs = [(ours(), peer()) for _ in range(rounds + 1)][1:]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)


def timed(command: list[str]) -> float:
    """Return seconds of one command."""
    began = time.perf_counter()
    call(*command)
    return time.perf_counter() - began


def call(*command: str, check: bool = True) -> None:
    """Run a command; its output is shown only if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")


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


def table(rows: list[tuple[str, float, float]]) -> str:
    """Return the rows as Markdown, with a JSON line below for programs."""
    lines = ["| what | bayplan | podman | bayplan / podman |", "|---|---|---|---|"]
    lines += [f"| {what} | {a:.3f} | {b:.3f} | {a / b:.3f} |" for what, a, b in rows]
    return "\n".join([*lines, "", json.dumps(rows)])


if __name__ == "__main__":
    main()
