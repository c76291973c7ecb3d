"""The machine: qemu, its disk, and the ways to be rid of it at once.

What a loss of power takes: the page cache of the machine, and what its disk was given but not
told to flush. Of the latter qemu keeps a part in memory, as a disk does in its cache: which
clusters of the overlay are in use. So what the machine has flushed is there after ``kill -9`` of
qemu, and what it only wrote may be there or not, in any order.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.vm.accelerator import KVM, accelerator
from tests.vm.channel import Channel, Command, MachineGone, Ran
from tests.vm.disks import packages_disk, project_disk
from tests.vm.image import image

DEFAULT_MEMORY_MIB = 1024
BOOT_S = 600.0
"""Bounds are for a busy host without KVM; an idle one needs a fiftieth."""
COMMAND_S = 900.0
_SLOWNESS = 5
"""How many times longer what tests wait for may take in here."""
_CONSOLE_LINES = 25


class Machine:
    """A context: powered on in it, and gone with all its files after it."""

    def __init__(self, *, memory_mib: int = DEFAULT_MEMORY_MIB, processors: int = 2) -> None:
        self._memory_mib, self._processors = memory_mib, processors
        self._qemu: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self.boot_id = ""
        """Of the boot that goes on."""

    def __enter__(self) -> Machine:
        self._folder = Path(tempfile.mkdtemp(prefix="bayplan-vm-"))
        try:
            self._image = image()
            self._packages = packages_disk()
            project_disk(self._folder / "project.ext4")
            self._overlay()
            self.power_on()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._qemu is not None:
            self.power_off_hard()
        shutil.rmtree(self._folder)

    # power

    @property
    def is_on(self) -> bool:
        """Tell whether qemu runs."""
        return self._qemu is not None

    def power_on(self, *, timeout_s: float = BOOT_S) -> None:
        """Boot from the disk as it is; returns when the machine takes commands."""
        assert self._qemu is None, "the machine is on"
        path = self._folder / "channel"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(1)
            listener.settimeout(30)
            with (self._folder / "qemu.log").open("wb") as log:
                self._qemu = subprocess.Popen(
                    self._command(path), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                raise TimeoutError(f"qemu does not start: {self._qemu_log()}") from None
        connection.settimeout(None)
        self._channel = Channel(connection)
        try:
            self.boot_id = self._channel.wait_hello(timeout_s)
        except (TimeoutError, MachineGone) as gone:
            raise type(gone)(f"{gone}\n{self._qemu_log()}{self.console_tail()}") from None

    def power_off_hard(self) -> None:
        """Take the power away: qemu is killed with -9."""
        assert self._qemu is not None, "the machine is off"
        self._qemu.kill()
        self._off()

    def reboot(self, *, timeout_s: float = BOOT_S) -> None:
        """Shut down as ``systemctl reboot`` does, and boot."""
        before = self.boot_id
        assert self._qemu is not None, "the machine is off"
        with suppress(MachineGone):  # the answer may be cut off
            self.run(["systemctl", "--no-block", "reboot"])
        try:
            self._qemu.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(
                f"no end of reboot after {timeout_s:.0f} s\n{self.console_tail()}"
            ) from None
        self._off()
        self.power_on(timeout_s=timeout_s)
        assert self.boot_id != before

    def _off(self) -> None:
        assert self._qemu is not None
        self._qemu.wait()
        self._qemu = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    # commands and files

    def start(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/srv/bayplan",
    ) -> Command:
        """Start a command as root; its stdin is open. It runs on when nobody waits for it."""
        assert self._channel is not None, "the machine is off"
        return self._channel.start(argv, env or {}, cwd)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str = "/srv/bayplan",
        code: int | None = 0,
        timeout_s: float = COMMAND_S,
    ) -> Ran:
        """Run a command to its end; the exit code must be *code*, if one is given.

        Raises:
            TimeoutError: it did not end in time; says what it has written, and the console's end.
            MachineGone: the machine went off meanwhile.
        """
        command = self.start(argv, env=env, cwd=cwd)
        command.give(stdin)
        command.end_input()
        try:
            ran = command.wait(timeout_s)
        except TimeoutError as late:
            command.signal(signal.SIGKILL)
            raise TimeoutError(f"{late}\n{self.console_tail()}") from None
        assert code is None or ran.code == code, str(ran)
        return ran

    def pytest(self, *arguments: str, timeout_s: float = 3600) -> Ran:
        """Run tests of the project in the machine; shows their output if one fails."""
        command = ["env", f"BAYPLAN_SLOWNESS={_SLOWNESS}", "python3", "-B", "-m", "pytest"]
        command += ["-p", "no:cacheprovider", "-q", "--tb=short", f"--timeout={300 * _SLOWNESS}"]
        return self.run([*command, *arguments], timeout_s=timeout_s)

    def write(self, path: str, content: bytes | str, *, sync: bool = False) -> None:
        """Write a file in the machine, and its folders; *sync*: it is on the disk after it."""
        data = content.encode() if isinstance(content, str) else content
        script = 'mkdir -p "${1%/*}" && cat > "$1"' + (' && sync "$1" "${1%/*}"' if sync else "")
        self.run(["sh", "-c", script, "sh", path], stdin=data)

    def read(self, path: str) -> str:
        """Return a file of the machine."""
        return self.run(["cat", path]).out

    # what went on

    def console_tail(self) -> str:
        """Return the last lines of the console, with a heading."""
        try:
            text = (self._folder / "console").read_text(errors="replace")
        except FileNotFoundError:
            return "nothing on the console"
        # Without colours, and without the picture of a job that is waited for.
        lines = re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", text).splitlines()
        lines = [line for line in lines if len(line) > 2 and not re.match(r"\W*Job ", line)]
        return "the console's last lines:\n" + "\n".join(lines[-_CONSOLE_LINES:])

    def _qemu_log(self) -> str:
        return (self._folder / "qemu.log").read_text(errors="replace")

    def _overlay(self) -> None:
        """Make the disk anew: all that is written goes into a file beside the image."""
        disk = self._folder / "disk.qcow2"
        disk.unlink(missing_ok=True)
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw"]
        subprocess.run([*command, "-b", str(self._image.root), str(disk)], check=True)

    def _command(self, channel: Path) -> list[str]:
        folder = self._folder
        accel = accelerator(self._image)
        disks = (
            f"file={folder}/disk.qcow2,format=qcow2,cache=writeback",
            f"file={self._packages},format=raw,readonly=on",
            f"file={folder}/project.ext4,format=raw,readonly=on",
        )
        return [
            # It does not outlive this process, however that ends.
            *("setpriv", "--pdeathsig", "KILL"),
            *("qemu-system-x86_64", "-accel", accel, *(("-cpu", "host") if accel == KVM else ())),
            *("-smp", str(self._processors), "-m", str(self._memory_mib)),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd)),
            # Without mitigations emulation is a sixth faster; they protect nobody here. A busy host
            # has no time for the timer when the kernel checks whether it ticks, and panics if not.
            "-append",
            "console=ttyS0 quiet mitigations=off no_timer_check systemd.show_status=1",
            *(word for disk in disks for word in ("-drive", f"{disk},if=virtio")),
            *("-chardev", f"file,id=console,path={folder}/console,append=on"),
            *("-serial", "chardev:console"),
            *("-device", "virtio-serial-pci", "-chardev", f"socket,id=channel,path={channel}"),
            *("-device", "virtserialport,chardev=channel,nr=1"),
        ]
