"""Which device nodes a container may use: rules for the device cgroup. Pure.

Everything is denied but the handful any program expects; what is given to the container by name
is added. Any node may be made (``m``) where the capability for it is held: without a rule it
cannot be opened.
"""

from collections.abc import Iterable

from runtime.spec import DeviceRule, LinuxDevice

_EVERYONE = (
    (1, 3),  # null
    (1, 5),  # zero
    (1, 7),  # full
    (1, 8),  # random
    (1, 9),  # urandom
    (5, 0),  # tty
    (5, 1),  # console
    (5, 2),  # ptmx
)
_PTS_MAJOR = 136


def device_rules(
    devices: Iterable[tuple[LinuxDevice, str]] = (), *, privileged: bool = False
) -> tuple[DeviceRule, ...]:
    """Return the rules for a container with *devices*, each with its access (``rwm``).

    A privileged container may use everything.
    """
    if privileged:
        return (DeviceRule(allow=True, access="rwm"),)
    rules = [
        DeviceRule(allow=False, access="rwm"),
        DeviceRule(allow=True, type="c", access="m"),
        DeviceRule(allow=True, type="b", access="m"),
        *(DeviceRule(True, "c", major, minor, "rwm") for major, minor in _EVERYONE),
        DeviceRule(True, "c", _PTS_MAJOR, None, "rwm"),
    ]
    for device, access in devices:
        if device.type in ("c", "b", "u"):
            kind = "c" if device.type == "u" else device.type
            rules.append(DeviceRule(True, kind, device.major, device.minor, access))
    return tuple(rules)
