"""The v2 io controller: weights and throttles, write-back included.

Source: Documentation/admin-guide/cgroup-v2.rst, IO; Documentation/block/bfq-iosched.rst.
"""

from collections.abc import Iterable, Iterator
from errno import EOPNOTSUPP

from runtime.cgroup import files
from runtime.cgroup.controller import (
    Controller,
    device_lines,
    refusal,
    write_lines,
    write_setting,
)
from runtime.cgroup.limits import (
    bfq_weight,
    device_weights,
    io_weight_from_blkio,
    leaf_weights,
    limit_or_none,
    throttles,
    weight_from_unified,
)
from runtime.cgroup.setting import Setting, same_lines
from runtime.errors import ContainerError, KernelError
from runtime.record import replace
from runtime.spec import BlockIo, Resources

_KEYS = {
    "throttleReadBpsDevice": "rbps",
    "throttleWriteBpsDevice": "wbps",
    "throttleReadIOPSDevice": "riops",
    "throttleWriteIOPSDevice": "wiops",
}
_WEIGHTS = ("io.weight", "io.bfq.weight")


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return the weights, once for bfq and once for the cost model, and the limits per device."""
    if ":" in resources.unified.get("io.weight", ""):
        # Weights of single devices in v2's own words: the file's, as they are.
        resources = replace(resources, unified={})
    block = resources.block_io or BlockIo()
    bfq = bfq_weight(resources) or 100
    given = limit_or_none(block.weight)
    weight = weight_from_unified(resources, "io.weight")
    # Two files for one thing, of which a kernel may have one: so they have one name.
    field = "blockIO.weight" if weight is None else "unified.io.weight"
    if weight is None:
        weight = 100 if given is None else io_weight_from_blkio(given)
    return (
        _weight(field, "io.bfq.weight", bfq),
        _weight(field, "io.weight", weight),
        Setting(
            field="blockIO.throttle",
            file="io.max",
            value=_limits(block),
            default="",
            same=lambda expected, actual: _parse(expected) == _parse(actual),
            may_be_absent=True,
            why_absent="the kernel has no I/O throttling",
            hint="whole disks only, by major:minor",
        ),
        *_device_weights(resources, block),
        *leaf_weights(block),
    )


def _device_weights(resources: Resources, block: BlockIo) -> Iterator[Setting]:
    """Yield the lines of single devices; what is said in v2's own words of a file is all of it."""
    bfq = device_weights(block)
    cost = {device: io_weight_from_blkio(weight) for device, weight in bfq.items()}
    for file, weights in (("io.bfq.weight", bfq), ("io.weight", cost)):
        if block.weight_device and file not in resources.unified:
            yield Setting(
                field="blockIO.weightDevice",
                file=file,
                value="\n".join(f"{device} {weight}" for device, weight in weights.items()),
                default="",
                same=lambda expected, actual: same_lines(expected, "\n".join(device_lines(actual))),
                may_be_absent=True,
                why_absent="the disk has no bfq scheduler, and the kernel no io cost model",
                hint="10 to 1000, of whole disks by major:minor",
            )


def _weight(field: str, file: str, weight: int) -> Setting:
    return Setting(
        field=field,
        file=file,
        value=f"default {weight}",
        default="default 100",
        same=lambda expected, actual: _default_weight(expected) == _default_weight(actual),
        may_be_absent=True,
        why_absent="weights need the bfq scheduler or the io cost model, the kernel has neither",
        hint="10 to 1000" if field == "blockIO.weight" else "1 to 10000",
    )


def _default_weight(text: str) -> str:
    """Return the weight for all devices; further lines are for single ones, bfq omits the word."""
    return text.split("\n")[0].removeprefix("default ")


def _limits(block: BlockIo) -> str:
    devices: dict[tuple[int, int], dict[str, int]] = {}
    for name, rates in throttles(block).items():
        for device, rate in rates.items():
            devices.setdefault(device, {})[_KEYS[name]] = rate
    return "\n".join(
        _line(f"{major}:{minor}", {key: str(rate) for key, rate in limits.items()})
        for (major, minor), limits in sorted(devices.items())
    )


def _line(device: str, limits: dict[str, str]) -> str:
    return " ".join((device, *(f"{key}={limits.get(key, 'max')}" for key in _KEYS.values())))


def _parse(text: str) -> dict[str, dict[str, str]]:
    """Return device -> limits that are not ``max``; devices without any are left out."""
    found = {}
    for line in text.splitlines():
        device, *words = line.split()
        pairs = (word.partition("=")[::2] for word in words)
        limits = {key: value for key, value in pairs if value != "max"}
        if limits:
            found[device] = limits
    return found


def apply(folder: str, wanted: tuple[Setting, ...], *, fresh: bool) -> list[Setting]:
    """Write weights where the kernel has them, then device by device what differs."""
    bfq, cost, limits, *devices = wanted
    missing = [s for s in (bfq, cost) if not write_setting(folder, s, fresh=fresh)]
    for setting in devices:
        write = _write_weights if setting.file in _WEIGHTS else write_setting
        if not write(folder, setting, fresh=fresh):
            missing.append(setting)
    if fresh and limits.is_default:
        return missing
    actual = files.read_if_there(f"{folder}/{limits.file}")
    if actual is None:
        return [*missing, limits]
    want, have = _parse(limits.value), _parse(actual)
    changed = sorted(device for device in want | have if want.get(device) != have.get(device))
    _write_lines(folder, limits, (_line(device, want.get(device, {})) for device in changed))
    return missing


def _write_weights(folder: str, setting: Setting, *, fresh: bool) -> bool:
    """Write the weights of devices; False if there is no such file, or no such scheduler."""
    try:
        return write_lines(
            folder, setting, fresh=fresh, off="{} default".format, about=device_lines
        )
    except ContainerError as error:
        cause = error.__cause__
        if isinstance(cause, KernelError) and cause.errno == EOPNOTSUPP:
            return False
        raise


def _write_lines(folder: str, setting: Setting, lines: Iterable[str]) -> None:
    try:
        for line in lines:
            files.write(f"{folder}/{setting.file}", line)
    except KernelError as error:
        raise refusal(setting, error) from error


def stats(folder: str) -> dict[str, int | None]:
    """Return bytes and operations on all devices."""
    text = files.read_if_there(f"{folder}/io.stat")
    if text is None:
        return {}
    sums = dict.fromkeys(("rbytes", "wbytes", "rios", "wios"), 0)
    for word in text.split():
        key, _, value = word.partition("=")
        if key in sums:
            sums[key] += int(value)
    return {
        "io_read_bytes": sums["rbytes"],
        "io_write_bytes": sums["wbytes"],
        "io_read_operations": sums["rios"],
        "io_write_operations": sums["wios"],
    }


IO = Controller(
    name="io",
    settings=settings,
    wanted=lambda resources: resources.block_io is not None,
    apply=apply,
    stats=stats,
)
