"""The launch program: what a child does between fork and exec, as a flat list of data.

`runtime.container.program` compiles it, purely; `runtime.supervisor.interpreter` runs it in the
forked child. Each operation is a tuple of a name and JSON scalars or lists, and is close to one
system call, so that a list can be printed, compared, stored and one day run by native code.

::

    in the host's view
      join FILE                           write "0" to a version 1 cgroup's tasks
      setns PATH FLAG                     enter the namespace pinned at PATH
      enter FLAGS                         enter the namespaces of the process given to the launch
      among FOLDER                        have children among the processes of another container
      unshare FLAGS                       new namespaces, for this process on its own
      environment PATH                    read more variables, NAME=VALUE between NULs
      oom_score_adj NUMBER                (a warning where the host forbids it)
      tree SLOT SOURCE RECURSIVE          clone the mount of a host path, kept under a number
      attributes SLOT SET CLEAR PROPAGATION RECURSIVE     change such a clone
      device SLOT MODE MAJOR MINOR UID GID    a node to attach where none can be made
      host_device SLOT PATH MODE MAJOR MINOR  the host's node to attach where root can make none
      idmap SLOT UIDS GIDS RECURSIVE      show a clone's files with other owners
      private [FLAGS]                     stop mount propagation to the host, and from it
      filesystem SLOT SOURCE TYPE FLAGS DATA  a file system of the kernel's, not mounted yet
      overlay LOWERS UPPER WORK VOLATILE  mount the root (LOWERS lowest first; no UPPER: null)
      bind_root PATH                      or take a folder as the root
      slot_root SLOT                      or a clone made earlier
      change_root                         as pivot, where the host's root is a ramfs
      pivot                               make it the root; the host's files are gone from view

    in the container's view, every path resolved inside its root
      mount SOURCE TARGET TYPE FLAGS DATA [COPIES]    TARGET is made if missing
      place SLOT TARGET TYPE              put the file system kept in SLOT there
      attach SLOT TARGET                  put the clone kept in SLOT there; TARGET is made likewise
      node PATH MODE MAJOR MINOR UID GID  device node; MODE includes the file type
      symlink TEXT PATH
      console BIND UID                    terminal from the container's devpts as standard streams
      sysctl PATH VALUE                   PATH below /proc/sys
      mask PATHS                          hide what is there
      readonly PATHS                      no writing through these
      mount_attributes PATH SET           change the mount at PATH, at the end of all mounting
      root_propagation FLAGS
      loopback                            set the loopback interface up
      hostname NAME
      domainname NAME

    for a container made in steps (`runtime.container.stages`)
      labels MODULES KEEP                 see that the host has these; keep its /proc for `label`
      label MODULE TEXT                   what exec changes to
      close_labels
      stop NAME                           wait until the parent has done what is due here
      identity                            become root of the user namespace just entered
      keyring NAME                        leave the caller's session keyring
      own_streams UID                     give the standard streams to this user
      hooks STATUS ITEMS                  run programs, each told of the container
      inherit                             let the program have the caller's descriptors
      await_start                         wait until somebody connects, who is then the parent
      started                             tell that one that the hooks are through
      listener HEX FLAGS                  load a filter, and hand the parent its listener

    the process
      rlimit NUMBER SOFT HARD             (a warning where the host forbids the hard limit)
      workdir PATH MAKE                   change to it
      personality DOMAIN
      umask MODE
      bounding MASK                       drop all other capabilities from the bounding set
      user UID GID GIDS
      capabilities EFFECTIVE PERMITTED INHERITABLE AMBIENT    as masks
      no_new_privs
      fork                                go on in a sibling, born as everything above made us
      session TAKE                        setsid, and take standard input as controlling terminal
      find NAME FOLDERS                   search the program that exec shall run
      seccomp HEX FLAGS                   load a filter
      exec ARGUMENTS ENVIRONMENT          last
      init ARGUMENTS ENVIRONMENT          last; below an init that reaps and forwards signals
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Operation = tuple["Any", ...]

# The NUMBER of `rlimit` is a place in this; getrlimit(2); asm-generic/resource.h
RLIMITS = (
    *("RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS"),
    *("RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS"),
    *("RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME"),
)


class Program:
    """*namespaces* to be born into (CLONE_NEW* flags), then *operations* in order. Immutable.

    *cgroup* is the folder of a version 2 cgroup to be born into, if any (CLONE_INTO_CGROUP: much
    cheaper than moving there).

    Not a dataclass only because the supervisor imports this and pays for every module it loads.
    """

    __slots__ = ("cgroup", "namespaces", "operations")

    namespaces: int
    operations: tuple[Operation, ...]
    cgroup: str | None

    def __init__(
        self, namespaces: int, operations: tuple[Operation, ...], cgroup: str | None = None
    ) -> None:
        object.__setattr__(self, "namespaces", namespaces)
        object.__setattr__(self, "operations", operations)
        object.__setattr__(self, "cgroup", cgroup)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Program does not change: {name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Program({self.namespaces:#x}, {len(self.operations)} operations)"

    def to_json(self) -> dict[str, Any]:
        """Return the program as JSON data."""
        return {
            "namespaces": self.namespaces,
            "operations": [list(operation) for operation in self.operations],
            "cgroup": self.cgroup,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Program:
        """Return the program that `to_json` made *data* of."""
        return cls(
            data["namespaces"],
            tuple(_freeze(operation) for operation in data["operations"]),
            data["cgroup"],
        )

    def describe(self) -> str:
        """Return the program as text, an operation a line, for people."""
        lines = (
            f"{index:3} {operation[0]} {' '.join(_word(a) for a in operation[1:])}".rstrip()
            for index, operation in enumerate(self.operations)
        )
        return "\n".join((f"namespaces {self.namespaces:#x} cgroup {self.cgroup}", *lines))

    def _key(self) -> tuple[Any, ...]:
        return self.namespaces, self.operations, self.cgroup


def _freeze(value: Any) -> Any:
    return tuple(_freeze(v) for v in value) if isinstance(value, list) else value


def _word(argument: Any) -> str:
    if isinstance(argument, tuple):
        return f"[{' '.join(_word(a) for a in argument)}]"
    text = str(argument)
    return text if len(text) <= 80 else f"{text[:40]}... ({len(text)} characters)"
