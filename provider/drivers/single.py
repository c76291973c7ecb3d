"""Containers made by hand (``bayplan run``): the same spec, without a manifest around it."""

import re
import time
from dataclasses import dataclass, replace
from pathlib import Path

from provider.drivers.container_config import Site, make_config
from provider.errors import ProviderError, UsageError
from provider.model import specs
from provider.model.codec import encode
from provider.model.ids import InstanceId, Kind, ResourceId
from provider.model.tree import Tree
from runtime.container.config import ContainerConfig, list_configs, new_id
from runtime.container.connect import RUN_NETWORK
from runtime.container.containers import Containers
from runtime.image.model import ImageConfig
from runtime.image.store import ImageStore
from runtime.network import firewall, network
from runtime.network.hostlock import host_lock
from runtime.root import Root
from runtime.rootfs.passwd import resolve_user

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for, in the words of the command line."""

    image: str
    command: tuple[str, ...] = ()
    name: str | None = None
    env: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    user: str | None = None
    workdir: str | None = None
    network: str = "bridge"
    memory_bytes: int | None = None
    cpus: float | None = None
    read_only: bool = False
    init: bool = False
    restart: str = "no"
    remove: bool = False


def make_single(root: Root, request: Request) -> tuple[Containers, ContainerConfig]:
    """Create the container, not started yet, and publish its ports.

    Raises:
        UsageError: a word cannot be understood.
        ProviderError: the image is not here, or the name is taken.
        ContainerError: the runtime refused.
    """
    Containers(root).reap()
    store = ImageStore(root)
    digest = store.resolve(request.image)
    if digest is None:
        raise ProviderError(f"no image {request.image}", hint="`bayplan images` lists them")
    container_id = new_id()
    name = container_id if request.name is None else request.name
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise UsageError(
            f"--name {name!r}", hint="lower case letters, digits and inner hyphens, 63 at most"
        )
    if any(config.name == name for config in list_configs(root)):
        raise ProviderError(f"the name {name} is taken", hint="`bayplan rm` removes containers")
    tree = _tree(request, digest, store.config(digest))
    layers = store.layers(digest)
    account = resolve_user(layers, tree["container"]["user"])
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
    published = tuple(_publication(text) for text in request.publish)
    containers = Containers(root)
    containers.create(config)
    try:
        if request.network == "bridge":
            with host_lock(root, f"run {name}"):
                network.ensure_network(root, RUN_NETWORK)
                containers.reserve(container_id)
        if published:
            address = network.attachments(root, container_id)[0].ip
            firewall.publish(
                root,
                containers.publications_owner(container_id),
                tuple(replace(p, backends=((address, p.backends[0][1]),)) for p in published),
            )
    except BaseException:
        containers.remove(container_id, force=True)
        raise
    return containers, config


def _tree(request: Request, digest: str, image: ImageConfig) -> Tree:
    """Return an effective spec: what is asked for over what the image says."""
    env = {"PATH": _PATH} | image.env | dict(_variable(text) for text in request.env)
    bridged = request.network == "bridge"
    if request.network not in ("bridge", "host", "none"):
        raise UsageError(f"--network {request.network}", hint="one of: bridge, host, none")
    if request.publish and not bridged:
        raise UsageError("ports are published on --network bridge only")
    spec = specs.ContainerSpec(
        specs.ImageRef(request.image),
        entrypoint=image.entrypoint,
        command=request.command or image.command,
        workdir=request.workdir or image.workdir or "/",
        user=request.user or image.user or "0",
        init=request.init,
        network_mode=request.network,
        networks=(specs.NetworkJoin(RUN_NETWORK),) if bridged else (),
        volumes=tuple(_volume(text) for text in request.volumes),
        resources=specs.Resources(memory=request.memory_bytes, cpus=request.cpus),
        read_only=request.read_only,
        stop_signal=image.stop_signal or "SIGTERM",
        restart=specs.Restart(policy=request.restart),
    )
    container = encode(spec)
    container["env"] = env
    container["image"]["digest"] = digest
    for join in container["networks"]:
        join["id"] = RUN_NETWORK
    for use in container["volumes"]:
        use["id"] = None
    return {"container": container, "metadata": {"labels": {}}}


def _variable(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise UsageError(f"-e {text}", hint="NAME=VALUE")
    return name, value


def _volume(text: str) -> specs.VolumeMount:
    source, _, rest = text.partition(":")
    target, _, option = rest.partition(":")
    if source.startswith("/") and not Path(source).exists():
        raise UsageError(f"-v {text}: {source} does not exist")
    if not source.startswith("/") or not target.startswith("/") or option not in ("", "ro", "rw"):
        raise UsageError(f"-v {text}", hint="/HOST/PATH:/CONTAINER/PATH[:ro]")
    return specs.VolumeMount(target, bind=source, read_only=option == "ro")


def _publication(text: str) -> firewall.Publication:
    """Return the publication with the target port in place of a backend's."""
    ports, _, protocol = text.partition("/")
    words = ports.split(":")
    numbers = words[-2:]
    if len(words) not in (2, 3) or not all(n.isdigit() for n in numbers):
        raise UsageError(f"-p {text}", hint="[IP:]PORT:TARGET[/udp]")
    if protocol not in ("", "tcp", "udp"):
        raise UsageError(f"-p {text}: no protocol {protocol}", hint="tcp or udp")
    return firewall.Publication(
        port=int(numbers[0]),
        protocol=protocol or "tcp",
        backends=(("", int(numbers[1])),),
        ip=words[0] if len(words) == 3 else "0.0.0.0",
    )
