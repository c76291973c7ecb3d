"""What every controller of every version has in common."""

from collections.abc import Callable
from errno import EACCES, EBUSY, EINVAL, ENODEV, ENOENT, ENOSPC, ENXIO, EOPNOTSUPP, ERANGE

from runtime.cgroup import files
from runtime.cgroup.setting import Setting
from runtime.errors import ContainerError, KernelError, StateError
from runtime.record import dataclass
from runtime.spec import Resources

# What the kernel answers to a value it does not want, as against a group that is not there.
_REFUSALS = frozenset((EACCES, EBUSY, EINVAL, ENODEV, ENOSPC, ENXIO, EOPNOTSUPP, ERANGE))


def write_changed(folder: str, settings: tuple[Setting, ...], *, fresh: bool) -> list[Setting]:
    """Make the files in *folder* hold *settings*, in order; return those without a file.

    Of a *fresh* group nothing is read and defaults are not written; of another one only files
    that differ are. Not atomic: what was written before an error stays.

    Raises:
        ContainerError: the kernel refused a value; says which.
    """
    return [s for s in settings if not write_setting(folder, s, fresh=fresh)]


def write_dependent(folder: str, settings: tuple[Setting, ...], *, fresh: bool) -> list[Setting]:
    """As write_changed, where one file's value limits another's (a quota and its burst).

    What the kernel does not want yet is written after the others.
    """
    missing: list[Setting] = []
    waiting = list(settings)
    while waiting:
        refused: list[Setting] = []
        first: ContainerError | None = None
        for setting in waiting:
            try:
                if not write_setting(folder, setting, fresh=fresh):
                    missing.append(setting)
            except ContainerError as error:
                refused.append(setting)
                first = first or error
        if first is not None and len(refused) == len(waiting):
            raise first
        waiting = refused
    return missing


def device_lines(text: str) -> list[str]:
    """Return the lines of a file that are about single devices, ``8:0 200``."""
    return [line for line in text.split("\n") if ":" in line]


def _all_lines(text: str) -> list[str]:
    return text.split("\n")


def write_lines(
    folder: str,
    setting: Setting,
    *,
    fresh: bool,
    off: Callable[[str], str] | None = None,
    about: Callable[[str], list[str]] = _all_lines,
) -> bool:
    """Make a file of one line a device hold those of *setting*; False if it is not offered.

    Each line is a write of its own. *off* returns what takes a device off the list, by its name;
    without it those not mentioned stay as they are. *about* picks the lines of devices.

    Raises:
        ContainerError: the kernel refused a line.
    """
    path = f"{folder}/{setting.file}"
    if fresh and setting.is_default:
        return True
    actual = files.read_if_there(path)
    if actual is None:
        return False
    wanted, found = (set(about(text)) - {""} for text in (setting.value, actual))
    devices = {line.partition(" ")[0] for line in wanted}
    extra = {line.partition(" ")[0] for line in found} - devices
    lines = [*map(off, sorted(extra))] if off is not None else []
    lines += sorted(wanted - found)
    try:
        if lines:
            files.write(path, *lines)
    except KernelError as error:
        if error.errno in _REFUSALS:
            raise refusal(setting, error) from error
        raise
    return True


def write_setting(folder: str, setting: Setting, *, fresh: bool) -> bool:
    """Make one file hold its value; False if the kernel does not offer the file."""
    if fresh and setting.is_default:
        return True
    path = f"{folder}/{setting.file}"
    if not fresh:
        actual = files.read_if_there(path)
        if actual is None and setting.may_be_absent:
            return False
        if actual is not None and setting.same(setting.value, actual):
            return True
    try:
        files.write(path, setting.value)
    except KernelError as error:
        if error.errno == ENOENT and setting.may_be_absent:
            return False
        if error.errno in _REFUSALS:
            raise refusal(setting, error) from error
        raise
    return True


def refusal(setting: Setting, error: KernelError) -> ContainerError:
    """Return what to raise when the kernel refused *setting*."""
    text = f"{setting.field} cannot be {setting.value!r}"
    if setting.hint:
        text += f" ({setting.hint})"
    if error.errno == EBUSY:
        return StateError(f"{text}: {error}")
    return ContainerError(f"{text}: {error}")


def read_file(folder: str, setting: Setting) -> str | None:
    """Return what the file of *setting* holds; None if there is none."""
    return files.read_if_there(f"{folder}/{setting.file}")


def _nothing(_: str) -> dict[str, int | None]:
    return {}


@dataclass(frozen=True, slots=True)
class Controller:
    """One controller in one version: what files it has, and how they are written and read."""

    name: str
    settings: Callable[[Resources], tuple[Setting, ...]]
    """Pure. All files of the controller, those at their default too."""
    wanted: Callable[[Resources], bool]
    """Whether the resources ask for this controller; some are made only then."""
    apply: Callable[..., list[Setting]] = write_changed
    """As write_changed."""
    read: Callable[[str, Setting], str | None] = read_file
    """What a setting is in a folder by now."""
    built_in: bool = False
    """Whether every v2 group has it, without its being switched on in the groups above."""
    prepare: Callable[[str], None] | None = None
    """Called for each folder made, outermost first, before anything else is written to it."""
    stats: Callable[[str], dict[str, int | None]] = _nothing
    """Fields of Stats read from a folder."""


def number(folder: str, file: str) -> int | None:
    """Return what a file with one number holds; None if there is no file, or no limit."""
    text = files.read_if_there(f"{folder}/{file}")
    return int(text) if text is not None and text.isdecimal() else None


def table(folder: str, file: str) -> dict[str, int]:
    """Return a flat keyed file as a dict, empty if there is no file."""
    text = files.read_if_there(f"{folder}/{file}")
    return {} if text is None else files.table(text)
