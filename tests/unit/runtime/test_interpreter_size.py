"""The interpreter lives in the supervisor, and every launch copies its page tables."""

import os
import subprocess
import sys

HEAVY = {"argparse", "asyncio", "dataclasses", "inspect", "logging", "pathlib", "subprocess"}
SELDOM = ("features", "template")
"""Modules of verbs that are called by hand, or once."""
PYTHON_HALVES = {"ctypes", "enum", "re", "signal", "socket", "typing"}


def after(imports: str) -> tuple[set[str], int]:
    """Return which modules a fresh interpreter has loaded by *imports*, and its memory in KiB."""
    script = (
        f"import os, sys; sys.path.insert(0, os.getcwd())\n{imports}\n"
        "print(*sys.modules)\n"
        "print(*[l.split()[1] for l in open('/proc/self/status') if l.startswith('VmRSS')])"
    )
    command = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=os.getcwd())
    modules, resident_kib = done.stdout.splitlines()
    return set(modules.split()), int(resident_kib)


def test_it_imports_nothing_big():
    modules, resident_kib = after("import runtime.supervisor.interpreter")
    assert not HEAVY & modules
    assert resident_kib < 16 << 10


def test_a_command_of_the_oci_runtime_imports_no_python_half_of_what_it_needs():
    """Each of these takes longer than some commands; `runtime.kernel.bare`, `json_text`."""
    modules, _ = after(
        f"import runtime.cli.main, runtime.cli.commands; SELDOM = {SELDOM}\n"
        "for verb in runtime.cli.commands._VERBS.values():\n"
        "    if verb.module not in SELDOM: verb.load()\n"
        "import runtime.cli.foreground, runtime.cli.relay, runtime.cgroup.limiting"
    )
    assert not (HEAVY | PYTHON_HALVES) & modules
