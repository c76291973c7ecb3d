"""The machine by hand: ``python -m tests.vm run -- COMMAND...``, ``python -m tests.vm shell``."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys

from tests.vm.channel import Command, MachineGone
from tests.vm.machine import DEFAULT_MEMORY_MIB, Machine
from tests.vm.wire import Kind


def main() -> int:
    """Run what the command line says; the exit code is that of the command in the machine."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description=__doc__)
    parser.add_argument("--memory", type=int, default=DEFAULT_MEMORY_MIB, metavar="MIB")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="make image and disks, and boot once")
    running = verbs.add_parser("run", help="boot, run a command as root, and power off")
    running.add_argument("argv", nargs="+", metavar="COMMAND")
    verbs.add_parser("shell", help="boot, and run each line of stdin by sh; `reboot`, `power-loss`")
    given = parser.parse_args()
    # However it is ended, the machine goes with it; a shell lets what it starts in the background
    # ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Machine(memory_mib=given.memory) as machine:
        if given.verb == "run":
            return _follow(machine.start(given.argv))
        if given.verb == "shell":
            return _shell(machine)
        return 0


def _follow(command: Command) -> int:
    """Copy what it says until it ends."""
    command.end_input()
    ends = {Kind.OUTPUT: sys.stdout.buffer, Kind.ERRORS: sys.stderr.buffer}
    while True:
        kind, payload = command.next(timeout_s=3600)
        if kind is Kind.EXIT:
            code = int(payload)
            return code if code >= 0 else 128 - code
        ends[kind].write(payload)
        ends[kind].flush()


def _shell(machine: Machine) -> int:
    folder = "/srv/bayplan"
    while True:
        print(f"machine:{folder}# ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return 0
        words = shlex.split(line)
        if words == ["exit"]:
            return 0
        if words == ["reboot"]:
            machine.reboot()
        elif words == ["power-loss"]:
            machine.power_off_hard()
            machine.power_on()
        elif words[:1] == ["cd"]:
            folder = machine.run(["sh", "-c", f"{line}\npwd"], cwd=folder).out.strip()
        elif words:
            try:
                _follow(machine.start(["sh", "-c", line], cwd=folder))
            except MachineGone as gone:
                print(gone, file=sys.stderr)
                return 1


if __name__ == "__main__":
    sys.exit(main())
