"""When a process runs: scheduling policy, priority for block devices.

Source: sched_setattr(2), ioprio_set(2); constants from linux/sched.h,
uapi/linux/sched/types.h and linux/ioprio.h.
"""

import os
import struct

from runtime.errors import UnsupportedHostError
from runtime.kernel.libc import bind_number, c_char_p, c_long, c_ulong, check

POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}

_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASS_SHIFT = 13

_SCHED_SETATTR_NUMBER = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
_IOPRIO_SET_NUMBER = {"x86_64": 251, "aarch64": 30, "riscv64": 30}
# struct sched_attr up to Linux 5.3, which all kernels take.
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")


def sched_setattr(
    pid: int,
    policy: int,
    *,
    flags: int = 0,
    nice: int = 0,
    priority: int = 0,
    runtime_ns: int = 0,
    deadline_ns: int = 0,
    period_ns: int = 0,
) -> None:
    """Set how the kernel schedules *pid*, 0 being the caller.

    Raises:
        UnsupportedHostError: the number of this system call is not known on this architecture.
        KernelError: EINVAL for what does not go together, EPERM without CAP_SYS_NICE or with no
            real time in its cgroup, EBUSY for a deadline that cannot be met.
    """
    times = (runtime_ns, deadline_ns, period_ns)
    data = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, flags, nice, priority, *times)
    call = bind_number(_number("sched_setattr", _SCHED_SETATTR_NUMBER), c_ulong, c_char_p, c_ulong)
    check(call(pid, data, 0), "sched_setattr", f"policy {policy}")


def ioprio_set(pid: int, io_class: int, priority: int) -> None:
    """Set which place *pid* has in the queues of block devices.

    Raises:
        UnsupportedHostError: the number of this system call is not known on this architecture.
        KernelError: EPERM without CAP_SYS_ADMIN or CAP_SYS_NICE for real time.
    """
    value = io_class << _IOPRIO_CLASS_SHIFT | priority
    number = _number("ioprio_set", _IOPRIO_SET_NUMBER)
    call = bind_number(number, c_long, c_long, c_long)
    check(call(_IOPRIO_WHO_PROCESS, pid, value), "ioprio_set", f"{io_class}:{priority}")


def _number(name: str, numbers: dict[str, int]) -> int:
    machine = os.uname().machine
    if machine not in numbers:
        raise UnsupportedHostError(f"{name}(2) has no known number on {machine}")
    return numbers[machine]
