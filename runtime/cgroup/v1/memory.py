"""The v1 memory controller.

Source: Documentation/admin-guide/cgroup-v1/memory.rst.
"""

from collections.abc import Iterator

from runtime.cgroup import files
from runtime.cgroup.controller import Controller, number, table, write_setting
from runtime.cgroup.limits import memory_limits
from runtime.cgroup.setting import PAGE_SIZE, Setting, same_size
from runtime.errors import StateError
from runtime.spec import Memory, Resources

_LIMIT = "memory.limit_in_bytes"
_SWAP = "memory.memsw.limit_in_bytes"


def settings(resources: Resources) -> tuple[Setting, ...]:
    """Return limit, limit with swap, soft limit; and what no manifest asks for, where given."""
    memory = resources.memory or Memory()
    limit, swap, reservation = memory_limits(memory)
    return (
        _size("memory.limit", _LIMIT, limit),
        _size(
            "memory.swap", _SWAP, swap, "the kernel does not count swap; boot with swapaccount=1"
        ),
        # A kernel for real time has no soft limit.
        _size("memory.reservation", "memory.soft_limit_in_bytes", reservation, "no soft limits"),
        *_habits(memory),
    )


def _habits(memory: Memory) -> Iterator[Setting]:
    """Yield how the group swaps and dies; a new one has inherited all of it."""
    if memory.use_hierarchy:
        yield Setting("memory.useHierarchy", "memory.use_hierarchy", "1", default="")
    if memory.swappiness is not None:
        value = str(memory.swappiness)
        hint = "0 to 100"
        yield Setting("memory.swappiness", "memory.swappiness", value, default="", hint=hint)
    if memory.disable_oom_killer is not None:
        yield Setting(
            field="memory.disableOOMKiller",
            file="memory.oom_control",
            value=str(int(memory.disable_oom_killer)),
            default="",
            same=lambda expected, actual: f"oom_kill_disable {expected}" in actual.split("\n"),
        )


def _size(field: str, file: str, value: int | None, why_absent: str = "") -> Setting:
    return Setting(
        field=field,
        file=file,
        value="-1" if value is None else str(value),
        default="-1",
        same=same_size,
        may_be_absent=bool(why_absent),
        why_absent=why_absent,
    )


def apply(folder: str, wanted: tuple[Setting, ...], *, fresh: bool) -> list[Setting]:
    """Write the limits in an order the kernel accepts: at no time may memory exceed its sum.

    Raises:
        StateError: more is in use than the new limit allows, and cannot be taken back.
    """
    limit, swap, *others = wanted
    order = [limit, swap]
    if not fresh and _exceeds(limit.value, files.read_if_there(f"{folder}/{_SWAP}")):
        order.reverse()
    try:
        return [s for s in (*order, *others) if not write_setting(folder, s, fresh=fresh)]
    except StateError as error:
        used = number(folder, "memory.usage_in_bytes") or 0
        raise StateError(
            f"the memory limit cannot be {limit.value} bytes: {used} are in use"
        ) from error


def _exceeds(limit: str, swap: str | None) -> bool:
    if swap is None:
        return False
    return limit == "-1" or int(limit) // PAGE_SIZE > int(swap) // PAGE_SIZE


def stats(folder: str) -> dict[str, int | None]:
    """Return memory and swap in use, peak, limit, cache and kills."""
    used, with_swap = (
        number(folder, "memory.usage_in_bytes"),
        number(folder, "memory.memsw.usage_in_bytes"),
    )
    limit = number(folder, _LIMIT)
    return {
        "memory_bytes": used,
        "memory_peak_bytes": number(folder, "memory.max_usage_in_bytes"),
        "memory_limit_bytes": None if limit is None or same_size("-1", str(limit)) else limit,
        "memory_cache_bytes": table(folder, "memory.stat").get("total_inactive_file"),
        # The two are not read at one instant, so their difference may be off by some pages.
        "swap_bytes": None if used is None or with_swap is None else max(0, with_swap - used),
        "oom_kills": oom_kills(folder),
    }


def oom_kills(folder: str) -> int | None:
    """Return the kills in this very group: v1 does not count those of nested ones upwards."""
    return table(folder, "memory.oom_control").get("oom_kill")


MEMORY = Controller(
    name="memory",
    settings=settings,
    wanted=lambda resources: resources.memory is not None,
    apply=apply,
    stats=stats,
)
