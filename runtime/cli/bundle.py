"""A bundle's config.json as a Spec that can be compiled.

What the specification leaves to the runtime is filled in here. What it has and we have not is an
error; what it does not have is ignored, with a warning, as it wants. Members that ask for nothing
(null, false, 0, empty) are no request.

Source: OCI runtime-spec config.md (Extensibility), config-linux.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from runtime import json_text
from runtime.cli.types import misfit
from runtime.container.devices import device_rules
from runtime.errors import ContainerError, UnsupportedHostError
from runtime.json_data import from_json, to_json
from runtime.kernel.capability import NAMES
from runtime.record import replace
from runtime.rootfs.passwd import resolve_user
from runtime.spec import Capabilities, DeviceRule, Hook, Hooks, Mount, Process, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KEEP_GROUPS = "run.oci.keep_original_groups"
"""Annotation (crun's): the process keeps the supplementary groups of whoever calls us."""

_OTHER_PLATFORMS = ("solaris", "windows", "vm", "zos")
_UNSUPPORTED = ("linux.intelRdt", "linux.memoryPolicy", "linux.netDevices")
"""What the specification, up to version 1.3, has and we have not."""
_KERNEL_MEMORY = ("kernel", "kernelTCP")
_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")

_NO_ID = 2**32 - 1
"""For the kernel it means no change, setresuid(2): a process would stay root."""

_LEVELS = 32
"""Of nesting, a few times what the specification has."""

Warn = Callable[[str], None]


def read_json(path: str) -> Any:
    """Return the JSON in a file somebody wrote for us.

    Raises:
        ContainerError: it is none.
    """
    with open(path, "rb") as file:
        try:
            return json_text.loads(file.read())
        except (ValueError, RecursionError) as error:
            raise ContainerError(f"{path}: {error}") from error


def to_spec(config: Any, bundle: str, *, warn: Warn) -> Spec:
    """Return what *config*, of the folder *bundle*, comes to.

    Looks at no file: the container's are its own to change, and need not be there any more.

    Raises:
        ContainerError: it contradicts the specification.
        UnsupportedHostError: it asks for something that is not supported.
    """
    if not isinstance(config, dict):
        raise ContainerError("config.json is no JSON object")
    wanted = _stripped({k: v for k, v in config.items() if k not in _OTHER_PLATFORMS})
    if isinstance(process := wanted.get("process"), dict):
        process.setdefault("args", [])  # to be missed in words
    if not str(wanted.get("ociVersion", "")).startswith(("1.", "0.")):
        raise ContainerError(f"ociVersion {wanted.get('ociVersion')} is not supported")
    if "process" not in wanted:
        raise ContainerError("config.json has no process")
    if "root" not in wanted:
        raise ContainerError("config.json has no root")
    _filter_capabilities(wanted["process"], warn)
    drop_kernel_memory(wanted.get("linux"), warn)
    spec: Spec = _decode(Spec, wanted, "config.json", warn)
    root = os.path.join(bundle, spec.root.path)
    mounts = tuple(_with_absolute_source(mount, bundle) for mount in spec.mounts)
    resources = spec.linux.resources
    if resources.devices:
        # Those every container is to have come after the rules, as the last one wins.
        resources = replace(resources, devices=(*resources.devices, *device_rules()[1:]))
    process = complete(spec.process, wanted["process"])
    if spec.annotations.get(KEEP_GROUPS) in ("1", "true"):
        groups = tuple(os.getgroups())
        user = replace(process.user, additional_gids=groups)
        process = replace(process, user=user)
    _check_consistency(spec)
    return replace(
        spec,
        process=process,
        root=replace(spec.root, path=root),
        mounts=mounts,
        linux=replace(spec.linux, resources=resources),
        hooks=_with_environment(spec.hooks, process.env),
    )


def _check_consistency(spec: Spec) -> None:
    """Refuse what contradicts itself, or the specification, where types do not tell.

    Raises:
        ContainerError: says what.
    """
    kinds = {namespace.type for namespace in spec.linux.namespaces}
    if (spec.linux.uid_mappings or spec.linux.gid_mappings) and "user" not in kinds:
        raise ContainerError("uidMappings and gidMappings need a user namespace")
    if spec.linux.time_offsets and "time" not in kinds:
        raise ContainerError("timeOffsets need a time namespace")
    # What does not begin with a slash is relative to the root, an empty one is that.
    if any(os.path.normpath("/" + m.destination.lstrip("/")) == "/" for m in spec.mounts):
        raise ContainerError("a mount on / would hide the container's root")
    hooks = [each for name in Hooks.__annotations__ for each in getattr(spec.hooks, name)]
    for hook in hooks:
        if hook.timeout is not None and hook.timeout <= 0:
            raise ContainerError(f"hook {hook.path}: a timeout of {hook.timeout} s is none")
    for rule in spec.linux.resources.devices:
        _check_rule(rule)


def _check_rule(rule: DeviceRule) -> None:
    """Refuse a device rule that would come to more, or to less, than whoever wrote it meant."""
    access = rule.access or ""
    if rule.type not in (None, "a", "b", "c"):
        raise ContainerError(f"a device rule is of type a, b or c, not {rule.type}")
    if set(access) - set("rwm") or (rule.allow and not access):
        raise ContainerError(f"the access of a device rule is of r, w and m, not {access!r}")
    if any(number is not None and number < -1 for number in (rule.major, rule.minor)):
        raise ContainerError(f"a device rule has no number {rule.major}:{rule.minor}; -1 is all")


def to_process(data: Any, *, warn: Warn) -> Process:
    """Return the process described by *data*.

    Raises:
        ContainerError, UnsupportedHostError: as for `to_spec`.
    """
    if not isinstance(data, dict):
        raise ContainerError("the process is no JSON object")
    wanted = _stripped(data)
    _filter_capabilities(wanted, warn)
    wanted.setdefault("args", [])
    return complete(_decode(Process, wanted, "process", warn), wanted)


def complete(process: Process, wanted: dict[str, Any]) -> Process:
    """Return *process* with what the specification has as default."""
    if not process.args:
        raise ContainerError("process.args is empty")
    if not process.cwd.startswith("/"):
        raise ContainerError(f"process.cwd {process.cwd} is not absolute")
    user = process.user
    for number in (user.uid, user.gid, *user.additional_gids):
        if not 0 <= number < _NO_ID:
            raise ContainerError(f"process.user: {number} is no id of a user or group")
    if any("\0" in text for text in (*process.args, *process.env, process.cwd)):
        raise ContainerError("the process' args, env or cwd hold a zero byte")
    if beyond := set(process.capabilities.effective) - set(process.capabilities.permitted):
        names = ", ".join(sorted(beyond))
        raise ContainerError(f"effective capabilities that are not permitted: {names}")
    privileges = bool(wanted.get("noNewPrivileges", False))
    return replace(process, no_new_privileges=privileges)


def with_home(process: Process, root: str) -> Process:
    """Return *process* with a HOME, by the accounts in the folder *root*, unless it has one."""
    if any(item.startswith("HOME=") for item in process.env):
        return process
    try:
        home = resolve_user(root, str(process.user.uid)).home
    except (ContainerError, OSError, ValueError):
        home = "/"  # whatever the files are, a process can do without its HOME
    return replace(process, env=(*process.env, f"HOME={home}"))


def known_capabilities(names: list[str], warn: Warn) -> list[str]:
    """Return those of *names* there are; the others are warned about."""
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        warn(f"unknown capabilities are ignored: {', '.join(unknown)}")
    return [name for name in names if name in NAMES]


def add_capabilities(given: Capabilities, names: list[str]) -> Capabilities:
    """Return *given* with *names* in the sets that count without an exec in between."""
    return replace(
        given,
        bounding=(*given.bounding, *names),
        effective=(*given.effective, *names),
        permitted=(*given.permitted, *names),
    )


def _filter_capabilities(process: Any, warn: Warn) -> None:
    sets: Any = process.get("capabilities") if isinstance(process, dict) else None
    for name in _SETS if isinstance(sets, dict) else ():
        # What is no list of names `_decode` tells of.
        if name in sets and misfit(tuple[str, ...], sets[name]) is None:
            sets[name] = known_capabilities(sets[name], warn)


def drop_kernel_memory(linux: Any, warn: Warn) -> None:
    """Take limits of the kernel's own memory out, which Linux no longer has; runc does so too."""
    section = linux
    for name in ("resources", "memory"):
        section = section.get(name) if isinstance(section, dict) else None
    for name in _KERNEL_MEMORY if isinstance(section, dict) else ():
        if section.pop(name, None) is not None:
            warn(f"linux.resources.memory.{name} is ignored: the kernel's memory counts as memory")


def _decode(cls: Any, wanted: dict[str, Any], what: str, warn: Warn) -> Any:
    if (wrong := misfit(cls, wanted)) is not None:
        raise ContainerError(f"{what} is not as specified: {wrong} has the wrong type")
    try:
        found = from_json(cls, wanted)
        lost = list(_lost(_stripped(wanted), to_json(found)))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ContainerError(f"{what} is not as specified: {error}") from error
    for path in lost:
        if path.startswith(_UNSUPPORTED):
            raise UnsupportedHostError(f"{what}: {path} is not supported")
    if lost:
        warn(f"{what}: unknown properties are ignored: {', '.join(lost)}")
    return found


def _stripped(value: Any, levels: int = _LEVELS) -> Any:
    """Return JSON data without members that are null or empty.

    Raises:
        ContainerError: it is nested deeper than *levels*.
    """
    if not levels and isinstance(value, (dict, list)):
        raise ContainerError(f"nested deeper than {_LEVELS} levels")
    if isinstance(value, dict):
        members = {key: _stripped(member, levels - 1) for key, member in value.items()}
        return {k: v for k, v in members.items() if v is not None and v not in ([], {})}
    if isinstance(value, list):
        return [_stripped(member, levels - 1) for member in value]
    return value


def _lost(wanted: Any, kept: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of members of *wanted* that ask for something and are not kept."""
    members: list[tuple[Any, Any, Any]]
    if isinstance(wanted, dict):
        there = kept if isinstance(kept, dict) else {}
        members = [(key, value, there.get(key)) for key, value in wanted.items()]
    elif isinstance(wanted, list):
        known = kept if isinstance(kept, list) else []
        padded = [*known, *(None for _ in wanted[len(known) :])]
        members = [(index, value, padded[index]) for index, value in enumerate(wanted)]
    else:
        if wanted and kept is None:
            yield path
        return
    for key, value, found in members:
        yield from _lost(value, found, f"{path}.{key}" if path else str(key))


def _with_absolute_source(mount: Mount, bundle: str) -> Mount:
    is_bind = mount.type == "bind" or {"bind", "rbind"}.intersection(mount.options)
    if mount.type == "cgroup2":
        return replace(mount, type="cgroup")
    if not is_bind or not mount.source:
        return mount
    return replace(mount, source=os.path.join(bundle, mount.source))


def _with_environment(hooks: Hooks, inside: tuple[str, ...]) -> Hooks:
    """Return *hooks* with an environment, unless they have one.

    Ours is for those whose program is the host's: those of the container's get *inside*, as ours
    may hold what is not for it.
    """
    ours = tuple(f"{name}={value}" for name, value in os.environ.items())

    def filled(name: str) -> tuple[Hook, ...]:
        env = inside if name == "start_container" else ours
        items: tuple[Hook, ...] = getattr(hooks, name)
        return tuple(replace(h, env=env if h.env is None else h.env) for h in items)

    return Hooks(*map(filled, Hooks.__annotations__))
