"""What an ordered list of device rules comes to. Pure.

The rules are applied one after the other, as in the OCI runtime-spec and in the kernel's v1
controller: each changes one of two lists of exceptions, or empties them.

Source: security/device_cgroup.c.
"""

from runtime.errors import ContainerError
from runtime.record import dataclass
from runtime.spec import DeviceRule

Device = tuple[str, str, str]
"""Type (``a | b | c``), major, minor; ``*`` for all."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """All devices are allowed, or none is, but for *exceptions*: device -> some of ``rwm``."""

    allow: bool
    exceptions: dict[Device, str]


def verdict(rules: tuple[DeviceRule, ...]) -> Verdict:
    """Return what is allowed once all *rules* are applied; without any, everything is.

    Raises:
        ContainerError: a rule for devices of every type is about some of them, or of what is done.
    """
    allow = True
    exceptions: dict[Device, str] = {}
    for rule in rules:
        if rule.type in (None, "a"):
            _must_be_all(rule)
            allow, exceptions = rule.allow, {}
            continue
        device = device_of(rule)
        had = set(exceptions.pop(device, ""))
        access = set(rule.access or "rwm")
        now = had - access if rule.allow == allow else had | access
        if now:
            exceptions[device] = "".join(letter for letter in "rwm" if letter in now)
    return Verdict(allow, exceptions)


def _must_be_all(rule: DeviceRule) -> None:
    """Refuse what the kernel's lists cannot say; others would allow or deny everything by it."""
    if device_of(rule)[1:] != ("*", "*") or set(rule.access or "rwm") != set("rwm"):
        raise ContainerError(
            "a device rule of type a is about all devices: give it without numbers and with"
            " access rwm, or one rule of type c and one of type b"
        )


def device_of(rule: DeviceRule) -> Device:
    """Return which devices *rule* is about."""
    major, minor = ("*" if n is None or n < 0 else str(n) for n in (rule.major, rule.minor))
    return rule.type or "a", major, minor


def entry(device: Device, access: str) -> str:
    """Return an exception as ``devices.list`` shows it: ``c 1:3 rwm``."""
    kind, major, minor = device
    return f"{kind} {major}:{minor} {access}"
