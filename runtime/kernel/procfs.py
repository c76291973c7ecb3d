"""What /proc says about mounts, processes and cgroup membership.

Parsers take text; readers take the folder where procfs is mounted, so that tests can hand in
another. A process that is gone is an ordinary answer (None) here, never an error.

Source: proc(5), Documentation/filesystems/proc.rst.
"""

import errno
import functools
import os

from runtime.record import dataclass

PROC = "/proc"

_PF_EXITING = 0x4

_ALL_IDS = (0, 0, 0xFFFFFFFF)

# What a read of a process that has just gone can answer.
_GONE = (FileNotFoundError, ProcessLookupError)


def _is_gone(error: OSError) -> bool:
    """Say so too of one that has left its namespaces and is not reaped yet: it has no mounts."""
    return isinstance(error, _GONE) or error.errno == errno.EINVAL


@dataclass(frozen=True, slots=True)
class MountInfo:
    """One line of mountinfo, escapes undone."""

    id: int
    parent_id: int
    device: str
    """``major:minor``."""
    root: str
    """Folder of the file system that forms the root of this mount."""
    mount_point: str
    options: tuple[str, ...]
    """Per mount."""
    propagation: tuple[str, ...]
    """``shared:N``, ``master:N`` ...; empty is private."""
    fstype: str
    source: str
    super_options: tuple[str, ...]
    """Per file system; for cgroup v1 the controllers are among them."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What ``/proc/PID/stat`` tells of who a process is, and of its life."""

    pid: int
    comm: str
    state: str
    """One letter; ``Z`` is a zombie."""
    ppid: int
    start_ticks: int
    """Clock ticks after boot. A pid and its start are unique within one boot."""
    flags: int
    """``PF_*`` of include/linux/sched.h."""
    exit_status: int
    """Of a zombie, as waitpid(2) has it; 0 also for who may not know."""


@dataclass(frozen=True, slots=True)
class Status:
    """The fields of ``/proc/PID/status`` that tell what a process may do and how big it is."""

    name: str
    state: str
    ppid: int
    threads: int
    uids: tuple[int, int, int, int]
    """Real, effective, saved, file system."""
    gids: tuple[int, int, int, int]
    groups: tuple[int, ...]
    namespace_pids: tuple[int, ...]
    """Its pid in each pid namespace, outermost (that of this procfs) first."""
    rss_bytes: int
    """Zero for a zombie and for kernel threads."""
    capabilities: dict[str, int]
    """``inheritable permitted effective bounding ambient`` to a bit mask."""
    no_new_privileges: bool
    seccomp: int
    """0 off, 1 strict, 2 filter."""
    seccomp_filters: int


def parse_mountinfo(text: str) -> tuple[MountInfo, ...]:
    """Return the mounts in *text*, in order; later mounts hide earlier ones.

    Raises:
        ValueError: a line is not in the form of proc_pid_mountinfo(5).
    """
    return tuple(_mount(line) for line in text.split("\n") if line)


def _mount(line: str) -> MountInfo:
    fields = line.split(" ")
    separator = fields.index("-", 6)
    fstype, source, super_options = fields[separator + 1 : separator + 4]
    return MountInfo(
        id=int(fields[0]),
        parent_id=int(fields[1]),
        device=fields[2],
        root=_unescape(fields[3]),
        mount_point=_unescape(fields[4]),
        options=tuple(fields[5].split(",")),
        propagation=tuple(fields[6:separator]),
        fstype=fstype,
        source=_unescape(source),
        super_options=tuple(_unescape(super_options).split(",")),
    )


def _unescape(text: str) -> str:
    # The kernel writes blank, tab, newline and backslash as three octal digits (mangle_path).
    before, *escaped = text.split("\\")
    for part in escaped:
        digits = part[:3]
        is_octal = len(digits) == 3 and not digits.strip("01234567")
        before += chr(int(digits, 8)) + part[3:] if is_octal else f"\\{part}"
    return before


def read_mountinfo(pid: int | str = "self", *, proc: str = PROC) -> tuple[MountInfo, ...] | None:
    """Return the mounts in the mount namespace of *pid*, None if it is gone."""
    text = _read(f"{proc}/{pid}/mountinfo")
    return None if text is None else parse_mountinfo(text)


def parse_stat(text: str) -> Stat:
    """Return the content of a ``stat`` file; *comm* may hold blanks, brackets and newlines."""
    head, _, tail = text.rpartition(")")
    pid, _, comm = head.partition(" (")
    fields = tail.split()
    # fields[0] is field 3 of proc_pid_stat(5), so the start time (field 22) is fields[19].
    ppid, flags, start, exit_status = (int(fields[n]) for n in (1, 6, 19, 49))
    return Stat(int(pid), comm, fields[0], ppid, start, flags, exit_status)


def read_stat(pid: int | str, *, proc: str = PROC) -> Stat | None:
    """Return the stat of *pid*, None if it is gone. A zombie is still there."""
    text = _read(f"{proc}/{pid}/stat")
    return parse_stat(text) if text else None


def read_times(pid: int | str, *, proc: str = PROC) -> int | None:
    """Return the clock ticks *pid* has run, in user space and for it; None if it is gone."""
    text = _read(f"{proc}/{pid}/stat")
    if not text:
        return None
    # Fields 14 and 15 of proc_pid_stat(5), as in parse_stat.
    fields = text.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def start_ticks(pid: int, *, proc: str = PROC) -> int | None:
    """Return when *pid* started, in clock ticks after boot; None if it is gone."""
    stat = read_stat(pid, proc=proc)
    return None if stat is None else stat.start_ticks


def is_running(pid: int, start: int, *, proc: str = PROC) -> bool:
    """Tell whether *pid* is the process that started at *start* ticks, and is no zombie."""
    stat = read_stat(pid, proc=proc)
    return stat is not None and stat.start_ticks == start and stat.state not in "ZX"


def is_ending(pid: int, start: int, *, proc: str = PROC) -> bool:
    """Tell whether the process that started at *start* ticks has begun to end, or is gone.

    The first of a pid namespace has left its cgroups and namespaces by then, and waits for the
    others to die before it is a zombie.
    """
    stat = read_stat(pid, proc=proc)
    if stat is None or stat.start_ticks != start:
        return True
    return stat.state in "ZX" or bool(stat.flags & _PF_EXITING)


def parse_status(text: str) -> Status:
    """Return the content of a ``status`` file; fields an older kernel lacks count as zero."""
    # Name comes first and is escaped, so a newline in it cannot forge a field.
    fields = dict(line.partition(":\t")[::2] for line in text.split("\n"))
    numbers = {
        key: tuple(int(word) for word in fields.get(key, "").split())
        for key in ("Uid", "Gid", "Groups", "NSpid")
    }
    return Status(
        name=_unescape(fields["Name"]),
        state=fields["State"][:1],
        ppid=int(fields["PPid"]),
        threads=int(fields["Threads"]),
        uids=_four(numbers["Uid"]),
        gids=_four(numbers["Gid"]),
        groups=numbers["Groups"],
        namespace_pids=numbers["NSpid"],
        rss_bytes=int(fields.get("VmRSS", "0 kB").split()[0]) * 1024,
        capabilities={
            name: int(fields.get(key, "0"), 16)
            for name, key in (
                ("inheritable", "CapInh"),
                ("permitted", "CapPrm"),
                ("effective", "CapEff"),
                ("bounding", "CapBnd"),
                ("ambient", "CapAmb"),
            )
        },
        no_new_privileges=fields.get("NoNewPrivs", "0").strip() == "1",
        seccomp=int(fields.get("Seccomp", "0")),
        seccomp_filters=int(fields.get("Seccomp_filters", "0")),
    )


def _four(numbers: tuple[int, ...]) -> tuple[int, int, int, int]:
    real, effective, saved, file_system = numbers
    return real, effective, saved, file_system


def read_status(pid: int | str, *, proc: str = PROC) -> Status | None:
    """Return the status of *pid*, None if it is gone."""
    text = _read(f"{proc}/{pid}/status")
    return parse_status(text) if text else None


def parse_cgroup(text: str) -> dict[str, str]:
    """Return controller -> path; the v2 hierarchy is under ``""``, a named one ``name=x``."""
    paths: dict[str, str] = {}
    for line in text.split("\n"):
        if line:
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                paths[controller] = path
    return paths


def read_cgroup(pid: int | str = "self", *, proc: str = PROC) -> dict[str, str] | None:
    """Return the cgroups of *pid* as parse_cgroup does, None if it is gone.

    Paths are relative to the reader's cgroup namespace; one that is gone ends in ``(deleted)``.
    """
    text = _read(f"{proc}/{pid}/cgroup")
    return None if text is None else parse_cgroup(text)


def read_traffic(pid: int | str, *, proc: str = PROC) -> dict[str, tuple[int, int]] | None:
    """Return the bytes that came and went by each interface *pid* sees; None if it is gone."""
    text = _read(f"{proc}/{pid}/net/dev")
    if text is None:
        return None
    rows = (line.rpartition(":") for line in text.split("\n")[2:] if line)
    return {name.strip(): (int(n.split()[0]), int(n.split()[8])) for name, _, n in rows}


def total_memory(*, proc: str = PROC) -> int:
    """Return the bytes of memory the machine has, as far as the kernel uses it."""
    text = _read(f"{proc}/meminfo") or ""
    return next(int(line.split()[1]) << 10 for line in text.splitlines() if "MemTotal" in line)


@functools.cache
def boot_id(*, proc: str = PROC) -> str:
    """Return the name of this boot of the machine, random(4)."""
    with open(f"{proc}/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def id_map(kind: str) -> tuple[tuple[int, int, int], ...]:
    """Return which ids this process's user namespace has; *kind* is ``uid`` or ``gid``.

    Of each range: the first id in there, the first outside, how many; user_namespaces(7).
    """
    try:
        with open(f"/proc/self/{kind}_map", encoding="ascii") as file:
            lines = [tuple(map(int, line.split())) for line in file]
    except FileNotFoundError:  # a kernel without user namespaces
        return (_ALL_IDS,)
    return tuple((inside, outside, count) for inside, outside, count in lines)


def is_confined() -> bool:
    """Tell whether this process is in a user namespace below the first, whatever it is there.

    Root of such a one can make no device node, and has only what its mappings name.
    """
    return id_map("uid") != (_ALL_IDS,)


def last_id(kind: str) -> int:
    """Return the last of the ids that are there from 0 on without a gap."""
    end = 0
    for inside, _outside, count in sorted(id_map(kind)):
        if inside > end:
            break
        end = max(end, inside + count)
    return end - 1


def _read(path: str) -> str | None:
    try:
        with open(path, "rb", buffering=0) as file:
            blocks = []
            while block := file.read(65536):
                blocks.append(block)
    except OSError as error:
        if _is_gone(error):
            return None
        raise
    return os.fsdecode(b"".join(blocks))
