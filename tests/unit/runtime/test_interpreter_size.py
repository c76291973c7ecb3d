"""The interpreter lives in the supervisor, and every launch copies its page tables."""

import os
import subprocess
import sys

HEAVY = {"argparse", "asyncio", "dataclasses", "inspect", "logging", "pathlib", "subprocess"}


def test_it_imports_nothing_big():
    script = (
        "import os, sys; sys.path.insert(0, os.getcwd())\n"
        "import runtime.supervisor.interpreter\n"
        "print(*sys.modules)\n"
        "print(*[l.split()[1] for l in open('/proc/self/status') if l.startswith('VmRSS')])"
    )
    command = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=os.getcwd())
    modules, resident_kib = done.stdout.splitlines()
    assert not HEAVY & set(modules.split())
    assert int(resident_kib) < 16 << 10
