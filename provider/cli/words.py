"""Docker's words for parts of a container, as parts of our spec."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence

from provider.errors import UsageError
from provider.model import specs
from provider.model.units import parse_size

_DOCKER_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_PROPAGATION = frozenset({"private", "slave", "shared"})


def pairs(option: str, items: Iterable[str] | None, *, separator: str = "=") -> dict[str, str]:
    """Return ``NAME=VALUE`` words as a mapping.

    Raises:
        UsageError: there is no name, or no separator.
    """
    found = {}
    for item in items or ():
        name, sign, value = item.partition(separator)
        if not name or not sign:
            raise UsageError(f"{option} {item}", hint=f"NAME{separator}VALUE")
        found[name] = value
    return found


def other_container(option: str, text: str | None, *, others: Sequence[str] = ()) -> str:
    """Return the NAME of ``container:NAME``; empty for None and the words *others*.

    Raises:
        UsageError: it is none of these.
    """
    if text is None or text in others:
        return ""
    kind, _, name = text.partition(":")
    if kind != "container" or not name:
        raise UsageError(f"{option} {text}", hint=" or ".join((*others, "container:NAME")))
    return name


def labels(items: Iterable[str] | None) -> dict[str, str]:
    """Return labels; one without a value is empty."""
    return pairs("--label", [item if "=" in item else f"{item}=" for item in items or ()])


def size(option: str, text: str) -> int:
    """Return bytes, of ``64m`` as Docker means it, or ``64Mi``.

    Raises:
        UsageError: it is not a size.
    """
    match = re.fullmatch(r"(\d+)([bkmg])b?", text)
    if match:
        return int(match[1]) * _DOCKER_UNITS[match[2]]
    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}", hint="such as 64Mi, 64m or 1G") from None


def volume(text: str) -> specs.VolumeMount:
    """Return what ``-v SOURCE:TARGET[:OPTIONS]`` says.

    Raises:
        UsageError: as it says; a named volume too, which only manifests have.
    """
    source, _, rest = text.partition(":")
    target, _, options = rest.partition(":")
    if source and not source.startswith(("/", ".")):
        raise UsageError(
            f"-v {text}: {source} is no path", hint="volumes with a name belong to manifests"
        )
    if not source or not target.startswith("/"):
        raise UsageError(f"-v {text}", hint="/HOST/PATH:/CONTAINER/PATH[:ro]")
    read_only, propagation = False, "private"
    for option in filter(None, options.split(",")):
        if option in ("ro", "rw"):
            read_only = option == "ro"
        elif option.removeprefix("r") in _PROPAGATION:
            propagation = option.removeprefix("r")
        else:
            raise UsageError(f"-v {text}: no option {option}", hint="ro, rw, rslave, rshared")
    return _bind(f"-v {text}", source, target, read_only=read_only, propagation=propagation)


def mount(text: str) -> specs.VolumeMount:
    """Return what ``--mount type=bind,source=...,target=...[,readonly]`` says.

    Raises:
        UsageError: as it says.
    """
    shown = f"--mount {text}"
    words = dict(word.partition("=")[::2] for word in text.split(","))
    spelled = {"src": "source", "destination": "target", "dst": "target", "ro": "readonly"}
    given = {spelled.get(key, key): value for key, value in words.items()}
    kind = given.pop("type", "volume")
    target = given.pop("target", "")
    read_only = given.pop("readonly", "false") in ("", "true", "1")
    if not target.startswith("/"):
        raise UsageError(f"{shown}: no target", hint="type=bind,source=/HOST,target=/CONTAINER")
    if kind == "bind":
        propagation = given.pop("bind-propagation", "private").removeprefix("r")
        found = _bind(
            shown, given.pop("source", ""), target, read_only=read_only, propagation=propagation
        )
    elif kind == "tmpfs":
        limits = {"size": given.pop("tmpfs-size", ""), "mode": given.pop("tmpfs-mode", "")}
        found = _tmpfs(shown, target, limits, read_only=read_only)
    else:
        raise UsageError(f"{shown}: no type {kind}", hint="type=bind or type=tmpfs")
    if given:
        raise UsageError(f"{shown}: {', '.join(sorted(given))} is not understood")
    return found


def tmpfs(text: str) -> specs.VolumeMount:
    """Return what ``--tmpfs TARGET[:size=64m,mode=1777]`` says.

    Raises:
        UsageError: as it says.
    """
    target, _, options = text.partition(":")
    words = dict(word.partition("=")[::2] for word in filter(None, options.split(",")))
    read_only = "ro" in words
    for word in ("rw", "ro", "nosuid", "nodev", "noexec", "exec"):
        words.pop(word, None)
    return _tmpfs(f"--tmpfs {text}", target, words, read_only=read_only)


def _bind(
    shown: str, source: str, target: str, *, read_only: bool, propagation: str
) -> specs.VolumeMount:
    path = os.path.abspath(source)
    if not source or not os.path.exists(path):
        raise UsageError(f"{shown}: {source or 'the source'} does not exist")
    if propagation not in _PROPAGATION:
        raise UsageError(f"{shown}: no propagation {propagation}")
    return specs.VolumeMount(target, bind=path, read_only=read_only, propagation=propagation)


def _tmpfs(shown: str, target: str, words: dict[str, str], *, read_only: bool) -> specs.VolumeMount:
    unknown = words.keys() - {"size", "mode"}
    if unknown or not target.startswith("/"):
        raise UsageError(shown, hint="/CONTAINER/PATH[:size=64m,mode=1777]")
    default = specs.TmpfsOptions()
    options = specs.TmpfsOptions(
        size=size(shown, words["size"]) if words.get("size") else default.size,
        mode=words.get("mode") or default.mode,
    )
    return specs.VolumeMount(target, tmpfs=options, read_only=read_only)


def publications(items: Iterable[str] | None) -> tuple[specs.Publish, ...]:
    """Return what all ``-p [IP:]PORT[-PORT]:TARGET[-TARGET][/udp]`` say.

    Raises:
        UsageError: as it says.
    """
    return tuple(port for item in items or () for port in _publication(item))


def _publication(text: str) -> Iterator[specs.Publish]:
    ports, _, protocol = text.partition("/")
    *ip, host, target = [*ports.split(":"), ""] if ":" not in ports else ports.split(":")
    if not target:
        raise UsageError(f"-p {text}: no port of the host", hint="[IP:]PORT:TARGET[/udp]")
    if protocol not in ("", "tcp", "udp"):
        raise UsageError(f"-p {text}: no protocol {protocol}", hint="tcp or udp")
    ours, theirs = _range(text, host), _range(text, target)
    if len(ours) != len(theirs) or len(ip) > 1:
        raise UsageError(f"-p {text}", hint="[IP:]PORT:TARGET[/udp]; ranges of the same length")
    for port, target_port in zip(ours, theirs, strict=True):
        yield specs.Publish(
            port, target_port, protocol=protocol or "tcp", ip=ip[0] if ip and ip[0] else "0.0.0.0"
        )


def _range(text: str, word: str) -> range:
    first, _, last = word.partition("-")
    numbers = [int(n) if n.isdecimal() else 0 for n in (first, last or first)]
    if not 1 <= numbers[0] <= numbers[1] <= 65535:
        raise UsageError(f"-p {text}: {word} is no port", hint="[IP:]PORT:TARGET[/udp]")
    return range(numbers[0], numbers[1] + 1)


def ulimit(text: str) -> tuple[str, specs.Ulimit]:
    """Return what ``--ulimit NAME=SOFT[:HARD]`` says.

    Raises:
        UsageError: as it says.
    """
    name, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    numbers = [word for word in (soft, hard or soft) if re.fullmatch(r"-1|\d+", word)]
    if not name or len(numbers) != 2:
        raise UsageError(f"--ulimit {text}", hint="NAME=SOFT[:HARD], such as nofile=1024:4096")
    return name, specs.Ulimit(int(numbers[0]), int(numbers[1]))


def device(text: str) -> specs.Device:
    """Return what ``--device PATH[:TARGET][:rwm]`` says.

    Raises:
        UsageError: as it says.
    """
    path, *rest = text.split(":")
    given = rest.pop() if rest and re.fullmatch(r"[rwm]+", rest[-1]) else "rwm"
    permissions = "".join(letter for letter in "rwm" if letter in given)
    target = rest.pop() if rest else path
    if rest or not path.startswith("/") or not target.startswith("/"):
        raise UsageError(f"--device {text}", hint="/dev/PATH[:/dev/TARGET][:rwm]")
    return specs.Device(path, target, permissions)


def restart(text: str) -> specs.Restart:
    """Return what ``--restart POLICY[:RETRIES]`` says.

    Raises:
        UsageError: as it says.
    """
    policies = ("no", "on-failure", "always", "unless-stopped")
    policy, sign, retries = text.partition(":")
    limited = retries.isdecimal() and policy == "on-failure"
    if policy not in policies or (sign and not limited):
        raise UsageError(f"--restart {text}", hint="one of: " + ", ".join(policies))
    return specs.Restart(policy=policy, max_retries=int(retries) if sign else None)


def capabilities(add: Sequence[str] | None, drop: Sequence[str] | None) -> specs.Capabilities:
    """Return what ``--cap-add`` and ``--cap-drop`` say."""

    def names(words: Sequence[str] | None) -> tuple[str, ...]:
        return tuple(dict.fromkeys(word.upper().removeprefix("CAP_") for word in words or ()))

    return specs.Capabilities(names(add), names(drop))
