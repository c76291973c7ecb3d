"""Markers, the must-run switch, and a world of its own for each test that touches the kernel."""

import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.support.cli import Bayplan
from tests.support.host import CANNOT
from tests.support.network import of_machine, own_network
from tests.support.workers import run_in_workers
from tests.support.worlds import fresh_world

# A shell starts what it runs in the background with SIGINT ignored, and that is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)

MUST_RUN = bool(os.environ.get("BAYPLAN_MUST_RUN"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite expected files")
    parser.addoption("--workers", type=int, default=1, help="how many tests may run at a time")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    options = session.config.option
    if options.workers < 2 or options.collectonly or options.usepdb or session.testsfailed:
        return None
    run_in_workers(session, options.workers, own_network if os.geteuid() == 0 else lambda: None)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None):
    with of_machine() if item.get_closest_marker("download") else nullcontext():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if MUST_RUN and report.skipped and CANNOT not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"skipped although BAYPLAN_MUST_RUN is set: {report.longrepr}"
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    marks = {"kernel", "e2e"} & {mark.name for mark in item.iter_markers()}
    if marks and os.geteuid() != 0:
        pytest.skip("not root: kernel and e2e tests make real namespaces, mounts and links")


@pytest.fixture
def world() -> Iterator[Path]:
    """A folder for ``--root``; afterwards nothing of it may be left in the kernel or on disk."""
    with fresh_world() as folder:
        yield folder


@pytest.fixture
def bayplan(world: Path) -> Bayplan:
    """The command, in a world that must be empty again at the end."""
    return Bayplan(world)
