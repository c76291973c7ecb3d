"""Power losses: the project of ``stage`` taken to a point, the power away, and what is left."""

from __future__ import annotations

from tests.vm.channel import Command
from tests.vm.machine import COMMAND_S, Machine


class Stage:
    """The project in one world of the machine; none: the default one."""

    def __init__(self, machine: Machine, world: str | None = None) -> None:
        self.machine = machine
        self._words = ["python3", "-B", "-m", "tests.vm.stage"]
        self._words += ["--world", world] if world else []
        self._command: Command | None = None
        self._boot = ""

    def passes(self, what: str) -> int:
        """Let a verb through; returns how many points it has passed."""
        return int(self._ask(f"cut {what}").split()[1])

    def lose_power(self, what: str, point: int, *, after_s: float = 0.0) -> bool:
        """Take the power away at a point, and boot; false if the verb got through before."""
        if self._ask(f"cut {what} --point={point} --after={after_s}") != "now":
            return False
        self.machine.power_off_hard()
        self.machine.power_on()
        return True

    def mend(self, word: str, *, doctored: bool = True, kept: bool = False) -> None:
        """Check that all is read, mended and converges, and that nothing synced is lost."""
        options = [*(() if doctored else ("--undoctored",)), *(("--kept",) if kept else ())]
        self._ask(" ".join(("mend", word, *options)))

    def check_gone(self) -> None:
        """Delete the project; nothing of it may be left."""
        self._ask("gone")

    def _ask(self, line: str) -> str:
        if self._command is None or self._boot != self.machine.boot_id:
            self._command = self.machine.start(self._words)
            self._boot = self.machine.boot_id
        self._command.give(f"{line}\n".encode())
        return self._command.next_line(COMMAND_S)
