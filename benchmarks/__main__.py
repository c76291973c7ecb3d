"""`make bench`: ours beside its peers, interleaved; medians and ratios."""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import commands, crowd, runtimes, stage
from benchmarks.engines import Bayplan, Docker, Engine, Podman
from benchmarks.figures import table

PEERS: dict[str, type[Engine]] = {"podman": Podman, "docker": Docker}


def main() -> None:
    """Run what is asked for and print a table of each."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contestant per row")
    rows = commands.ROWS
    parser.add_argument("--rows", nargs="+", choices=rows, default=list(rows), help="of engines")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), help="likewise")
    parser.add_argument("--many", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--crowd", type=int, default=1000)
    parser.add_argument(stage.STAGED, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.staged:
        stage.install_peers()
        stage.enter()
    stage.prepare()
    folder = Path(tempfile.mkdtemp(prefix="bayplan-bench-"))
    try:
        with stage.cgroups_swept():
            for part in options.only:
                print(PARTS[part](folder, options), flush=True)
    finally:
        if sys.exc_info()[0] is None:
            shutil.rmtree(folder)
        else:
            print(f"what there was is left in {folder}", file=sys.stderr)


def _engines(folder: Path, options: argparse.Namespace) -> str:
    kinds: list[type[Engine]] = [Bayplan, *(PEERS[name] for name in options.peers)]
    engines: list[Engine] = [kind(folder) for kind in kinds]
    measured = list(
        commands.rows(engines, folder, only=options.rows, rounds=options.rounds, many=options.many)
    )
    for each in engines:
        each.close()
    return table([engine.name for engine in engines], measured)


def _runtimes(folder: Path, options: argparse.Namespace) -> str:
    return table(runtimes.NAMES, list(runtimes.rows(folder, options.rounds)))


def _crowd(folder: Path, options: argparse.Namespace) -> str:
    return table([Bayplan.name], list(crowd.rows(folder, options.crowd)))


PARTS: dict[str, Callable[[Path, argparse.Namespace], str]] = {
    "engines": _engines,
    "runtimes": _runtimes,
    "crowd": _crowd,
}

if __name__ == "__main__":
    main()
