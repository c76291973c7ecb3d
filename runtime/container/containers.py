"""Containers of one world, from creation to removal.

The story of a start: network namespace and links, /etc files, cgroup, launch program; then the
supervisor forks and keeps the container. Everything made on the way is found again by the
container's id alone, so each function can be repeated after a crash at any point, and ``remove``
cleans up after any of them.
"""

import os
import shutil
import time
from collections.abc import Collection, Mapping
from contextlib import nullcontext, suppress
from signal import SIGKILL
from types import MappingProxyType

from runtime.cgroup.group import Cgroup
from runtime.cgroup.hierarchy import Hierarchy
from runtime.container import secretfs, traffic
from runtime.container.config import (
    ContainerConfig,
    list_configs,
    read_config,
    write_config,
    writing_alone,
)
from runtime.container.connect import RUN_NETWORK, delete_run_network_if_unused
from runtime.container.folders import (
    bury,
    config_file,
    graveyard,
    netns_path,
    private_folder,
    run_folder,
    state_folder,
)
from runtime.container.layers import ensure_layers
from runtime.container.making import making
from runtime.container.requests import cgroup_of, launch_request
from runtime.container.revival import note_filesystems
from runtime.container.state import is_unattended, status_of
from runtime.container.wiring import NOTHING, connect, write_etc
from runtime.errors import (
    DamagedError,
    ImageError,
    LaunchError,
    NotFoundError,
    StateError,
)
from runtime.network import attachment, firewall, netns
from runtime.network.hostlock import host_lock
from runtime.root import Root
from runtime.supervisor import boot
from runtime.supervisor.client import Supervisor
from runtime.supervisor.status import Status

_SEEN_TO_WITHIN_S = 60.0
_SHARED = "shared"
"""In the run folder: others are or were in its network namespace, too."""
_NO_STREAMS: Mapping[str, int] = MappingProxyType({})


class Containers:
    """The containers of one world. Making one touches nothing on disk.

    Methods that change something may be called from several threads, for different containers.
    """

    def __init__(self, root: Root, *, hierarchy: Hierarchy | None = None) -> None:
        self.root = root
        self._hierarchy = hierarchy

    @property
    def hierarchy(self) -> Hierarchy:
        """Where the host keeps its cgroup controllers; read once."""
        if self._hierarchy is None:
            self._hierarchy = Hierarchy.detect()
        return self._hierarchy

    def cgroup(self, container_id: str) -> Cgroup:
        """Return the container's cgroup, which may not exist."""
        return cgroup_of(self.root, self.hierarchy, container_id)

    def status(self, container_id: str) -> Status:
        """Return where the container is, from files and the kernel; starts nothing.

        Raises:
            NotFoundError: there is no such container.
        """
        return status_of(self.root, container_id)

    def create(self, config: ContainerConfig) -> None:
        """Record a container and make its folders; nothing runs yet. Idempotent.

        Who makes something for it before does so while ``making``, which includes this call.
        """
        folder = state_folder(self.root, config.id)
        with making(self.root):
            for name in ("upper", "work", "log"):
                private_folder(folder / name)
            # The root of the overlay takes its mode from the upper folder.
            (folder / "upper").chmod(0o755)
            write_config(self.root, config)

    def start(
        self,
        container_id: str,
        *,
        streams: Mapping[str, int] = _NO_STREAMS,
        size: os.terminal_size | None = None,
        avoid: Mapping[str, Collection[str]] = NOTHING,
    ) -> tuple[str, ...]:
        """Start a created or ended container; return warnings of the host. Running is fine.

        *streams* are pipes for ``stdin``, ``stdout``, ``stderr``, see Supervisor.launch, and
        *size* is that of its terminal, if it has one. Of each network, addresses
        to *avoid* are left to those that will ask for them.

        Raises:
            NotFoundError: there is no such container.
            StateError: it was to be removed at its end, and that has come.
            LaunchError: its program could not be executed; the container is ``dead``.
            NetworkError, ConflictError, UnsupportedHostError: as the parts raise them.
        """
        boot.enter(str(self.root.run))
        config = read_config(self.root, container_id)
        known = self.status(container_id)
        if known.state in ("running", "restarting"):
            return ()
        if config.auto_remove and known.ended:
            raise StateError(f"cannot start {container_id}: it was run with --rm, and goes now")
        self._join_others(config)
        ensure_layers(self.root, config)
        attachments = connect(self.root, config, avoid=avoid)
        write_etc(self.root, config, attachments)
        note_filesystems(self.root, config)
        group = self.cgroup(container_id)
        warnings = group.create(config.spec.linux.resources)
        try:
            wanted = launch_request(self.root, config, group, size)
            with writing_alone(self.root, container_id, shared=True):
                launched = Supervisor(self.root).launch(wanted, **streams)
        except StateError:
            # Its restart policy was faster.
            if self.status(container_id).state in ("running", "restarting"):
                return warnings
            raise
        except LaunchError:
            self._must_be_there(container_id)
            raise
        self._must_be_there(container_id)
        return (*warnings, *launched.warnings)

    def _join_others(self, config: ContainerConfig) -> None:
        """See that those run whose namespaces it is to be in.

        Raises:
            StateError: one does not.
        """
        for other in sorted(config.shares_with):
            try:
                name, found = read_config(self.root, other).name, self.status(other)
            except NotFoundError:
                words = f"the container {other} it shares namespaces with is gone"
                raise StateError(f"cannot start {config.id}: {words}") from None
            if found.state != "running":
                words = f"it shares namespaces with {name}, which is {found.state}"
                raise StateError(f"cannot start {config.id}: {words}")
        if config.network_of:
            (run_folder(self.root, config.network_of) / _SHARED).touch(mode=0o600)

    def _must_be_there(self, container_id: str) -> None:
        """See that a container just started was not removed meanwhile: then nobody would know it.

        Raises:
            NotFoundError: it was, and what was started is gone.
        """
        if not config_file(self.root, container_id).exists():
            self.remove(container_id, force=True)
            raise NotFoundError(f"{container_id} was removed while it was started")

    def stop(
        self,
        container_id: str,
        *,
        signal: int | None = None,
        grace: float | None = None,
        resumes: bool = False,
    ) -> None:
        """Ask the container to end, and make it after *grace*; return when it has. Idempotent.

        It stays stopped, whatever its restart policy, and gives its links and cgroup back; its
        addresses stay reserved. One that is to be removed at its end is. With *resumes* it is the
        host that ends: this counts as nobody's wish, and the next boot brings it back.

        Raises:
            NotFoundError: there is no such container.
            StateError: not even SIGKILL ends its process.
        """
        wanted = self._end_wanted(container_id)
        if not self.status(container_id).ended:
            with traffic.withdrawn(self.root, container_id), suppress(NotFoundError):
                self._thaw(container_id)
                Supervisor(self.root).stop(
                    container_id,
                    signal=wanted[0] if signal is None else signal,
                    grace=wanted[1] if grace is None else grace,
                    resumes=resumes,
                )
        attachment.park(self.root, container_id)
        self._dismantle(container_id)
        with suppress(NotFoundError, DamagedError):
            if read_config(self.root, container_id).auto_remove:
                self.remove(container_id, force=True)

    def pause(self, container_id: str) -> None:
        """Have all processes of the container stand still; its health is not looked at meanwhile.

        Idempotent.

        Raises:
            StateError: it does not run, or does not come to a stand.
            UnsupportedHostError: the host cannot freeze.
        """
        supervisor = Supervisor(self.root)
        supervisor.pause(container_id)
        try:
            self.cgroup(container_id).freeze()
        except BaseException:
            supervisor.resume(container_id)
            raise

    def unpause(self, container_id: str) -> None:
        """Have the processes of the container go on. Idempotent.

        Raises:
            StateError: it does not run.
        """
        found = self.status(container_id)
        if found.state != "running":
            raise StateError(f"cannot unpause {container_id}: it is {found.state}")
        self._thaw(container_id)
        if found.paused:
            Supervisor(self.root).resume(container_id)

    def kill(self, container_id: str, signal: int) -> None:
        """Send *signal* to the container's first process.

        One that is paused dies by SIGKILL, and takes other signals when it goes on.

        Raises:
            StateError: it does not run.
        """
        if self.status(container_id).state != "running":
            raise StateError(f"cannot signal {container_id}: it does not run")
        with traffic.withdrawn(self.root, container_id) if signal == SIGKILL else nullcontext():
            Supervisor(self.root).kill(container_id, signal)
            if signal == SIGKILL:
                with suppress(NotFoundError):  # it was to be removed at its end
                    self._thaw(container_id)  # version 1 keeps what is frozen from dying

    def remove(self, container_id: str, *, force: bool = False, gently: bool = False) -> None:
        """Remove the container and everything that is its own. Idempotent.

        With *force* also one that runs, which is killed; *gently*, it ends as by `stop`. Content of
        images that nobody needs any more is left to `recovery.sweep_images`.

        Raises:
            StateError: it runs and *force* is not given, or not even SIGKILL ends its process.
        """
        # Its links are not parked, as a stop does: what is written for all is written once.
        on_run_network = False
        image: str | None = ""
        with suppress(NotFoundError):
            try:
                config = read_config(self.root, container_id)
                on_run_network = any(join.network == RUN_NETWORK for join in config.joins)
                image = config.image
            except DamagedError:
                on_run_network = True  # perhaps; it is deleted only if nobody is on it
                image = None
        self._end_and_forget(container_id, force=force, gently=gently)
        self._dismantle(container_id)
        owner = self.publications_owner(container_id)
        if owner in firewall.publications(self.root):
            firewall.unpublish(self.root, owner)
        with host_lock(self.root, f"remove container {container_id}"):
            attachment.release(self.root, container_id)
            secretfs.remove_folder(self.root, container_id)
        if on_run_network:
            delete_run_network_if_unused(self.root)
        Cgroup(self.hierarchy, self.root.cgroup).delete(nested=False)
        with suppress(FileNotFoundError):
            shutil.rmtree(run_folder(self.root, container_id))
        bury(state_folder(self.root, container_id), graveyard(self.root) / container_id)
        # From here on nobody can start it; somebody may have, since it was ended above.
        with suppress(NotFoundError):
            Supervisor(self.root, start=False).stop(container_id, signal=SIGKILL, grace=0.0)
            self.remove(container_id, force=True)
        if image != "":
            self._leave_image(image)

    def _end_wanted(self, container_id: str) -> tuple[int | None, float | None]:
        """Return the stop signal and the grace; None is what the supervisor was told at the start.

        Raises:
            NotFoundError: there is no such container.
        """
        try:
            config = read_config(self.root, container_id)
        except DamagedError:
            return None, None
        return config.stop_signal, config.stop_grace

    def _end_and_forget(self, container_id: str, *, force: bool, gently: bool) -> None:
        with suppress(NotFoundError):
            found = self.status(container_id)
            if not found.ended:
                # One that is created may just be being started.
                runs = found.state != "created"
                if runs and not force:
                    raise StateError(f"cannot remove {container_id}: it is {found.state}")
                wanted = self._end_wanted(container_id) if gently else (SIGKILL, 0.0)
                with traffic.withdrawn(self.root, container_id), suppress(NotFoundError):
                    self._thaw(container_id)
                    Supervisor(self.root, start=runs).stop(
                        container_id, signal=wanted[0], grace=wanted[1]
                    )
        # Without a supervisor there is nobody to forget it.
        with suppress(NotFoundError, StateError):
            Supervisor(self.root, start=False).forget(container_id)

    def supervise(self) -> None:
        """Make sure that what runs is being looked after; idempotent, and cheap if it is."""
        if is_unattended(self.root):
            Supervisor(self.root).ping()

    def reap(self) -> None:
        """Remove what is unremoved."""
        boot.enter(str(self.root.run))
        for container_id in unremoved(self.root):
            self.remove(container_id, force=True)

    def reserve(self, container_id: str) -> None:
        """Give a container that is not started yet its addresses. Idempotent."""
        boot.enter(str(self.root.run))
        connect(self.root, read_config(self.root, container_id))

    @staticmethod
    def publications_owner(container_id: str) -> str:
        """Return the owner of ports that go with the container itself, and leave with it."""
        return f"container/{container_id}"

    def _thaw(self, container_id: str) -> None:
        """Let a container that was frozen by hand hear signals again, SIGKILL included."""
        group = self.cgroup(container_id)
        if group.is_frozen():
            group.thaw()

    def _leave_image(self, image: str | None) -> None:
        """Have the image's content swept if it has lost its names; None is one unknown."""
        from runtime.image.store import ImageStore

        store = ImageStore(self.root)
        with suppress(ImageError):  # it is damaged: then nothing is swept
            if all(tag.digest != image for tag in store.catalog.tags()):
                store.unswept.set_due()

    def _dismantle(self, container_id: str) -> None:
        """Take away what only a running container needs. Idempotent."""
        if (run_folder(self.root, container_id) / _SHARED).exists():
            # Whoever is in its namespace keeps that alive, and with it links and address.
            attachment.cut(self.root, container_id)
        netns.delete(str(netns_path(self.root, container_id)))
        group = self.cgroup(container_id)
        group.kill()
        group.delete()


def unremoved(root: Root) -> list[str]:
    """Return what was to be removed at its end, and ended, or never began, with nobody to do it.

    One just being made, or just ended, is left alone: somebody is about to start or remove it.
    """
    overdue = time.time() - _SEEN_TO_WITHIN_S
    found = []
    for config in list_configs(root, skip_damaged=True):
        if config.auto_remove and config.created_at < overdue:
            with suppress(NotFoundError):  # it goes just now
                told = status_of(root, config.id)
                over = told.ended or told.state == "created"
                if over and (told.finished_at or 0.0) < overdue:
                    found.append(config.id)
    return found
