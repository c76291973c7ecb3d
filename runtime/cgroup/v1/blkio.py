"""The v1 blkio controller: weights and throttles. Made on demand.

v1 throttles what a process reads and writes directly; what it leaves to write-back goes to
nobody's account.

Source: Documentation/admin-guide/cgroup-v1/blkio-controller.rst.
"""

from collections.abc import Iterator

from runtime.cgroup import files
from runtime.cgroup.controller import Controller, device_lines, write_lines, write_setting
from runtime.cgroup.limits import bfq_weight, device_weights, leaf_weights, throttles
from runtime.cgroup.setting import Setting, same_lines
from runtime.spec import BlockIo, Resources

_THROTTLE_FILES = {
    "throttleReadBpsDevice": "blkio.throttle.read_bps_device",
    "throttleWriteBpsDevice": "blkio.throttle.write_bps_device",
    "throttleReadIOPSDevice": "blkio.throttle.read_iops_device",
    "throttleWriteIOPSDevice": "blkio.throttle.write_iops_device",
}


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return the weight, ``io.weight`` of v2 included, and the files with a line a device."""
    block = resources.block_io or BlockIo()
    weight = Setting(
        field="blockIO.weight",
        file="blkio.bfq.weight",
        value=str(bfq_weight(resources) or 100),
        default="100",
        may_be_absent=True,
        why_absent="weights need the bfq scheduler, which the kernel lacks",
        hint="1 to 1000",
    )
    return (weight, *_device_weights(block), *_throttle_settings(block), *leaf_weights(block))


def _device_weights(block: BlockIo) -> Iterator[Setting]:
    if block.weight_device:
        weights = device_weights(block)
        yield Setting(
            field="blockIO.weightDevice",
            file="blkio.bfq.weight_device",
            value="\n".join(f"{device} {weight}" for device, weight in weights.items()),
            default="",
            same=lambda expected, actual: same_lines(expected, "\n".join(device_lines(actual))),
            may_be_absent=True,
            why_absent="weights need the bfq scheduler, which the kernel lacks",
            hint="1 to 1000, of disks that have the bfq scheduler",
        )


def _throttle_settings(block: BlockIo) -> Iterator[Setting]:
    for name, rates in throttles(block).items():
        yield Setting(
            field=f"blockIO.{name}",
            file=_THROTTLE_FILES[name],
            value="\n".join(f"{a}:{b} {rate}" for (a, b), rate in sorted(rates.items())),
            default="",
            same=same_lines,
            may_be_absent=True,
            why_absent="the kernel has no I/O throttling",
            hint="whole disks only, by major:minor",
        )


def apply(folder: str, wanted: tuple[Setting, ...], *, fresh: bool) -> list[Setting]:
    """Write the weight, then device by device what differs."""
    weight, *lists = wanted
    missing = [] if write_setting(folder, weight, fresh=fresh) else [weight]
    for setting in lists:
        # What takes a device off the list.
        off = "{} default" if setting.field == "blockIO.weightDevice" else "{} 0"
        if not write_lines(folder, setting, fresh=fresh, off=off.format, about=device_lines):
            missing.append(setting)
    return missing


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
