"""Tests that several workers share: each runs once, and none is lost with its worker."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFTEST = """
import os, pytest
from tests.conftest import pytest_addoption, pytest_runtestloop
@pytest.fixture(scope="session")
def worker():
    yield f"{os.getpid()} {os.readlink('/proc/self/ns/net')}"
    print(f"end {os.getpid()}", file=open("notes", "a"))
"""
NOTE = """
import pytest
@pytest.mark.parametrize("number", range(2))
def test_it(worker, number):
    print(f"{__file__}-{number} {worker}", file=open("notes", "a"))
"""


def run(folder: Path, files: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    for name, text in {"conftest.py": CONFTEST, **files}.items():
        (folder / name).write_text(text)
    return subprocess.run(
        [*(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"), "--workers", "2", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_each_runs_once_and_those_of_a_file_in_one_network(tmp_path):
    done = run(tmp_path, {f"test_{name}.py": NOTE for name in "abc"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].strip("= ").startswith("6 passed in ")
    notes = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    ran = {words[0]: tuple(words[1:]) for words in notes if words[0] != "end"}
    ended = [words[1] for words in notes if words[0] == "end"]
    assert sorted(ran) == [f"{tmp_path}/test_{name}.py-{n}" for name in "abc" for n in "01"]
    assert all(ran[f"{tmp_path}/test_{n}.py-0"] == ran[f"{tmp_path}/test_{n}.py-1"] for n in "abc")
    workers = set(ran.values())
    assert sorted(ended) == sorted(pid for pid, _ in workers), "torn down once in each"
    if os.geteuid() == 0:
        assert len({network for _, network in workers}) == len(workers)


def test_a_failure_is_told_with_what_was_printed_and_can_end_the_run(tmp_path):
    fails = "def test_it():\n    print('before')\n    assert False\n"
    done = run(
        tmp_path, {f"test_{n}.py": fails + f"def test_{n}(): pass\n" for n in "abcdef"}, "-x"
    )
    assert done.returncode == 1
    assert "Captured stdout call" in done.stdout
    assert "before" in done.stdout
    assert "passed" not in done.stdout
    assert "stopping after" in done.stdout


def test_a_worker_that_dies_is_told_with_the_test_it_died_in(tmp_path):
    dies = "import os\ndef test_it(): os.kill(os.getpid(), 9)\n"
    done = run(tmp_path, {"test_dies.py": dies})
    assert done.returncode == 1
    assert "a worker died in test_dies.py::test_it" in done.stdout
