"""Copying between the host and a container's files, as the container sees them.

Of one that runs that is all it has mounted; of one that does not, its image and what it changed,
without what is mounted. Paths in it are resolved inside its root, whatever links are there.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from errno import ENOENT

from runtime.container.config import ContainerConfig, read_config, writing_alone
from runtime.container.folders import state_folder
from runtime.container.layers import ensure_layers
from runtime.container.state import status_of
from runtime.container.tarcopy import pack, unpack
from runtime.errors import KernelError, NotFoundError, StateError
from runtime.image.digest import Readable
from runtime.kernel.procfs import is_running
from runtime.root import Root
from runtime.rootfs.overlay import claim_work, opened_overlay
from runtime.rootfs.resolve import open_in_root
from runtime.rootfs.transfer import (
    ABSENT,
    How,
    Identity,
    at_or_above,
    copy,
    copy_members,
    identity,
)

_Act = Callable[[int, frozenset[Identity]], None]

_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def copy_from(root: Root, container_id: str, path: str, destination: str, how: How) -> None:
    """Copy *path* of the container to *destination* on the host.

    As cp(1) does: into a folder that is there, else as a file or folder of that name; with a
    *path* that ends in ``/.``, what is in the folder, and in ``/``, what a link leads to.

    Raises:
        NotFoundError: no such container, or no such *path* in it.
        StateError: it has ended, and *path* is in what was mounted in it.
        OSError: as of the calls.
    """

    def act(inside: int, absent: frozenset[Identity]) -> None:
        keep = replace(how, absent=absent)
        with ExitStack() as opened:
            name = os.path.basename(path.rstrip("/")) or "."
            if path.rstrip("/").endswith("/.") or name in (".", ".."):
                folder = _open(inside, path, _READ)
                opened.callback(os.close, folder)
                if os.path.isdir(destination):
                    copy_members(folder, _host_folder(destination, opened), keep)
                else:
                    into, new_name = _host_place(destination.rstrip("/"), ".", opened)
                    copy(folder, ".", into, new_name, keep)
                return
            # With a slash at its end, a link is what it leads to.
            itself = path.endswith("/")
            parent = _open(inside, path if itself else os.path.dirname(path) or "/", _READ)
            opened.callback(os.close, parent)
            inner = "." if itself else name
            _must_exist(parent, inner, path)
            into, new_name = _host_place(destination, name, opened)
            copy(parent, inner, into, new_name, keep, shown=name)

    _with_files(root, container_id, path, act)


def copy_to(root: Root, container_id: str, source: str, path: str, how: How) -> None:
    """Copy *source* of the host to *path* in the container; as `copy_from`.

    Raises:
        NotFoundError: no such container, or the folder *path* is to be in is not there.
        StateError: it does not run, and *path* is in what is mounted when it does; or a file
            would take the place of a device, FIFO or socket.
        BusyError: it is being started, or copied to by somebody else, and that has no end.
        OSError: as of the calls.
    """

    def act(inside: int, absent: frozenset[Identity]) -> None:
        keep = replace(how, absent=absent)
        with ExitStack() as opened:
            parent, name = os.path.split(source.rstrip("/"))
            members = name in ("", ".", "..")
            new_name = name
            place = _inner_folder(inside, path)
            made = place < 0
            if made:
                if path.endswith("/") and not members:
                    raise NotFoundError(f"no folder {path} in the container")
                above, new_name = os.path.split(path.rstrip("/"))
                place = _open(inside, above or "/", _READ)
            opened.callback(os.close, place)
            # A link at the end of *path* may have led there.
            if absent and not at_or_above(place).isdisjoint(absent):
                raise StateError(f"cannot copy {path}: that {ABSENT}")
            if members and not made:
                copy_members(_host_folder(source, opened), place, keep)
            elif members or source.endswith("/"):
                # With a slash at its end, a link is what it leads to.
                folder = _host_folder(source, opened)
                copy(folder, ".", place, new_name, keep, shown=name or ".")
            else:
                copy(_host_folder(parent or ".", opened), name, place, new_name, keep)

    _with_files(root, container_id, path, act, writes=True)


def tar_from(
    root: Root, container_id: str, path: str, write: Callable[[bytes], None], how: How
) -> None:
    """Write a tar of *path* of the container; its entries are below the last part of that.

    Of a *path* that ends in ``/.``, they are below ``.``, as those of docker are.

    Raises as `copy_from`, and what *write* raises.
    """

    def act(inside: int, absent: frozenset[Identity]) -> None:
        parent_path, name = os.path.split(os.path.normpath(f"/{path}"))
        parent = _open(inside, parent_path, _READ)
        try:
            shown = name or "."
            if os.path.basename(path) in ("", "."):
                # With a slash at its end, a link is what it leads to.
                itself = _open(inside, path, _READ)
                os.close(parent)
                parent, name = itself, "."
                if path.endswith("."):
                    shown = "."
            _must_exist(parent, name or ".", path)
            pack(parent, name or ".", shown, write, replace(how, absent=absent))
        finally:
            os.close(parent)

    _with_files(root, container_id, path, act)


def tar_to(root: Root, container_id: str, source: Readable, path: str, how: How) -> None:
    """Put what is in a tar, as `unpack` reads it, into the folder *path*; raises as `copy_to`.

    Raises:
        LayerError: the tar is malformed, or an entry would leave the folder.
    """

    def act(inside: int, absent: frozenset[Identity]) -> None:
        os.close(_open(inside, path, _READ))
        unpack(source, inside, path, replace(how, absent=absent))

    _with_files(root, container_id, path, act, writes=True)


def _must_exist(parent: int, name: str, path: str) -> None:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        raise NotFoundError(f"no {path} in the container") from None


def _host_folder(folder: str, opened: ExitStack) -> int:
    fd = os.open(folder, _READ)
    opened.callback(os.close, fd)
    return fd


def _host_place(destination: str, name: str, opened: ExitStack) -> tuple[int, str]:
    """Return the folder that is to hold the copy, and its name there; links are the user's own."""
    if os.path.isdir(destination):
        return _host_folder(destination, opened), name
    if destination.endswith("/"):
        raise NotFoundError(f"no folder {destination}")
    parent, new_name = os.path.split(destination)
    return _host_folder(parent or ".", opened), new_name


def _inner_folder(inside: int, path: str) -> int:
    """Return the folder *path* of the container, -1 if it is none."""
    try:
        return _open(inside, path, _READ)
    except NotFoundError:
        return -1
    except NotADirectoryError:
        return -1


def _open(inside: int, path: str, flags: int) -> int:
    try:
        return open_in_root(inside, path, flags)
    except KernelError as error:
        if error.errno == ENOENT:
            raise NotFoundError(f"no {path} in the container") from error
        raise OSError(error.errno, error.strerror, path) from error


def _with_files(
    root: Root, container_id: str, path: str, act: _Act, *, writes: bool = False
) -> None:
    """Call *act* with the root folder of the container, and what is not to be seen there."""
    config = read_config(root, container_id)
    if status_of(root, container_id).state != "running":
        with writing_alone(root, container_id) if writes else nullcontext():
            # Asked again: it may have been started before nobody could any more.
            if (found := status_of(root, container_id)).state != "running":
                if writes and not (found.ended or found.state == "created"):
                    raise StateError(f"cannot copy into {container_id}: it is {found.state}")
                with _ended_root(root, config, writes=writes) as fd:
                    _with_ended(fd, config, path, act)
                return
    _with_running(root, container_id, act)


@contextmanager
def _ended_root(root: Root, config: ContainerConfig, *, writes: bool) -> Iterator[int]:
    ensure_layers(root, config)
    folder = state_folder(root, config.id)
    upper, work, place = str(folder / "upper"), str(folder / "work"), str(folder)
    if not writes:
        with opened_overlay((*config.layers, upper), place) as fd:
            yield fd
        return
    claim_work(work, volatile=False)
    with opened_overlay(config.layers, place, upper=upper, work=work) as fd:
        yield fd


def _with_running(root: Root, container_id: str, act: _Act) -> None:
    found = status_of(root, container_id)
    fd = os.open(f"/proc/{found.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not is_running(found.pid, found.start_time):
            raise StateError(f"{container_id} has ended just now")
        act(fd, frozenset())
    finally:
        os.close(fd)


def _with_ended(inside: int, config: ContainerConfig, path: str, act: _Act) -> None:
    targets = [m.destination for m in config.spec.mounts if m.type in (None, "bind")]
    absent = frozenset(filter(None, (_identity(inside, target) for target in targets)))
    _must_not_be_absent(inside, path, targets, absent)
    act(inside, absent)


def _must_not_be_absent(
    inside: int, path: str, targets: list[str], absent: frozenset[Identity]
) -> None:
    """See that *path* leads through no mount: one that has ended has none, but what is below."""
    names = path.strip("/").split("/")
    for count in range(1, len(names) + 1):
        part = "/" + "/".join(names[:count])
        # A link at the end is copied as a link, if no slash follows.
        flags = os.O_NOFOLLOW if count == len(names) and not path.endswith("/") else 0
        # By its text as well: one that never ran has no folder there.
        if os.path.normpath(part) in targets or _identity(inside, part, flags) in absent:
            raise StateError(f"cannot copy {path}: that {ABSENT}")


def _identity(inside: int, path: str, flags: int = 0) -> Identity | None:
    """Return what *path* of the container is; None if there is nothing."""
    try:
        fd = open_in_root(inside, path, os.O_PATH | flags)
    except KernelError:
        return None
    try:
        return identity(os.fstat(fd))
    finally:
        os.close(fd)
