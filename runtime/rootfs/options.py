"""The words of mount(8) and of the OCI runtime-spec, as flags. Pure.

Source: OCI runtime-spec config.md "Linux mount options", mount(8).
"""

from runtime.kernel import mount as kernel
from runtime.record import dataclass

_SET = {
    "ro": kernel.MS_RDONLY,
    "nosuid": kernel.MS_NOSUID,
    "nodev": kernel.MS_NODEV,
    "noexec": kernel.MS_NOEXEC,
    "sync": kernel.MS_SYNCHRONOUS,
    "dirsync": kernel.MS_DIRSYNC,
    "nosymfollow": kernel.MS_NOSYMFOLLOW,
    "noatime": kernel.MS_NOATIME,
    "nodiratime": kernel.MS_NODIRATIME,
    "relatime": kernel.MS_RELATIME,
    "strictatime": kernel.MS_STRICTATIME,
    "lazytime": kernel.MS_LAZYTIME,
    "silent": kernel.MS_SILENT,
    "iversion": kernel.MS_I_VERSION,
    "mand": kernel.MS_MANDLOCK,
}
_CLEAR = {
    "rw": kernel.MS_RDONLY,
    "suid": kernel.MS_NOSUID,
    "dev": kernel.MS_NODEV,
    "exec": kernel.MS_NOEXEC,
    "async": kernel.MS_SYNCHRONOUS,
    "symfollow": kernel.MS_NOSYMFOLLOW,
    "atime": kernel.MS_NOATIME,
    "diratime": kernel.MS_NODIRATIME,
    "norelatime": kernel.MS_RELATIME,
    "nostrictatime": kernel.MS_STRICTATIME,
    "nolazytime": kernel.MS_LAZYTIME,
    "loud": kernel.MS_SILENT,
    "noiversion": kernel.MS_I_VERSION,
    "nomand": kernel.MS_MANDLOCK,
    "defaults": 0,
}
_PROPAGATION = {
    "private": kernel.MS_PRIVATE,
    "slave": kernel.MS_SLAVE,
    "shared": kernel.MS_SHARED,
    "unbindable": kernel.MS_UNBINDABLE,
}
# What mount_setattr(2) can say of all that is mounted below as well.
_RECURSIVE_SET = {
    f"r{word}": _SET[word]
    for word in (
        *("ro", "nosuid", "nodev", "noexec", "nosymfollow"),
        *("noatime", "nodiratime", "strictatime"),
    )
}
_RECURSIVE_CLEAR = {
    f"r{word}": _CLEAR[word]
    for word in (
        *("rw", "suid", "dev", "exec", "symfollow"),
        *("atime", "diratime", "norelatime", "nostrictatime"),
    )
} | {"rrelatime": kernel.MS_NOATIME | kernel.MS_STRICTATIME}  # what is left is the default
WORDS = frozenset(
    (
        *("bind", "rbind", "remount", "idmap", "ridmap", "tmpcopyup", *_SET, *_CLEAR),
        *(*_RECURSIVE_SET, *_RECURSIVE_CLEAR),
        *(f"{prefix}{word}" for prefix in ("", "r") for word in _PROPAGATION),
    )
)
"""Every word that is ours to understand and not a file system's."""
_ATTRIBUTES = {
    kernel.MS_RDONLY: kernel.MOUNT_ATTR_RDONLY,
    kernel.MS_NOSUID: kernel.MOUNT_ATTR_NOSUID,
    kernel.MS_NODEV: kernel.MOUNT_ATTR_NODEV,
    kernel.MS_NOEXEC: kernel.MOUNT_ATTR_NOEXEC,
    kernel.MS_NODIRATIME: kernel.MOUNT_ATTR_NODIRATIME,
    kernel.MS_NOSYMFOLLOW: kernel.MOUNT_ATTR_NOSYMFOLLOW,
}
_ATIME = {
    kernel.MS_NOATIME: kernel.MOUNT_ATTR_NOATIME,
    kernel.MS_STRICTATIME: kernel.MOUNT_ATTR_STRICTATIME,
}
_ATIME_FLAGS = kernel.MS_NOATIME | kernel.MS_STRICTATIME | kernel.MS_RELATIME


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What a list of option words means."""

    flags: int = 0
    """MS_* for mount(2); no MS_BIND and no propagation."""
    bind: bool = False
    recursive: bool = False
    """A bind takes what is mounted below along."""
    recursive_flags: int = 0
    """Those of *flags* that were given for what is mounted below as well: ``rro``."""
    recursive_clear: int = 0
    """Those to be taken from it and from what is mounted below: ``rrw``."""
    remount: bool = False
    """What is mounted there already is to have *flags* and *data*."""
    propagation: int = 0
    """One of MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE, or 0: nothing said."""
    data: tuple[str, ...] = ()
    """Words for the file system itself."""
    idmap: bool = False
    """A bind shows its files with other owners, *idmap_recursive* also what is mounted below."""
    idmap_recursive: bool = False
    copy_up: bool = False
    """A tmpfs begins with what it hides."""
    idmap_text: str = ""
    """How, where the option says it; see runtime.rootfs.idmap."""


def parse_options(words: tuple[str, ...]) -> MountOptions:
    """Return what *words* say, a later one overruling an earlier."""
    flags = recursive_flags = recursive_clear = propagation = 0
    bind = recursive = remount = idmap = idmap_recursive = copy_up = False
    idmap_text = ""
    data = []
    for word in words:
        if word in ("bind", "rbind"):
            bind = True
            recursive |= word == "rbind"
        elif word.removeprefix("r") in _PROPAGATION:
            propagation = _PROPAGATION[word.removeprefix("r")]
        elif (flag := _RECURSIVE_SET.get(word)) is not None:
            flags |= flag
            recursive_flags |= flag
            recursive_clear &= ~flag
        elif (flag := _RECURSIVE_CLEAR.get(word)) is not None:
            flags &= ~flag
            recursive_flags &= ~flag
            recursive_clear |= flag
        elif word in _SET:
            flags |= _SET[word]
        elif word in _CLEAR:
            flags &= ~_CLEAR[word]
        elif (name := word.partition("=")[0]) in ("idmap", "ridmap"):
            idmap = True
            idmap_recursive |= name == "ridmap"
            idmap_text = word.partition("=")[2]
        elif word == "tmpcopyup":
            copy_up = True
        elif word == "remount":
            remount = True
        else:
            data.append(word)
    return MountOptions(
        flags, bind, recursive, recursive_flags, recursive_clear, remount, propagation,
        tuple(data), idmap, idmap_recursive, copy_up, idmap_text,
    )  # fmt: skip


def cleared_attributes(flags: int) -> int:
    """Return the mask of mount_setattr(2) that takes MS_* *flags* away; how times are kept is one.

    Without any of its flags that is relatime, the kernel's default.
    """
    mask = sum(attribute for flag, attribute in _ATTRIBUTES.items() if flags & flag)
    return mask | (kernel.MOUNT_ATTR__ATIME if flags & _ATIME_FLAGS else 0)


def attributes(flags: int) -> tuple[int, int]:
    """Return the (set, clear) masks of mount_setattr(2) that say the same as MS_* *flags*.

    Flags of the file system rather than the mount (sync, lazytime) have no counterpart.
    """
    added = sum(attribute for flag, attribute in _ATTRIBUTES.items() if flags & flag)
    for flag, attribute in _ATIME.items():
        if flags & flag:
            return added | attribute, kernel.MOUNT_ATTR__ATIME
    return added, 0
