"""What it takes to change a field: one row per field of every kind. Pure data.

The rows say what the engine does *now*; making more of them live is a matter of teaching the
driver and then changing the row. Drivers follow this table: after an UPDATE with consequence
``live``, every field whose row is LIVE must hold on the running object.

Patterns are relative to the effective spec, ``*`` stands for keys. A pattern with a ``*`` at its
end is also the row for an entry or item that comes or goes; the row of an optional object
(``container.health``) is for the object coming or going as a whole.
"""

from collections.abc import Mapping

from provider.model.ids import Kind
from provider.model.plan import Consequence

_LIVE = Consequence.LIVE
_RESTART = Consequence.RESTART
_REPLACE = Consequence.REPLACE

_ABOUT: dict[str, Consequence] = {
    # Recorded; nothing that runs is touched.
    "metadata.labels.*": _LIVE,
    "metadata.annotations.*": _LIVE,
    "lifecycle.preventDestroy": _LIVE,
    "lifecycle.prune": _LIVE,
    "dependsOn.*": _LIVE,
    "dependsOn.*.condition": _LIVE,
    "dependsOn.*.timeout": _LIVE,
    "dependsOn.*.effect": _LIVE,
    # The generation of the dependency, where its effect is restart or recreate.
    "dependsOn.*.restartWith": _RESTART,
    "dependsOn.*.recreateWith": _REPLACE,
}

_CONTAINER: dict[str, Consequence] = {
    # The digest decides what runs; by which name it is called does not.
    "container.image.name": _LIVE,
    "container.image.project": _LIVE,
    "container.image.digest": _REPLACE,
    "container.entrypoint": _REPLACE,
    "container.command": _REPLACE,
    "container.env.*": _REPLACE,
    "container.env.*.secret": _REPLACE,
    "container.env.*.key": _REPLACE,
    "container.env.*.fingerprint": _REPLACE,
    "container.workdir": _REPLACE,
    "container.user": _REPLACE,
    "container.groups.*": _REPLACE,
    "container.hostname": _REPLACE,
    "container.tty": _REPLACE,
    "container.init": _REPLACE,
    "container.networkMode": _REPLACE,
    "container.networks.*": _REPLACE,
    "container.networks.*.project": _REPLACE,
    # Names in the zone file of the network.
    "container.networks.*.aliases.*": _LIVE,
    "container.networks.*.ip": _REPLACE,
    "container.networks.*.id": _REPLACE,
    "container.extraHosts.*": _REPLACE,
    "container.dns": _REPLACE,
    "container.dns.servers": _REPLACE,
    "container.dns.search": _REPLACE,
    "container.dns.options": _REPLACE,
    "container.volumes.*": _REPLACE,
    "container.volumes.*.volume": _REPLACE,
    "container.volumes.*.project": _REPLACE,
    "container.volumes.*.id": _REPLACE,
    "container.volumes.*.bind": _REPLACE,
    "container.volumes.*.create": _REPLACE,
    "container.volumes.*.tmpfs": _REPLACE,
    "container.volumes.*.tmpfs.size": _REPLACE,
    "container.volumes.*.tmpfs.mode": _REPLACE,
    "container.volumes.*.readOnly": _REPLACE,
    "container.volumes.*.copy": _REPLACE,
    "container.volumes.*.propagation": _REPLACE,
    **{
        f"container.{files}.*{member}": _REPLACE
        for files in ("configs", "secrets")
        for member in ("", ".name", ".key", ".uid", ".gid", ".mode", ".fingerprint")
    },
    "container.devices.*": _REPLACE,
    "container.devices.*.path": _REPLACE,
    "container.devices.*.permissions": _REPLACE,
    "container.shmSize": _REPLACE,
    # Files of the running cgroup.
    "container.resources.memory": _LIVE,
    "container.resources.memorySwap": _LIVE,
    "container.resources.memoryReservation": _LIVE,
    "container.resources.cpus": _LIVE,
    "container.resources.cpuWeight": _LIVE,
    "container.resources.cpuset": _LIVE,
    "container.resources.pids": _LIVE,
    "container.resources.io": _LIVE,
    "container.resources.io.weight": _LIVE,
    "container.resources.io.devices.*": _LIVE,
    "container.resources.io.devices.*.readBps": _LIVE,
    "container.resources.io.devices.*.writeBps": _LIVE,
    "container.resources.io.devices.*.readIops": _LIVE,
    "container.resources.io.devices.*.writeIops": _LIVE,
    # A property of each process, inherited at fork: not a file of the cgroup.
    "container.resources.oomScoreAdj": _REPLACE,
    "container.ulimits.*": _REPLACE,
    "container.ulimits.*.soft": _REPLACE,
    "container.ulimits.*.hard": _REPLACE,
    "container.sysctls.*": _REPLACE,
    "container.readOnly": _REPLACE,
    "container.privileged": _REPLACE,
    "container.capabilities.add.*": _REPLACE,
    "container.capabilities.drop.*": _REPLACE,
    "container.noNewPrivileges": _REPLACE,
    "container.seccomp": _REPLACE,
    # The supervisor is told.
    "container.stopSignal": _LIVE,
    "container.stopGrace": _LIVE,
    "container.restart.policy": _LIVE,
    "container.restart.maxRetries": _LIVE,
    "container.restart.backoff": _LIVE,
    "container.restart.maxBackoff": _LIVE,
    "container.health": _LIVE,
    "container.health.http": _LIVE,
    "container.health.http.port": _LIVE,
    "container.health.http.path": _LIVE,
    "container.health.http.host": _LIVE,
    "container.health.tcp": _LIVE,
    "container.health.tcp.port": _LIVE,
    "container.health.exec": _LIVE,
    "container.health.exec.command": _LIVE,
    "container.health.interval": _LIVE,
    "container.health.timeout": _LIVE,
    "container.health.retries": _LIVE,
    "container.health.startPeriod": _LIVE,
    "container.health.onUnhealthy": _LIVE,
    "container.logs.maxSize": _LIVE,
    "container.logs.maxFiles": _LIVE,
}

_SERVING: dict[str, Consequence] = {
    **_CONTAINER,
    # Stopping and starting again keeps the object and its files.
    "state": _RESTART,
    "publish.*": _LIVE,
    "publish.*.targetPort": _LIVE,
    # How the next change is rolled out.
    "update.order": _LIVE,
    "update.batch": _LIVE,
    "update.healthyFor": _LIVE,
    "update.onFailure": _LIVE,
}

_IMAGE_CONFIG = ("entrypoint", "command", "env.*", "workdir", "user", "stopSignal", "labels.*")

RULES: Mapping[Kind, Mapping[str, Consequence]] = {
    kind: rows | _ABOUT
    for kind, rows in {
        Kind.CONTAINER: _SERVING,
        Kind.SERVICE: {
            **_SERVING,
            "replicas": _LIVE,
            # Addresses behind the published ports: one atomic swap of map elements.
            "backends.*": _LIVE,
            "backends.*.host": _LIVE,
            "backends.*.id": _LIVE,
        },
        Kind.JOB: {
            # A Job whose container changes is run again, but not for new names and networks.
            **dict.fromkeys(_CONTAINER, _REPLACE),
            "container.image.name": _LIVE,
            "container.image.project": _LIVE,
            "container.networks.*.id": _LIVE,
            "perHost": _LIVE,
            "rerun": _LIVE,
            "idempotent": _LIVE,
            "retries": _LIVE,
            "timeout": _LIVE,
            "undo": _LIVE,
        },
        Kind.IMAGE: {
            # Any of these gives another image; who uses it sees another digest.
            **dict.fromkeys(
                (
                    "archive",
                    "archive.path",
                    "archive.reference",
                    "host",
                    "host.programs.*",
                    "host.files.*",
                    "debian",
                    "debian.packages.*",
                    "debian.suite",
                    "debian.variant",
                    *(f"config.{member}" for member in _IMAGE_CONFIG),
                    "inputs.*",
                ),
                _REPLACE,
            ),
        },
        Kind.NETWORK: {
            # The containers on it are made anew, because their addresses are.
            "subnet": _REPLACE,
            "gateway": _REPLACE,
            "internal": _REPLACE,
            # Of the bridge, and of both ends of every link on it.
            "mtu": _LIVE,
            "scope": _REPLACE,
        },
        Kind.VOLUME: {
            # Owner and mode of its root folder; data is never touched.
            "sharedWriters": _LIVE,
            "uid": _LIVE,
            "gid": _LIVE,
            "mode": _LIVE,
        },
        # Content is recorded; the containers that have it mounted are replaced by their own rows.
        Kind.CONFIG: {"data.*": _LIVE, "data.*.base64": _LIVE, "template": _LIVE},
        Kind.SECRET: {"data.*": _LIVE, "allowPlaintext": _LIVE, "identity": _LIVE},
    }.items()
}

SENSITIVE: Mapping[Kind, frozenset[str]] = {
    Kind.SECRET: frozenset({"data.*"}),
    **{
        kind: frozenset({"container.env.*.fingerprint", "container.secrets.*.fingerprint"})
        for kind in (Kind.CONTAINER, Kind.SERVICE, Kind.JOB)
    },
}
"""Patterns whose values are fingerprints of secrets: shown as changed, never shown."""


PORTS: Mapping[str, Consequence] = {"state": _LIVE}
"""Where the published ports of a Service differ from its replicas: they have no process."""


def consequence_of(kind: Kind, pattern: str, *, ports: bool = False) -> Consequence:
    """Return what a change at *pattern* takes.

    Raises:
        KeyError: the table lacks a row, a bug.
    """
    if ports and pattern in PORTS:
        return PORTS[pattern]
    return RULES[kind][pattern]
