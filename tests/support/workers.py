"""Several forks of pytest that share the tests of one run.

Forked after collection, and not pytest-xdist: its workers have a thread each, and the engine, which
tests call in their own process, launches containers from single-threaded processes only. What a
worker takes at a time is a file, since the tests of one may share fixtures. Its reports are shown
when it is done with it, so that the output reads as that of a single process.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

import pytest

_WANT = "want"
"""A worker wants another file, and gets its number, or None. It asks before the last test of a
file has run: only by what comes next, fixtures know whether they are still needed."""
_DONE = "done"
"""All tests of a file have run."""


@dataclass
class _Worker:
    pid: int
    pipe: Connection
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Hooks it has called since the last file was done, with their arguments."""


def run_in_workers(session: pytest.Session, count: int, prepare: Callable[[], object]) -> None:
    """Run the tests of *session* in *count* forks; in each, *prepare* is called first."""
    files = [list(items) for _, items in groupby(session.items, lambda item: item.path)]
    files.sort(key=_is_quick)
    todo = deque(range(len(files)))
    with _forked(session, count, files, prepare) as workers:
        while workers:
            pipes = wait([worker.pipe for worker in workers])
            for worker in [worker for worker in workers if worker.pipe in pipes]:
                try:
                    name, arguments = worker.pipe.recv()
                except EOFError:
                    workers.remove(worker)
                    _check_end(worker)
                    continue
                if name == _WANT:
                    enough = session.shouldfail or session.shouldstop or not todo
                    worker.pipe.send(None if enough else todo.popleft())
                elif name == _DONE:
                    _repeat(session.config, worker)
                else:
                    worker.calls.append((name, arguments))
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)


def _is_quick(tests: list[pytest.Item]) -> bool:
    """Tell whether a file need not begin first: one that waits for packages takes minutes."""
    return not any(test.get_closest_marker("download") for test in tests)


@contextmanager
def _forked(
    session: pytest.Session,
    count: int,
    files: list[list[pytest.Item]],
    prepare: Callable[[], object],
) -> Iterator[list[_Worker]]:
    """Yield workers; who is still in the list at the end tears down what it set up, and goes."""
    # One folder for all, before each makes one.
    session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    sys.stdout.flush()
    workers: list[_Worker] = []
    try:
        for _ in range(count):
            here, there = Pipe()
            pid = os.fork()
            if pid == 0:
                here.close()
                for worker in workers:
                    worker.pipe.close()
                _be_worker(session, there, files, prepare)
            there.close()
            workers.append(_Worker(pid, here))
        yield workers
    except BaseException:
        for worker in workers:
            os.kill(worker.pid, signal.SIGINT)
        raise
    finally:
        for worker in workers:
            worker.pipe.close()
            os.waitpid(worker.pid, 0)


def _check_end(worker: _Worker) -> None:
    worker.pipe.close()
    _, status = os.waitpid(worker.pid, 0)
    if status != 0:
        begun = [call["nodeid"] for name, call in worker.calls if name == "pytest_runtest_logstart"]
        pytest.exit(f"a worker died in {begun[-1] if begun else 'no test'}", returncode=1)


def _repeat(config: pytest.Config, worker: _Worker) -> None:
    """Call here what the worker has called there: report, count, remember what failed."""
    for name, arguments in worker.calls:
        if "report" in arguments:
            data = arguments["report"]
            arguments["report"] = config.hook.pytest_report_from_serializable(
                config=config, data=data
            )
        getattr(config.hook, name)(**arguments)
    worker.calls.clear()


def _be_worker(
    session: pytest.Session,
    pipe: Connection,
    files: list[list[pytest.Item]],
    prepare: Callable[[], object],
) -> NoReturn:
    code = 1
    try:
        os.setpgid(0, 0)  # ctrl-c is for the other process, which passes it on once
        _capture_anew(session.config)
        prepare()
        session.config.pluginmanager.register(_Teller(session.config, pipe))
        _run_tests(session, _tests(pipe, files), pipe)
        code = 0
    except KeyboardInterrupt:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            session._setupstate.teardown_exact(None)
        finally:
            os._exit(code)


def _capture_anew(config: pytest.Config) -> None:
    """Capture into files of its own, not the other process's; what pytest says is for nobody."""
    capture = config.pluginmanager.getplugin("capturemanager")
    capture.stop_global_capturing()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    capture.start_global_capturing()
    capture.suspend_global_capture(in_=True)


def _tests(pipe: Connection, files: list[list[pytest.Item]]) -> Iterator[pytest.Item]:
    while True:
        pipe.send((_WANT, None))
        number = pipe.recv()
        if number is None:
            return
        yield from files[number]


def _run_tests(session: pytest.Session, tests: Iterator[pytest.Item], pipe: Connection) -> None:
    test = next(tests, None)
    while test is not None:
        following = next(tests, None)
        session.config.hook.pytest_runtest_protocol(item=test, nextitem=following)
        if following is None or following.path != test.path:
            pipe.send((_DONE, None))
        if session.shouldfail or session.shouldstop:
            pipe.send((_DONE, None))
            return
        test = following


class _Teller:
    """Tells the other process what became of each test."""

    def __init__(self, config: pytest.Config, pipe: Connection) -> None:
        self._config = config
        self._pipe = pipe

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self._pipe.send(("pytest_runtest_logstart", {"nodeid": nodeid, "location": location}))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._pipe.send(("pytest_runtest_logreport", {"report": data}))

    def pytest_runtest_logfinish(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self._pipe.send(("pytest_runtest_logfinish", {"nodeid": nodeid, "location": location}))
