"""Meanings both versions share: what an absent or negative number is, and how scales convert.

Source: OCI runtime-spec config-linux.md, Documentation/admin-guide/cgroup-v2.rst.
"""

from collections.abc import Iterator

from runtime.cgroup.setting import Setting
from runtime.errors import ContainerError
from runtime.spec import BlockIo, Cpu, Memory, Resources

DEFAULT_CPU_PERIOD_US = 100_000


def limit_or_none(value: int | None) -> int | None:
    """Return *value*, or None where it means no limit (absent, 0, -1).

    Raises:
        ContainerError: it is less than that.
    """
    if value is not None and value < -1:
        raise ContainerError(f"{value} is no limit; -1 means none")
    return value if value is not None and value > 0 else None


def memory_limits(memory: Memory | None) -> tuple[int | None, int | None, int | None]:
    """Return (memory, memory plus swap, reservation) in bytes, None for no limit.

    Raises:
        ContainerError: memory plus swap is less than memory, or limited while memory is not.
    """
    if memory is None:
        return None, None, None
    limit, swap = limit_or_none(memory.limit), limit_or_none(memory.swap)
    if swap is not None and limit is None:
        raise ContainerError("memory.swap needs a memory limit: it is memory plus swap")
    if swap is not None and limit is not None and swap < limit:
        raise ContainerError(
            f"memory.swap is memory plus swap: {swap} is below the memory limit of {limit}"
        )
    return limit, swap, limit_or_none(memory.reservation)


def weight_from_shares(shares: int) -> int:
    """Return the v2 ``cpu.weight`` (1 to 10000) for v1 shares (2 to 262144).

    A line from (2, 1) to (262144, 10000), the least and greatest values of both scales: that of
    runc before 1.3.2 and crun before 1.23, so that the same config.json means the same here as
    under those of the distributions. The default of one, 1024, is not that of the other, 100.
    """
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def cpu_burst(cpu: Cpu, file: str) -> Iterator[Setting]:
    """Yield how much quota may be saved up, if that is given."""
    if cpu.burst is not None:
        yield Setting(
            field="cpu.burst",
            file=file,
            value=str(cpu.burst),
            default="0",
            may_be_absent=True,
            why_absent="the kernel has no burst, which came with Linux 5.14",
            hint="at most the quota",
        )


def cpu_idle(cpu: Cpu) -> Iterator[Setting]:
    """Yield whether the group is SCHED_IDLE, if that is given: such a group has no weight."""
    if cpu.idle is not None:
        yield Setting(
            field="cpu.idle",
            file="cpu.idle",
            value=str(cpu.idle),
            default="0",
            may_be_absent=True,
            why_absent="the kernel has no idle groups, which came with Linux 5.15",
            hint="0 or 1",
        )


def shares_from_weight(weight: int) -> int:
    """Return v1 shares that stand in the same ratio to the default as a v2 ``cpu.weight`` does.

    Not the inverse of `weight_from_shares`, which others have drawn.
    """
    return min(max((weight * 1024 + 50) // 100, 2), 262144)


def io_weight_from_blkio(weight: int) -> int:
    """Return the v2 ``io.weight`` (1 to 10000) for a v1 blkio weight (10 to 1000)."""
    return 1 + (weight - 10) * 9999 // 990


def device_weights(block_io: BlockIo | None) -> dict[str, int]:
    """Return device (``8:0``) -> weight (10 to 1000), those without one left out."""
    devices = (block_io or BlockIo()).weight_device
    return {f"{d.major}:{d.minor}": d.weight for d in devices if d.weight}


def leaf_weights(block_io: BlockIo | None) -> Iterator[Setting]:
    """Yield the files of leaf weights that are asked for, which went with CFQ in Linux 5.0."""
    block = block_io or BlockIo()
    given = [block.leaf_weight, *(device.leaf_weight for device in block.weight_device)]
    for weight in filter(None, given):
        yield not_offered("blockIO.leafWeight", "blkio.leaf_weight", weight, "it went with CFQ")


def not_offered(field: str, file: str, value: object, why: str) -> Setting:
    """Return what is asked for and has no file in this version: the host lacks it, by its name."""
    return Setting(field, file, str(value), default="", may_be_absent=True, why_absent=why)


def throttles(
    block_io: BlockIo | None,
) -> dict[str, dict[tuple[int, int], int]]:
    """Return OCI field -> device -> rate; devices with rate 0 (no limit) are left out."""
    block = block_io or BlockIo()
    fields = {
        "throttleReadBpsDevice": block.throttle_read_bps_device,
        "throttleWriteBpsDevice": block.throttle_write_bps_device,
        "throttleReadIOPSDevice": block.throttle_read_iops_device,
        "throttleWriteIOPSDevice": block.throttle_write_iops_device,
    }
    return {
        name: {(t.major, t.minor): t.rate for t in devices if t.rate > 0}
        for name, devices in fields.items()
    }


def weight_from_unified(resources: Resources, file: str) -> int | None:
    """Return the weight asked for in v2's own words: ``cpu.weight`` or ``io.weight``, if any.

    Raises:
        ContainerError: it is no number from 1 to 10000.
    """
    text = resources.unified.get(file)
    if text is None:
        return None
    number = text.removeprefix("default ")
    if not (number.isdecimal() and 1 <= int(number) <= 10000):
        raise ContainerError(f"unified.{file} cannot be {text!r} (1 to 10000)")
    return int(number)


def bfq_weight(resources: Resources) -> int | None:
    """Return the weight for bfq, of either version, if any is asked for.

    Its scale is that of v2's ``io.weight``, 100 in the middle, but ends at 1000.

    Raises:
        ContainerError: ``io.weight`` is no number from 1 to 10000.
    """
    weight = weight_from_unified(resources, "io.weight")
    if weight is not None:
        return min(weight, 1000)
    return limit_or_none((resources.block_io or BlockIo()).weight)
