"""Inside the machine: brings a project where the power shall go, and tells what is there after it.

    python3 -m tests.vm.stage [--world FOLDER]

It reads verbs from stdin, one a line, and answers each with one line on stdout:

    cut {alpha,beta,delete} [--point N] [--after S]
    mend {alpha,beta} [--undoctored] [--kept]
    gone

``cut`` answers "passed N" when it got through, or waits at the point it was given for the power to
go, and says "now". One process does all of a boot: to start Python takes seconds here. What is not
as it must be ends it with a traceback.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from tests.support.fuse import run_with_fuse
from tests.support.leaks import Snapshot
from tests.support.site import Site

PRECIOUS = "/data/precious"
MANIFESTS = Path("/run/stage")


def main() -> None:
    """Do what is read, to the end of the input."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.vm.stage")
    parser.add_argument("--world", type=Path)
    world = parser.parse_args().world
    for folder in filter(None, (MANIFESTS, world)):
        folder.mkdir(exist_ok=True)
    site = Site(world, MANIFESTS)
    site.fresh = Snapshot(world, frozenset(), files=True)
    # Commands run in forks with a stdout of their own; this is where the host reads.
    host = os.dup(1)
    verbs = _verbs()
    for line in sys.stdin:
        given = verbs.parse_args(line.split())
        os.write(host, f"{_perform(site, given, host)}\n".encode())


def _verbs() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stage")
    verbs = parser.add_subparsers(dest="verb", required=True)
    cutting = verbs.add_parser("cut")
    cutting.add_argument("what", choices=("alpha", "beta", "delete"))
    cutting.add_argument("--point", type=int, default=sys.maxsize)
    cutting.add_argument("--after", type=float, default=0.0)
    mending = verbs.add_parser("mend")
    mending.add_argument("word", choices=("alpha", "beta"))
    mending.add_argument("--undoctored", action="store_true")
    mending.add_argument("--kept", action="store_true")
    verbs.add_parser("gone")
    return parser


def _perform(site: Site, given: argparse.Namespace, host: int) -> str:
    if given.verb == "cut":
        return f"passed {cut(site, given.what, given.point, partial(wait, host, given.after))}"
    if given.verb == "mend":
        mend(site, given.word, doctored=not given.undoctored, kept=given.kept)
        return "mended"
    site.check_gone("after the power was lost")
    return "gone"


def cut(site: Site, what: str, point: int, blow: partial[None]) -> int:
    """Run an apply of a state, or the delete, up to a point; return how many it passed."""
    if what == "delete":
        words = ["delete", "-p", "test", "--delete-volumes"]
    else:
        words = ["apply", "-f", site.files[what]]
    ran = run_with_fuse(site.bayplan, words, point, deep=True, blow=blow)
    assert ran.code == 0, f"{ran.out}\n{ran.errors}"
    return int(ran.last.split()[0])


def wait(host: int, after_s: float) -> None:
    """Say that the point is reached, *after_s* later; and stay there."""
    time.sleep(after_s)  # the machine writes back by itself meanwhile
    os.write(host, b"now\n")
    while True:
        signal.pause()


def mend(site: Site, word: str, *, doctored: bool, kept: bool) -> None:
    """Check that the state is read, is mended, and converges to *word*, and what volumes hold.

    *kept*: what this has synced into a volume once is still there; else it is put there now.
    """
    bayplan = site.bayplan
    tell("ps")
    known = [container["name"] for container in bayplan.json("ps", "-a")]
    if doctored:
        tell("doctor")
        mended = bayplan("doctor", "--mend", code=None).stdout
        again = bayplan("doctor", code=None).stdout
        assert again == "all is well\n", f"after --mend said\n{mended}"
    tell("apply, plan, doctor, ps")
    site.check_converges(word, f"power lost with {known}")
    tell("volumes")
    version = bayplan("exec", "test.keeper", "cat", "/etc/debian_version").stdout
    assert version == Path("/etc/debian_version").read_text(), "what a volume was filled with"
    if not kept:
        script = f"echo precious | dd of={PRECIOUS} conv=fsync"
        bayplan("exec", "test.keeper", "sh", "-c", script)
    precious = bayplan("exec", "test.keeper", "cat", PRECIOUS).stdout
    assert precious == "precious\n", "what was synced before the power was lost"


def tell(what: str) -> None:
    """Say what begins now, for whoever wonders what takes so long."""
    print(f"{time.monotonic():.1f} {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
