"""The v1 devices controller: which device nodes may be opened and made. Made on demand.

The kernel keeps only what results from an ordered list of rules: "all", or a list of exceptions
to "none". ``resulting`` computes the same, so that it can be compared, and so that a living group
is changed by the difference: at no time is a device refused that was allowed before and will be
after.

Source: Documentation/admin-guide/cgroup-v1/devices.rst.
"""

from runtime.cgroup import files
from runtime.cgroup.controller import Controller, refusal
from runtime.cgroup.devices import entry, verdict
from runtime.cgroup.setting import Setting, same_lines
from runtime.errors import ContainerError, KernelError
from runtime.spec import DeviceRule, Resources

_ALL = "a *:* rwm"


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return the one list; without rules everything is allowed."""
    return (
        Setting(
            field="devices",
            file="devices.list",
            value=resulting(resources.devices),
            default=_ALL,
            same=same_lines,
        ),
    )


def resulting(rules: tuple[DeviceRule, ...]) -> str:
    """Return what ``devices.list`` shows when *rules* were applied in order.

    Raises:
        ContainerError: some devices are denied after all were allowed: the v1 file can show
            only the one or the other.
    """
    found = verdict(rules)
    if not found.allow:
        return "\n".join(entry(device, access) for device, access in found.exceptions.items())
    for device, access in found.exceptions.items():
        raise ContainerError(
            f"device rule {entry(device, access)} denies one device while all others are allowed; "
            "begin the rules with one that denies all"
        )
    return _ALL


def _parse(text: str) -> dict[str, set[str]]:
    """Return device -> letters of a list; blank in the list of a group that may do nothing."""
    found = {}
    for line in text.splitlines():
        device, _, access = line.rpartition(" ")
        found[device] = set(access)
    return found


def apply(folder: str, wanted: tuple[Setting, ...], *, fresh: bool) -> list[Setting]:
    """Turn the group's list into the wanted one, allowing first and denying then."""
    del fresh  # a new group has its parent's list, which must be looked at all the same
    (setting,) = wanted
    actual = files.read(f"{folder}/devices.list")
    if setting.same(setting.value, actual):
        return []
    try:
        if setting.value == _ALL:
            files.write(f"{folder}/devices.allow", "a")
            return []
        if actual == _ALL:
            # Forgets all; the kernel offers no way from "all" to a list without this gap.
            files.write(f"{folder}/devices.deny", "a")
            actual = ""
        want, have = _parse(setting.value), _parse(actual)
        allow = [_difference(d, letters - have.get(d, set())) for d, letters in want.items()]
        deny = [_difference(d, letters - want.get(d, set())) for d, letters in have.items()]
        files.write(f"{folder}/devices.allow", *filter(None, allow))
        files.write(f"{folder}/devices.deny", *filter(None, deny))
    except KernelError as error:
        raise refusal(setting, error) from error
    return []


def _difference(device: str, letters: set[str]) -> str:
    return f"{device} {''.join(letter for letter in 'rwm' if letter in letters)}" if letters else ""


DEVICES = Controller(
    name="devices",
    settings=settings,
    wanted=lambda resources: bool(resources.devices),
    apply=apply,
)
