"""`make conformance`: every suite under its peer and under ours, as tables.

Exits with 1 if a peer passes what ours does not, or itself fewer cases than it can here: then the
suite has not run, whatever it says.
"""

import argparse
import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.conformance import stage
from tests.conformance.outcome import Row, rows, table

SUITES = (
    *("crun", "crun_machine", "runc", "podman_use", "podman_system"),
    *("docker_use", "buildah", "containerd"),
)
_STAGED = "--staged"
OURS = str(Path(sys.executable).with_name("bayplan-oci"))


def main() -> None:
    """Run the suites that are named, or all."""
    parser = argparse.ArgumentParser(prog="make conformance")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}")
    parser.add_argument(_STAGED, metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.suites) - set(SUITES):
        parser.error(f"there is no suite {', '.join(unknown)}")
    suites = [import_module(f"{__package__}.{name}") for name in options.suites or SUITES]
    if options.staged:
        folder = Path(options.staged)
        sys.exit(stage.as_first_process(lambda: run_all(suites, folder)))
    for suite in suites:
        suite.fetch()  # here, as there is no network where the suites run
    # What is in it is removed when nobody and no mount is left that could keep it.
    with tempfile.TemporaryDirectory(prefix="bayplan-conformance-") as folder:
        again = [sys.executable, "-m", __package__, _STAGED, folder, *sys.argv[1:]]
        code = stage.run_inside(again)
    sys.exit(code)


def run_all(suites: list[Any], folder: Path) -> int:
    """Run suites where they can do no harm; return 1 if any did not go well."""
    stage.prepare()
    return 0 if all([went_well(suite, run(suite, folder)) for suite in suites]) else 1


def went_well(suite: Any, found: list[Row]) -> bool:
    """Tell whether a suite has run, and did not find ours worse than its peer; say so if not."""
    passed = sum(row.peer.passed for row in found)
    if passed < suite.FEWEST:
        print(f"{suite.NAME}: {suite.PEER} passes {passed} cases, here it can {suite.FEWEST}")
        return False
    return not any(row.is_ours_to_mend for row in found)


def run(suite: Any, folder: Path) -> list[Row]:
    """Run one suite with both runtimes, print its table and return it."""
    results = []
    peer = shutil.which(suite.PEER)
    if peer is None:
        raise SystemExit(f"{suite.PEER} is not installed")
    for runtime in (peer, OURS):
        print(f"{suite.NAME}: with {runtime}", file=sys.stderr, flush=True)
        scratch = Path(tempfile.mkdtemp(dir=folder))
        results.append(suite.outcomes(runtime, scratch))
    found = rows(*results, getattr(suite, "DIFFERENCES", {}))
    print(table(suite.NAME, suite.PEER, found), flush=True)
    return found


if __name__ == "__main__":
    main()
