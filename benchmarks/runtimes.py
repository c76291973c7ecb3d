"""OCI runtimes beside each other: ours, runc and crun, on the same bundles."""

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Row, interleave, timed
from tests.support.calling import call

NAMES = ("bayplan-oci", "runc", "crun")
STEPS = ("create", "start", "state", "exec", "kill", "delete")
_SHORT, _LONG = "short", "long"


class Runtime:
    """One runtime, with the state of its containers below *folder*."""

    def __init__(self, name: str, folder: Path) -> None:
        self._id = f"bench-{name}"
        self._folder = folder
        program = str(Path(sys.executable).parent / name) if name == NAMES[0] else name
        self._program = [program, "--root", str(folder / name)]

    def verb(self, verb: str, *words: str, bundle: str = "") -> list[str]:
        """Return the command for its one container."""
        where = ["--bundle", str(self._folder / bundle)] if bundle else []
        return [*self._program, verb, *where, self._id, *words]

    def life(self) -> list[float]:
        """Return the seconds of each of the `STEPS`, in their order."""
        words = {
            "create": self.verb("create", bundle=_LONG),
            "exec": self.verb("exec", "true"),
            "kill": self.verb("kill", "KILL"),
        }
        seconds = []
        for step in STEPS:
            if step == "delete":
                self._await_end()
            # The container's process keeps what it is given: no pipe of ours.
            command = words.get(step, self.verb(step))
            seconds.append(
                timed(["sh", "-c", 'exec "$@" </dev/null >/dev/null 2>&1', "", *command])
            )
        return seconds

    def _await_end(self) -> None:
        while json.loads(subprocess.check_output(self.verb("state")))["status"] != "stopped":
            pass


def rows(folder: Path, rounds: int) -> Iterator[Row]:
    """Yield one row per thing measured."""
    make_bundle(folder / _SHORT, "true")
    make_bundle(folder / _LONG, "sleep", "1000000")
    runtimes = [Runtime(name, folder) for name in NAMES]
    seconds = interleave(runtimes, lambda r: timed(r.verb("run", bundle=_SHORT)), rounds)
    yield "run of true, ms", [1000 * s for s in seconds]
    turns = [[runtime.life() for runtime in runtimes] for _ in range(rounds + 1)][1:]
    for number, step in enumerate(STEPS):
        columns = zip(*([life[number] for life in turn] for turn in turns), strict=True)
        yield f"{step}, ms", [1000 * statistics.median(column) for column in columns]


def make_bundle(folder: Path, *args: str) -> None:
    """Make a bundle of a busybox with what runc has as its default, but for the terminal."""
    binaries = folder / "rootfs/bin"
    binaries.mkdir(parents=True)
    busybox = shutil.copy(shutil.which("busybox") or "/bin/busybox", binaries)
    for name in ("true", "sleep"):
        (binaries / name).symlink_to(Path(busybox).name)
    call("runc", "spec", "--bundle", str(folder))
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["process"] |= {"args": list(args), "terminal": False}
    path.write_text(json.dumps(config))
