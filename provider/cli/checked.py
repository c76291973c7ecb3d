"""What the options of ``run`` make together, by the same rules as a manifest."""

from collections.abc import Sequence
from dataclasses import replace

from provider.errors import Problem, UsageError
from provider.manifest.single import canonical_container
from provider.model import specs
from provider.model.codec import decode, encode

_OPTIONS = {
    "container.command": "COMMAND",
    "container.env": "--env",
    "container.entrypoint": "--entrypoint",
    "container.user": "--user",
    "container.groups": "--group-add",
    "container.workdir": "--workdir",
    "container.volumes": "--volume, --mount or --tmpfs",
    "container.devices": "--device",
    "container.shmSize": "--shm-size",
    "container.hostname": "--hostname",
    "container.extraHosts": "--add-host",
    "container.dns.servers": "--dns",
    "container.dns.search": "--dns-search",
    "container.dns.options": "--dns-option",
    "container.resources.memory": "--memory",
    "container.resources.memorySwap": "--memory-swap",
    "container.resources.memoryReservation": "--memory-reservation",
    "container.resources.cpus": "--cpus",
    "container.resources.cpuset": "--cpuset-cpus",
    "container.resources.pids": "--pids-limit",
    "container.resources.oomScoreAdj": "--oom-score-adj",
    "container.ulimits": "--ulimit",
    "container.capabilities.add": "--cap-add",
    "container.capabilities.drop": "--cap-drop",
    "container.sysctls": "--sysctl",
    "container.restart": "--restart",
    "container.stopSignal": "--stop-signal",
    "container.stopGrace": "--stop-timeout",
    "container.health.exec": "--health-cmd",
    "container.health.interval": "--health-interval",
    "container.health.timeout": "--health-timeout",
    "container.health.retries": "--health-retries",
    "container.health.startPeriod": "--health-start-period",
    "container.logs": "--log-opt",
    "publish": "--publish",
}
"""Field of a Container -> the option that fills it."""


def checked(spec: specs.ContainerSpec, publish: Sequence[specs.Publish]) -> specs.ContainerSpec:
    """Return *spec* in canonical form.

    Raises:
        UsageError: a manifest could not say this either; tells all that is wrong.
    """
    container = encode(spec)
    # An image of `run` is any that is here; no entrypoint is the word for none at all.
    container["image"] = {"name": "image"}
    container["entrypoint"] = container["entrypoint"] or None
    signal = spec.stop_signal
    container["stopSignal"] = int(signal) if signal and signal.isdecimal() else signal
    canonical, problems = canonical_container(container, [encode(port) for port in publish])
    if problems:
        raise UsageError("\n".join(dict.fromkeys(map(_worded, problems))))
    found = decode(specs.ContainerSpec, canonical)
    return replace(found, image=spec.image, entrypoint=spec.entrypoint)


def _worded(problem: Problem) -> str:
    path = problem.path.removeprefix("spec.")
    fields = [field for field in _OPTIONS if _is_in(path, field)]
    option = _OPTIONS[max(fields, key=len)] if fields else path
    return str(replace(problem, origin=None, path=option))


def _is_in(path: str, field: str) -> bool:
    return path == field or path.startswith((f"{field}.", f"{field}["))
