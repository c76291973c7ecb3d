"""Containers made by hand (``bayplan run``): the same spec, without a manifest around it."""

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from provider.drivers.container_config import Site, make_config
from provider.drivers.port_preflight import Ports
from provider.errors import ProviderError, UsageError
from provider.model import specs
from provider.model.codec import encode
from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.tree import Tree
from runtime.container.config import ContainerConfig, new_id, read_config
from runtime.container.connect import RUN_NETWORK
from runtime.container.containers import Containers
from runtime.container.making import making
from runtime.container.summary import find, summaries
from runtime.container.wiring import ETC_FILES, etc_source
from runtime.image.model import ImageConfig
from runtime.image.store import ImageStore
from runtime.network import attachment, firewall, network
from runtime.network.hostlock import host_lock
from runtime.record import dataclass, field
from runtime.root import Root
from runtime.rootfs.passwd import resolve_user
from runtime.spec import DEFAULT_PATH


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for; None in *spec* is the image's word."""

    spec: specs.ContainerSpec = field(kw_only=False)
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    publish: tuple[specs.Publish, ...] = ()
    remove: bool = False
    network_of: str = ""
    """Name of the container whose network it is to be in."""
    pid_of: str = ""
    """Name of the container among whose processes it is to be."""


def make_single(
    root: Root, request: Request
) -> tuple[Containers, ContainerConfig, tuple[str, ...]]:
    """Create the container, not started yet, and publish its ports; last come warnings.

    Raises:
        UsageError: a word cannot be understood.
        ProviderError: the image is not here, or the name or a port is taken.
        ContainerError: the runtime refused.
    """
    Containers(root).reap()
    store = ImageStore(root)
    image = request.spec.image.name
    digest = store.resolve(image)
    if digest is None:
        raise ProviderError(f"no image {image}", hint="`bayplan images` lists them")
    container_id = new_id()
    name = container_id if request.name is None else request.name
    check_name(name)
    warnings = _check_ports(root, request.publish)
    tree = _tree(request, digest, store.config(digest))
    layers = store.layers(digest)
    account = resolve_user(layers, tree["container"]["user"], request.spec.groups)
    site = Site(
        root=root,
        container_id=container_id,
        layers=layers,
        user=account.user,
        home=account.home,
        created_at=time.time(),
    )
    instance = InstanceId(ResourceId("run", Kind.CONTAINER, name))
    config = replace(
        make_config(instance, tree, site),
        name=name,
        mark={},
        auto_remove=request.remove,
        volatile=request.remove,
    )
    config = _sharing(root, request, config)
    containers = Containers(root)
    try:
        with making(root), host_lock(root, f"create {name}"):
            if any(known.name == name for known in summaries(root)):
                hint = "`bayplan rm` removes containers"
                raise ProviderError(f"the name {name} is taken", hint=hint)
            containers.create(config)
        if request.spec.network_mode == "bridge":
            with host_lock(root, f"run {name}"):
                network.ensure_network(root, RUN_NETWORK)
                containers.reserve(container_id)
        if request.publish:
            address = attachment.attachments(root, container_id)[0].ip
            firewall.publish(
                root,
                containers.publications_owner(container_id),
                tuple(
                    firewall.Publication(
                        port=p.port,
                        protocol=p.protocol,
                        backends=((address, p.target_port),),
                        ip=p.ip,
                    )
                    for p in request.publish
                ),
            )
    except BaseException:
        containers.remove(container_id, force=True)
        raise
    return containers, config, warnings


def _sharing(root: Root, request: Request, config: ContainerConfig) -> ContainerConfig:
    """Return *config* with what it has of other containers.

    Raises:
        ProviderError: there is no such container, or it has no network of its own to share.
    """
    if request.pid_of:
        config = replace(config, pid_of=find(root, request.pid_of).id)
    if not request.network_of:
        return config
    other = read_config(root, find(root, request.network_of).id)
    if other.network_mode == "host":
        raise ProviderError(
            f"{request.network_of} is in the network of the host", hint="so say --network host"
        )
    owner = other.network_of or other.id
    # What it is called, and calls others, goes with the network.
    ours = {str(etc_source(root, config.id, n)): str(etc_source(root, owner, n)) for n in ETC_FILES}
    mounts = tuple(
        replace(mount, source=ours.get(mount.source or "", mount.source))
        for mount in config.spec.mounts
    )
    spec = replace(config.spec, hostname=other.spec.hostname, mounts=mounts)
    return replace(config, network_mode="container", network_of=owner, spec=spec)


def _check_ports(root: Root, publish: Iterable[specs.Publish]) -> tuple[str, ...]:
    """Return what may be in the way of publishing; raise a ProviderError for what surely is."""
    ports, warnings = Ports(root), list[str]()
    for wanted in publish:
        publication = firewall.Publication(wanted.port, wanted.protocol, ip=wanted.ip)
        for finding in ports.in_the_way(publication):
            if finding.refusal:
                raise ProviderError(finding.message)
            warnings.append(finding.message)
    return tuple(warnings)


def _tree(request: Request, digest: str, image: ImageConfig) -> Tree:
    """Return an effective spec: what is asked for over what the image says, as in Docker."""
    asked = request.spec
    command = asked.command
    if command is None:
        command = image.command if asked.entrypoint is None else ()
    spec = replace(
        asked,
        entrypoint=image.entrypoint if asked.entrypoint is None else asked.entrypoint,
        command=command,
        workdir=asked.workdir or image.workdir or "/",
        user=asked.user or image.user or "0",
        networks=(specs.NetworkJoin(RUN_NETWORK),) if asked.network_mode == "bridge" else (),
        stop_signal=asked.stop_signal or image.stop_signal or "SIGTERM",
    )
    terminal = {"TERM": "xterm"} if asked.tty else {}
    own = {name: source.value or "" for name, source in asked.env.items()}
    container = encode(spec)
    container["env"] = {"PATH": DEFAULT_PATH} | terminal | image.env | own
    container["image"]["digest"] = digest
    for join in container["networks"]:
        join["id"] = RUN_NETWORK
    for use in container["volumes"]:
        use["id"] = None
    return {"container": container, "metadata": {"labels": image.labels | dict(request.labels)}}


def check_name(name: str) -> None:
    """See that a container may be called so.

    Raises:
        UsageError: it may not.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise UsageError(
            f"the name {name!r}", hint="lower case letters, digits and inner hyphens, 63 at most"
        )
