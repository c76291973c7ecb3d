"""The options of ``run``: Docker's, in groups, and the spec they make together."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from provider.cli.options import duration
from provider.errors import UsageError
from runtime.record import dataclass

if TYPE_CHECKING:
    from provider.model import specs

NETWORKS = ("bridge", "host", "none")
"""Kinds of network but for that of another container."""

Text = str | None
Texts = list[str] | None


def _option(*names: str, metavar: str = "", help: str) -> Any:
    return typer.Option(*names, metavar=metavar or None, help=help)


@dataclass(frozen=True, slots=True)
class Program:
    """What runs, and as whom."""

    env: Annotated[
        Texts, _option("-e", "--env", metavar="NAME[=VALUE]", help="Variable; by default, yours.")
    ] = None
    env_file: Annotated[
        Texts, _option("--env-file", metavar="FILE", help="File with a variable a line.")
    ] = None
    entrypoint: Annotated[
        Text, _option("--entrypoint", metavar="PROGRAM", help="Instead of the image's.")
    ] = None
    user: Annotated[Text, _option("-u", "--user", metavar="NAME[:GROUP]", help="User.")] = None
    group_add: Annotated[Texts, _option("--group-add", metavar="GROUP", help="One more group.")] = (
        None
    )
    workdir: Annotated[Text, _option("-w", "--workdir", metavar="DIR", help="Working folder.")] = (
        None
    )
    init: Annotated[bool, _option("--init", help="An init as pid 1 that reaps.")] = False
    label: Annotated[Texts, _option("-l", "--label", metavar="NAME=VALUE", help="Label.")] = None


@dataclass(frozen=True, slots=True)
class Files:
    """What it sees of the host."""

    volume: Annotated[
        Texts,
        _option("-v", "--volume", metavar="SOURCE:TARGET[:ro]", help="A path of the host."),
    ] = None
    mount: Annotated[
        Texts, _option("--mount", metavar="type=...,target=...", help="The same, or a tmpfs.")
    ] = None
    tmpfs: Annotated[
        Texts, _option("--tmpfs", metavar="DIR[:size=64m]", help="Files in memory.")
    ] = None
    read_only: Annotated[bool, _option("--read-only", help="Root read-only.")] = False
    device: Annotated[
        Texts, _option("--device", metavar="PATH[:TARGET][:rwm]", help="A device of the host.")
    ] = None
    shm_size: Annotated[Text, _option("--shm-size", metavar="SIZE", help="Size of /dev/shm.")] = (
        None
    )


@dataclass(frozen=True, slots=True)
class Net:
    """How it is reached, and what it reaches."""

    publish: Annotated[
        Texts,
        _option("-p", "--publish", metavar="[IP:]PORT:TARGET[/udp]", help="Published port."),
    ] = None
    network: Annotated[
        str,
        _option("--network", metavar="bridge|host|none|container:NAME", help="Kind of network."),
    ] = "bridge"
    hostname: Annotated[Text, _option("--hostname", metavar="NAME", help="Host name.")] = None
    add_host: Annotated[
        Texts, _option("--add-host", metavar="NAME:IP", help="A line of /etc/hosts.")
    ] = None
    dns: Annotated[Texts, _option("--dns", metavar="IP", help="Name server.")] = None
    dns_search: Annotated[
        Texts, _option("--dns-search", metavar="DOMAIN", help="Search domain.")
    ] = None
    dns_option: Annotated[
        Texts, _option("--dns-option", metavar="OPTION", help="See resolv.conf(5).")
    ] = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What it may use up."""

    memory: Annotated[Text, _option("-m", "--memory", metavar="SIZE", help="Limit: 64Mi.")] = None
    memory_swap: Annotated[
        Text,
        _option("--memory-swap", metavar="SIZE", help="Memory and swap together, -1: no limit."),
    ] = None
    memory_reservation: Annotated[
        Text, _option("--memory-reservation", metavar="SIZE", help="Kept when memory is short.")
    ] = None
    cpus: Annotated[float | None, _option("--cpus", metavar="CORES", help="Limit in cores.")] = None
    cpuset_cpus: Annotated[
        Text, _option("--cpuset-cpus", metavar="LIST", help="Only these cores: 0-2,4.")
    ] = None
    pids_limit: Annotated[
        int | None, _option("--pids-limit", metavar="N", help="Number of tasks, 0 or -1: no limit.")
    ] = None
    oom_score_adj: Annotated[
        int | None, _option("--oom-score-adj", metavar="N", help="-1000 to 1000.")
    ] = None
    ulimit: Annotated[
        Texts, _option("--ulimit", metavar="NAME=SOFT[:HARD]", help="Such as nofile=1024.")
    ] = None


@dataclass(frozen=True, slots=True)
class Rights:
    """What it may do."""

    cap_add: Annotated[Texts, _option("--cap-add", metavar="NAME", help="Capability.")] = None
    cap_drop: Annotated[
        Texts, _option("--cap-drop", metavar="NAME", help="Capability taken away, or ALL.")
    ] = None
    privileged: Annotated[
        bool, _option("--privileged", help="Everything root may, but for devices.")
    ] = False
    security_opt: Annotated[
        Texts,
        _option(
            "--security-opt",
            metavar="OPTION",
            help="seccomp=unconfined, or no-new-privileges=false.",
        ),
    ] = None
    pid: Annotated[
        Text,
        _option(
            "--pid",
            metavar="container:NAME",
            help="Among the processes of that one, at most as long.",
        ),
    ] = None
    sysctl: Annotated[
        Texts, _option("--sysctl", metavar="NAME=VALUE", help="Of its own namespaces.")
    ] = None


@dataclass(frozen=True, slots=True)
class Life:
    """When it is started again, asked to end, thought healthy; and what is kept of its output."""

    restart: Annotated[
        str,
        _option("--restart", metavar="POLICY", help="no, on-failure[:N], always, unless-stopped."),
    ] = "no"
    stop_signal: Annotated[
        Text, _option("--stop-signal", metavar="SIGNAL", help="Instead of the image's.")
    ] = None
    stop_timeout: Annotated[
        Text, _option("--stop-timeout", metavar="DURATION", help="Before SIGKILL.")
    ] = None
    health_cmd: Annotated[
        Text, _option("--health-cmd", metavar="SCRIPT", help="Healthy if sh ends it with 0.")
    ] = None
    health_interval: Annotated[
        Text, _option("--health-interval", metavar="DURATION", help="Between two checks.")
    ] = None
    health_timeout: Annotated[
        Text, _option("--health-timeout", metavar="DURATION", help="Of one check.")
    ] = None
    health_retries: Annotated[
        int | None, _option("--health-retries", metavar="N", help="Failures that count.")
    ] = None
    health_start_period: Annotated[
        Text, _option("--health-start-period", metavar="DURATION", help="None counts before.")
    ] = None
    log_opt: Annotated[
        Texts, _option("--log-opt", metavar="NAME=VALUE", help="max-size=10m or max-file=3.")
    ] = None


def container_spec(
    image: str,
    command: tuple[str, ...] | None,
    *,
    terminal: bool,
    program: Program,
    files: Files,
    net: Net,
    limits: Limits,
    rights: Rights,
    life: Life,
) -> "specs.ContainerSpec":
    """Return the spec that all options together ask for; None is the image's word.

    Raises:
        UsageError: a word cannot be understood.
    """
    from provider.cli import words
    from provider.cli.environment import environment
    from provider.model import specs

    default = specs.ContainerSpec(specs.ImageRef(image))
    entrypoint = None
    if program.entrypoint is not None:
        entrypoint = (program.entrypoint,) if program.entrypoint else ()
    mode = _network_mode(net)
    if rights.pid and program.init:
        raise UsageError("--init and --pid do not go together: it would not be the first process")
    if net.publish and net.network != "bridge":
        raise UsageError("ports are published on --network bridge only")
    security = _security(rights.security_opt)
    variables = environment(program.env, program.env_file)
    asked = specs.ContainerSpec(
        specs.ImageRef(image),
        entrypoint=entrypoint,
        command=command,
        env={name: specs.EnvVar(value=value) for name, value in variables.items()},
        workdir=program.workdir,
        user=program.user,
        groups=tuple(dict.fromkeys(program.group_add or ())),
        hostname=net.hostname,
        tty=terminal,
        init=program.init,
        network_mode=mode,
        extra_hosts=words.pairs("--add-host", net.add_host, separator=":"),
        dns=_dns(net),
        volumes=(
            *map(words.volume, files.volume or ()),
            *map(words.mount, files.mount or ()),
            *map(words.tmpfs, files.tmpfs or ()),
        ),
        devices=tuple(map(words.device, files.device or ())),
        shm_size=words.size("--shm-size", files.shm_size) if files.shm_size else default.shm_size,
        resources=_resources(limits),
        ulimits=dict(map(words.ulimit, limits.ulimit or ())),
        sysctls=words.pairs("--sysctl", rights.sysctl),
        read_only=files.read_only,
        privileged=rights.privileged,
        capabilities=words.capabilities(rights.cap_add, rights.cap_drop),
        no_new_privileges=security.get("no-new-privileges", "true") != "false",
        seccomp=security.get("seccomp", "default"),
        stop_signal=life.stop_signal and life.stop_signal.upper(),
        stop_grace=(
            duration(life.stop_timeout, option="--stop-timeout")
            if life.stop_timeout
            else default.stop_grace
        ),
        restart=words.restart(life.restart),
        health=_health(life),
        logs=_logs(life.log_opt),
    )
    publish = words.publications(net.publish)
    if not publish and asked == _plain(asked):
        return asked
    from provider.cli.checked import checked  # costs as much as a third of all else

    return checked(asked, publish)


def _plain(asked: "specs.ContainerSpec") -> "specs.ContainerSpec":
    """Return *asked* with nothing that could be wrong by the rules of manifests."""
    from provider.model import specs

    return specs.ContainerSpec(
        asked.image,
        entrypoint=asked.entrypoint,
        command=asked.command,
        tty=asked.tty,
        init=asked.init,
        network_mode=asked.network_mode,
        read_only=asked.read_only,
        privileged=asked.privileged,
        restart=specs.Restart(policy="no"),
    )


def _network_mode(net: Net) -> str:
    from provider.cli import words

    if not words.other_container("--network", net.network, others=NETWORKS):
        return net.network
    given = {
        "--hostname": net.hostname,
        "--add-host": net.add_host,
        "--dns": net.dns,
        "--dns-search": net.dns_search,
        "--dns-option": net.dns_option,
    }
    for option, value in given.items():
        if value:
            raise UsageError(f"{option} is that one's to say with --network {net.network}")
    return "none"  # of its own


def _security(items: Texts) -> dict[str, str]:
    known = {"seccomp": ("default", "unconfined"), "no-new-privileges": ("true", "false", "")}
    found = {}
    for item in items or ():
        name, _, value = item.replace(":", "=", 1).partition("=")
        if value not in known.get(name, ()):
            raise UsageError(
                f"--security-opt {item}", hint="seccomp=unconfined, or no-new-privileges=false"
            )
        found[name] = value
    return found


def _dns(net: Net) -> "specs.Dns | None":
    from provider.model import specs

    if not (net.dns or net.dns_search or net.dns_option):
        return None
    return specs.Dns(tuple(net.dns or ()), tuple(net.dns_search or ()), tuple(net.dns_option or ()))


def _resources(limits: Limits) -> "specs.Resources":
    from provider.cli import words
    from provider.model import specs

    def size(option: str, text: Text) -> int | None:
        return None if text is None else words.size(option, text)

    memory, swap = size("--memory", limits.memory), None
    if limits.memory_swap not in (None, "-1"):
        both = size("--memory-swap", limits.memory_swap) or 0
        if memory is None or both < memory:
            raise UsageError("--memory-swap is memory and swap together: not less than --memory")
        swap = both - memory
    pids: int | None = specs.Resources().pids
    if limits.pids_limit is not None:
        pids = limits.pids_limit if limits.pids_limit > 0 else None
    return specs.Resources(
        memory=memory,
        memory_swap=swap,
        memory_reservation=size("--memory-reservation", limits.memory_reservation),
        cpus=limits.cpus,
        cpuset=limits.cpuset_cpus,
        pids=pids,
        oom_score_adj=limits.oom_score_adj,
    )


def _health(life: Life) -> "specs.Health | None":
    from provider.model import specs

    times = {
        "interval": life.health_interval,
        "timeout": life.health_timeout,
        "start_period": life.health_start_period,
    }
    given: dict[str, Any] = {
        name: duration(text, option=f"--health-{name.replace('_', '-')}")
        for name, text in times.items()
        if text is not None
    }
    if life.health_cmd is None:
        if given or life.health_retries is not None:
            raise UsageError("no --health-cmd is given for the other --health options")
        return None
    default = specs.Health()
    return specs.Health(
        exec=specs.ExecProbe(("sh", "-c", life.health_cmd)),
        retries=default.retries if life.health_retries is None else life.health_retries,
        on_unhealthy="none",  # as in Docker
        **given,
    )


def _logs(items: Texts) -> "specs.Logs":
    from provider.cli import words
    from provider.model import specs

    given, default = words.pairs("--log-opt", items), specs.Logs()
    max_size, max_files = given.pop("max-size", ""), given.pop("max-file", "")
    if given or not (max_files or "1").isdecimal():
        raise UsageError(f"--log-opt {' '.join(items or ())}", hint="max-size=10m or max-file=3")
    return specs.Logs(
        words.size("--log-opt max-size", max_size) if max_size else default.max_size,
        int(max_files) if max_files else default.max_files,
    )
