"""One control group in all the hierarchies it needs.

What limits come to (`layout`, `limiting`) is imported when there are any to be set or compared:
commands that kill, freeze or look at a group take half as long without.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import ESRCH

from runtime.cgroup import files, membership
from runtime.cgroup.freezing import Freezer
from runtime.cgroup.hierarchy import Hierarchy, walk
from runtime.cgroup.v1 import core as v1_core
from runtime.cgroup.v2 import core
from runtime.cgroup.waiting import Deadline
from runtime.errors import KernelError, NotFoundError, StateError, UnsupportedHostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.cgroup.setting import Deviation
    from runtime.cgroup.stats import Stats
    from runtime.spec import Resources

_OURS = "bayplan"


class Cgroup:
    """The group *name* (``bayplan-ab12/<id>``) below every hierarchy's own mount point.

    Holds no state: any process may make one at any time, also for a group another has made.

    Raises:
        ValueError: *name* is not ours: it must begin with ``bayplan`` and have no empty part
            nor ``.`` or ``..``.
    """

    def __init__(self, hierarchy: Hierarchy, name: str) -> None:
        top, *below = name.split("/")
        is_ours = top == _OURS or (top.startswith(f"{_OURS}-") and top != f"{_OURS}-")
        if not is_ours or {"", ".", ".."}.intersection(below):
            raise ValueError(f"not the name of a cgroup of ours: {name!r}")
        self.hierarchy = hierarchy
        self.name = name

    @classmethod
    def of_caller(cls, hierarchy: Hierarchy, name: str) -> Cgroup:
        """Return the group *name*, which another engine chose and leaves to us (cgroupsPath).

        Raises:
            ValueError: *name* is empty, or has an empty part or ``.`` or ``..``.
        """
        if {"", ".", ".."}.intersection(name.split("/")):
            raise ValueError(f"not the name of a cgroup: {name!r}")
        group = cls.__new__(cls)
        group.hierarchy = hierarchy
        group.name = name
        return group

    def __repr__(self) -> str:
        return f"Cgroup({self.name!r})"

    def create(
        self, resources: Resources, *, tracking: bool = False, claim: bool = False
    ) -> tuple[str, ...]:
        """Make the group and set its limits; return, in words, what this host cannot enforce.

        Idempotent: a group that is there gets the limits as by ``update``, but not where it is to
        be a *claim*. Parents are made too; on v2 the controllers are switched on in all groups
        above.

        With *tracking* it also gets a part in the hierarchies without controllers (name=systemd,
        v2 of a hybrid host), by which systemd tells whose session a process belongs to: meant
        for the supervisor, whose children inherit it.

        Raises:
            ContainerError: the resources contradict each other, or the kernel refused a value.
            UnsupportedHostError: v2 controllers cannot be switched on, or are not delegated.
            StateError: a limit is below what is in use.
            ConflictError: there is such a group, and this was to *claim* it; nothing was done.
        """
        from runtime.cgroup.layout import lay_out, refuse
        from runtime.cgroup.limiting import converge

        layout = lay_out(self.hierarchy, resources)
        refuse(layout)
        warnings = converge(self, layout, claim=claim)
        if tracking or self.hierarchy.whole:
            for mount in self.hierarchy.named:
                membership.make(mount, self.name)
        if tracking and self.hierarchy.unified is not None:
            membership.make(self.hierarchy.unified, self.name)
        return warnings

    def refuse_unmet(self, resources: Resources) -> None:
        """Refuse limits for which an ordinary user has no controller.

        Raises:
            UnsupportedHostError: names them.
        """
        from runtime.cgroup.layout import lay_out, refuse

        refuse(lay_out(self.hierarchy, resources))

    def update(self, resources: Resources) -> tuple[str, ...]:
        """Set all limits of a living group, absent ones to the kernel's default; return warnings.

        Files that hold the value already are not written. A controller that the group had no
        part in until now is added, and its processes moved in. Not atomic: limits set before an
        error stay set. Errors as for ``create``, and:

        Raises:
            NotFoundError: there is no such group.
        """
        from runtime.cgroup.layout import lay_out, refuse
        from runtime.cgroup.limiting import converge

        layout = lay_out(self.hierarchy, resources)
        refuse(layout)
        self._must_exist()
        return converge(self, layout)

    def join_files(self) -> tuple[str, ...]:
        """Return the files into which a process writes ``0`` to become a member.

        v1: ``tasks``, which moves one thread only and so needs no global lock (0.1 ms against 13
        after idle): the process must have no second thread. v2: ``cgroup.procs``; a process born in
        ``birth_folder`` need not write that. Only what is there is named: call it after ``create``.
        """
        unified = self.hierarchy.unified
        return tuple(
            f"{mount}/{self.name}/{'cgroup.procs' if mount == unified else 'tasks'}"
            for mount in self.hierarchy.folders()
            if os.path.isdir(f"{mount}/{self.name}")
        )

    def birth_folder(self) -> str | None:
        """Return the v2 folder to open for clone3(2) with CLONE_INTO_CGROUP, None without one.

        Being born there takes no global lock; writing to ``cgroup.procs`` costs 4 to 13 ms.
        """
        if self.hierarchy.unified is None:
            return None
        folder = f"{self.hierarchy.unified}/{self.name}"
        return folder if os.path.isdir(folder) else None

    def pids(self) -> tuple[int, ...]:
        """Return the members, those of nested groups included; empty if there is no group.

        A process that has joined only some of the hierarchies yet (or was killed doing so) counts.
        Processes outside the caller's pid namespace are left out.
        """
        found: set[int] = set()
        for folder in self._folders():
            found.update(membership.members(folder))
        return tuple(sorted(found))

    def signal(self, number: int) -> None:
        """Send a signal to all who are members now, those of nested groups included."""
        membership.signal_once(self.pids, number)

    def kill(self, timeout_s: float = 10.0) -> None:
        """Kill all members, also of nested groups and while they fork; return when none is left.

        A frozen group is thawed by it. Idempotent; no group is fine.

        Raises:
            StateError: some are still there after *timeout_s* (they sleep uninterruptibly), or
                this very process is a member.
        """
        deadline = Deadline(timeout_s)
        while pids := self.pids():
            if os.getpid() in pids:
                raise StateError(f"will not kill cgroup {self.name}: this process is in it")
            if deadline.is_over:
                raise StateError(
                    f"processes in cgroup {self.name} survive SIGKILL: {', '.join(map(str, pids))}"
                )
            unified = self.birth_folder()
            killed = unified is not None and core.kill(unified)
            # On a hybrid host a member may be in a part of version 1 only.
            if not killed or set(self._folders()) != {unified}:
                self._kill_each()
            membership.wait_for_exit(pids, deadline)

    def _kill_each(self) -> None:
        """Kill by pid. A group that stands still cannot fork away from under the list of pids."""
        freezer = self._freezer()
        if freezer is not None:
            freezer.try_freeze(0.2)
        try:
            for folder in self._folders():
                membership.signal_members(folder)
        finally:
            # A v1 task takes its SIGKILL only after the thaw.
            if freezer is not None:
                freezer.thaw()

    def take_back(self, pid: int) -> None:
        """Move a member that was put elsewhere back to where v1 freezes this group.

        In a frozen group of somebody else's not even SIGKILL would reach it.
        """
        place = self.hierarchy.places.get("freezer")
        if place is not None and os.path.isdir(f"{place.folder}/{self.name}"):
            try:
                files.write(f"{place.folder}/{self.name}/cgroup.procs", str(pid))
            except KernelError as error:
                if error.errno != ESRCH:
                    raise

    def freeze(self, timeout_s: float = 10.0) -> None:
        """Stop all members where they are. Idempotent.

        Raises:
            NotFoundError: there is no such group.
            StateError: not frozen after *timeout_s*; it is thawed again.
            UnsupportedHostError: neither v2 nor the v1 freezer is there.
        """
        freezer = self._need_freezer()
        if not freezer.try_freeze(timeout_s):
            freezer.thaw()
            raise StateError(f"cgroup {self.name} did not freeze within {timeout_s:g} s")

    def thaw(self) -> None:
        """Let all members go on. Idempotent. Raises as ``freeze``."""
        self._need_freezer().thaw()

    def is_frozen(self) -> bool:
        """Tell whether all members stand still; False without a group."""
        freezer = self._freezer()
        return freezer is not None and freezer.is_frozen()

    def stats(self) -> Stats:
        """Return what the group has used; all None if there is no group."""
        from runtime.cgroup.limiting import stats

        return stats(self)

    def oom_kills(self) -> int:
        """Return how many processes the kernel killed for the memory limit; 0 without a group."""
        place = self.hierarchy.places.get("memory")
        if place is None:
            return 0
        folder = f"{place.folder}/{self.name}"
        if place.version == 2:
            from runtime.cgroup.v2 import memory as v2

            return v2.oom_kills(folder) or 0
        from runtime.cgroup.v1 import memory as v1

        return sum(v1.oom_kills(each) or 0 for each in walk(folder))

    def inode(self) -> int | None:
        """Return what tells this group from a later one of its name; None if it is not there.

        It is that of the folder by which systemd, if there is one, tracks its units.
        """
        hierarchy = self.hierarchy
        mount = next(iter((*hierarchy.named, hierarchy.unified or hierarchy.folders()[0])))
        try:
            return os.stat(f"{mount}/{self.name}").st_ino
        except FileNotFoundError:
            return None

    def exists(self) -> bool:
        """Tell whether the group is there in any hierarchy."""
        return bool(self._folders())

    def delete(self, timeout_s: float = 2.0, *, nested: bool = True) -> None:
        """Remove the group and the groups nested in it. Idempotent; kills nothing.

        With *nested* False a group that has others in it, or members, is left as it is and
        that is no error: for the parent that several containers share.

        Raises:
            StateError: there are members, and still are after *timeout_s*; names them.
        """
        if not nested and any(_groups(self.hierarchy, self.name)):
            return
        deadline = Deadline(timeout_s if nested else 0)
        memory = self.hierarchy.places.get("memory")
        charged = f"{memory.folder}/{self.name}" if memory and memory.version == 1 else None
        for folder in self._folders():
            # Without *nested* a group made since the look above must stay: rmdir sees to that.
            for each in reversed(walk(folder)) if nested else (folder,):
                if folder == charged:
                    v1_core.drop_cache(each)
                if not membership.remove(each, deadline) and nested:
                    pids = ", ".join(map(str, self.pids())) or "of another pid namespace"
                    raise StateError(f"cgroup {self.name} still has processes: {pids}")

    def deviations(self, resources: Resources) -> tuple[Deviation, ...]:
        """Compare the kernel's files with what *resources* imply, allowing for its rounding.

        Reads only files of controllers the group should have, about 10 us each. Limits not in
        *resources* are expected at the kernel's default. A hierarchy in which the group is
        missing is one Deviation of field ``group``. What the host cannot enforce is none.

        Raises:
            ContainerError: the resources contradict each other.
        """
        from runtime.cgroup.layout import lay_out
        from runtime.cgroup.limiting import deviations

        return deviations(self, lay_out(self.hierarchy, resources))

    def _folders(self) -> tuple[str, ...]:
        """Return where the group is, mount by mount."""
        folders = (f"{mount}/{self.name}" for mount in self.hierarchy.folders())
        return tuple(folder for folder in folders if os.path.isdir(folder))

    def _freezer(self) -> Freezer | None:
        """Return what can freeze the group; None where nothing can, or without a group."""
        unified = self.birth_folder()
        if unified is not None:
            return Freezer(unified, core)
        place = self.hierarchy.places.get("freezer")
        if place is None or not os.path.isdir(f"{place.folder}/{self.name}"):
            return None
        return Freezer(f"{place.folder}/{self.name}", v1_core)

    def _need_freezer(self) -> Freezer:
        if self.hierarchy.is_empty:
            raise UnsupportedHostError("cannot freeze: no cgroup is delegated to this user")
        self._must_exist()
        freezer = self._freezer()
        if freezer is None:
            raise UnsupportedHostError(
                f"cannot freeze cgroup {self.name}: neither cgroup v2 nor the v1 freezer is there"
            )
        return freezer

    def _must_exist(self) -> None:
        if not self.exists():
            raise NotFoundError(f"no such cgroup: {self.name}")


def list_groups(hierarchy: Hierarchy, parent: str) -> tuple[str, ...]:
    """Return the names of the groups directly below *parent* in any hierarchy, sorted.

    Names are the last part only (container ids); a group that exists in but one hierarchy, left
    by a crash, is listed too.
    """
    return tuple(sorted(set(_groups(hierarchy, parent))))


def _groups(hierarchy: Hierarchy, parent: str) -> Iterator[str]:
    """Yield the names directly below *parent*, once for each hierarchy they are in."""
    for mount in hierarchy.folders():
        try:
            with os.scandir(f"{mount}/{parent}") as entries:
                yield from (e.name for e in entries if e.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            continue
