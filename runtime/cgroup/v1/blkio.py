"""The v1 blkio controller: weights and throttles. Made on demand.

v1 throttles what a process reads and writes directly; what it leaves to write-back goes to
nobody's account.

Source: Documentation/admin-guide/cgroup-v1/blkio-controller.rst.
"""

from collections.abc import Iterator

from runtime.cgroup import files
from runtime.cgroup.controller import Controller, refusal, write_setting
from runtime.cgroup.limits import bfq_weight, throttles
from runtime.cgroup.setting import Absent, Setting, same_lines
from runtime.errors import KernelError
from runtime.spec import BlockIo, Resources

_THROTTLE_FILES = {
    "throttleReadBpsDevice": "blkio.throttle.read_bps_device",
    "throttleWriteBpsDevice": "blkio.throttle.write_bps_device",
    "throttleReadIOPSDevice": "blkio.throttle.read_iops_device",
    "throttleWriteIOPSDevice": "blkio.throttle.write_iops_device",
}


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return the weight, ``io.weight`` of v2 included, and per throttle file a line a device."""
    block = resources.block_io or BlockIo()
    weight = Setting(
        field="blockIO.weight",
        file="blkio.bfq.weight",
        value=str(bfq_weight(resources) or 100),
        default="100",
        absent=Absent.WARN,
        why_absent="weights need the bfq scheduler, which the kernel lacks",
        hint="1 to 1000",
    )
    return (weight, *_throttle_settings(block))


def _throttle_settings(block: BlockIo) -> Iterator[Setting]:
    for name, rates in throttles(block).items():
        yield Setting(
            field=f"blockIO.{name}",
            file=_THROTTLE_FILES[name],
            value="\n".join(f"{a}:{b} {rate}" for (a, b), rate in sorted(rates.items())),
            default="",
            same=same_lines,
            absent=Absent.WARN,
            why_absent="the kernel has no I/O throttling",
            hint="whole disks only, by major:minor",
        )


def apply(folder: str, wanted: tuple[Setting, ...], *, fresh: bool) -> list[Setting]:
    """Write the weight, then device by device what differs."""
    weight, *limits = wanted
    missing = [] if write_setting(folder, weight, fresh=fresh) else [weight]
    for setting in limits:
        if fresh and setting.is_default:
            continue
        path = f"{folder}/{setting.file}"
        actual = files.read_if_there(path)
        if actual is None:
            missing.append(setting)
        else:
            _write_lines(path, setting, actual)
    return missing


def _write_lines(path: str, setting: Setting, actual: str) -> None:
    wanted, found = (set(text.split("\n")) - {""} for text in (setting.value, actual))
    devices = {line.partition(" ")[0] for line in wanted}
    extra = {line.partition(" ")[0] for line in found} - devices
    # Rate 0 takes a device off the list.
    lines = [*(f"{device} 0" for device in sorted(extra)), *sorted(wanted - found)]
    try:
        if lines:
            files.write(path, *lines)
    except KernelError as error:
        raise refusal(setting, error) from error


def stats(folder: str) -> dict[str, int | None]:
    """Return bytes and operations on all devices."""
    transferred = _sums(folder, "blkio.throttle.io_service_bytes_recursive")
    operations = _sums(folder, "blkio.throttle.io_serviced_recursive")
    return {
        "io_read_bytes": transferred.get("Read"),
        "io_write_bytes": transferred.get("Write"),
        "io_read_operations": operations.get("Read"),
        "io_write_operations": operations.get("Write"),
    }


def _sums(folder: str, file: str) -> dict[str, int]:
    text = files.read_if_there(f"{folder}/{file}")
    if text is None:
        return {}
    sums = {"Read": 0, "Write": 0}
    for line in text.splitlines():
        # `8:0 Read 4096`; the last line is `Total 4096`.
        _, _, rest = line.partition(" ")
        kind, _, value = rest.partition(" ")
        if kind in sums:
            sums[kind] += int(value)
    return sums


BLKIO = Controller(
    name="blkio",
    settings=settings,
    wanted=lambda resources: resources.block_io is not None or "io.weight" in resources.unified,
    apply=apply,
    stats=stats,
)
