"""Words of Compose, Docker and Kubernetes, and what to write instead."""

FIELDS: dict[str, str] = {
    # A word as people know it -> advice. Words that differ from ours in case or underscores only
    # are found by spelling and are not listed.
    "environment": "write `env`",
    "env_file": "put the values into a Config: `env: {NAME: {config: C, key: K}}`",
    "envFrom": "name each variable: `env: {NAME: {config: C, key: K}}`",
    "valueFrom": "write {secret, key} or {config, key}",
    "secretKeyRef": "write {secret: NAME, key: KEY}",
    "configMapKeyRef": "write {config: NAME, key: KEY}",
    "ports": "write `publish`, in `spec` beside `container`",
    "expose": "containers on one network reach every port; leave it out",
    "published": "write `port`",
    "hostPort": "write `port`",
    "containerPort": "write `targetPort`",
    "target_port": "write `targetPort`",
    "host_ip": "write `ip`",
    "hostIP": "write `ip`",
    "depends_on": "write `dependsOn`, in `spec` beside `container`",
    "dependencies": "write `dependsOn`, in `spec` beside `container`",
    "mem_limit": "write `resources.memory`",
    "memswap_limit": "write `resources.memorySwap`, which counts swap only",
    "mem_reservation": "write `resources.memoryReservation`",
    "cpu_shares": "write `resources.cpuWeight`",
    "cpu_quota": "write `resources.cpus`",
    "cpu": "write `cpus`, in `resources`",
    "pids_limit": "write `resources.pids`",
    "oom_score_adj": "write `resources.oomScoreAdj`",
    "blkio_config": "write `resources.io`",
    "limits": "write limits into `resources` itself",
    "requests": "write `memoryReservation` and `cpuWeight`",
    "cap_add": "write `capabilities.add`",
    "cap_drop": "write `capabilities.drop`",
    "security_opt": "write `seccomp` or `noNewPrivileges`",
    "securityContext": "write `user`, `capabilities`, `readOnly`, `privileged`",
    "runAsUser": "write `user`",
    "group_add": "write `groups`",
    "working_dir": "write `workdir`",
    "args": "write `command`; what runs before it is `entrypoint`",
    "container_name": "the name is `metadata.name`",
    "healthcheck": "write `health`",
    "livenessProbe": "write `health`",
    "readinessProbe": "write `health`",
    "startupProbe": "write `health` with `startPeriod`",
    "httpGet": "write `http`",
    "tcpSocket": "write `tcp`",
    "test": "write `exec: {command: [...]}`",
    "periodSeconds": "write `interval`, such as 10s",
    "timeoutSeconds": "write `timeout`, such as 3s",
    "failureThreshold": "write `retries`",
    "initialDelaySeconds": "write `startPeriod`, such as 30s",
    "stop_grace_period": "write `stopGrace`",
    "terminationGracePeriodSeconds": "write `stopGrace`, such as 30s",
    "restart_policy": "write `restart`",
    "restartPolicy": "write `restart`",
    "max_attempts": "write `maxRetries`",
    "logging": "write `logs`",
    "links": "name the network in `networks`; containers find each other by name",
    "hostNetwork": "write `networkMode: host`",
    "hostAliases": "write `extraHosts`",
    "volumeMounts": "write `volumes`",
    "mounts": "write `volumes`",
    "mountPath": "write `target`",
    "destination": "write `target`",
    "source": "write `volume` (a Volume) or `bind` (a path of the host)",
    "type": "write `volume`, `bind` or `tmpfs` for what it is",
    "read_only": "write `readOnly`",
    "ro": "write `readOnly: true`",
    "tmpfs": "write `volumes: [{target: PATH, tmpfs: {}}]`",
    "deploy": "write `replicas`, `resources`, `update` and `restart` where they belong",
    "update_config": "write `update`, in `spec` beside `container`",
    "strategy": "write `update`",
    "containers": "write `container`; each Service or Container has one",
    "initContainers": "make it a Job and depend on it with `condition: completed`",
    "template": "write `container`",
    "selector": "leave it out; a Service holds its own container",
    "namespace": "the project is named by a Project document",
    "stringData": "write `data: {KEY: {file: PATH}}`",
    "backoffLimit": "write `retries`",
    "activeDeadlineSeconds": "write `timeout`, such as 10m",
    "ipam": "write `subnet`",
    "driver": "leave it out; there is one kind of each",
    "external": "leave it out; refer to another project by {project, name}",
    "pull": "pulling is not built yet; declare an Image with archive, host or debian",
    "build": "building is not built yet; declare an Image with archive, host or debian",
    "scale": "write `replicas`",
    "labels": "write `metadata.labels`",
    "annotations": "write `metadata.annotations`",
    "name": "the name is `metadata.name`",
    "services": "write one document of kind Service for each",
}

KINDS: dict[str, str] = {
    "Deployment": "Service",
    "StatefulSet": "Service",
    "ReplicaSet": "Service",
    "DaemonSet": "Container",
    "Pod": "Container",
    "CronJob": "Job",
    "ConfigMap": "Config",
    "PersistentVolumeClaim": "Volume",
    "PersistentVolume": "Volume",
    "Ingress": "Service",
    "Namespace": "Project",
    "Node": "Host",
}
"""Kind elsewhere -> the nearest of ours."""

RESERVED_KINDS: dict[str, str] = {"Registry": "kind Registry is reserved and not built yet"}


def image(text: str) -> str:
    """Return what to do instead of naming an image by its reference, or nothing."""
    if not set(text) & set("/:@"):
        return ""
    return "declare it as a document of kind Image, and write that one's name"


def mount(text: str) -> str:
    """Return what to write for a mount as Compose has it (``data:/data:ro``), or nothing."""
    source, _, rest = text.partition(":")
    target, _, options = rest.partition(":")
    if not source or not target.startswith("/"):
        return ""
    kind = "bind" if source.startswith(("/", ".", "~")) else "volume"
    end = ", readOnly: true" if "ro" in options.split(",") else ""
    return f"write {{{kind}: {source}, target: {target}{end}}}"
