"""Our own default seccomp profile, as a table: what is allowed, by purpose, and what it needs.

What is allowed is what ordinary programs use plus what a capability makes useful; a call whose
capability is missing is refused here already, before the kernel code behind it is reached. Known
calls that are not in the table get EPERM; numbers we do not know, and the newest, get ENOSYS, so
that programs built for newer kernels fall back. Nothing is allowed that the default profile of
Docker's kin refuses, as Debian ships it in golang-github-containers-common: a test compares the
two call by call.

Left out on purpose, beside what only root of the host should do (kexec, swap, modules, reboot):

- ``keyctl add_key request_key``: keyrings are not namespaced;
- ``bpf perf_event_open userfaultfd io_uring_*``: large and often the way out of a sandbox;
- ``clone3``, of whose flags a filter cannot see anything: ENOSYS, and libc falls back to clone;
- ``vmsplice io_pgetevents``: more use to attackers than to programs, which do without;
- ``clone unshare setns`` of namespaces, ``mount`` and its kin: a new user namespace hands out every
  capability inside it, and with them kernel code written for root;
- socket families that reach past the network namespace (vsock, to the hypervisor) or that nobody
  but an attacker asks for (alg, and the long dead).

A hole we share with Docker: 32-bit programs make sockets by ``socketcall``, whose arguments are in
memory, where a filter cannot look. Leave 32-bit out (``compat=False``) where it is not needed.

``ptrace`` needs no capability: since Linux 4.8 a tracer cannot change a call after the filter saw
it, and we need a newer kernel for other reasons.
"""

import functools
from errno import EINVAL, ENOSYS, EPERM

from runtime.kernel.syscalls import SYSCALLS
from runtime.spec import Seccomp, SeccompArg, SyscallRule

DEFAULT_PROFILE = "default/2"
"""Its name in records. Any change to the table below is a new version."""

DEFAULT_PROFILES = ("default/1", DEFAULT_PROFILE)
"""All versions there are: what was made under an older one goes on under it until replaced."""

_PURPOSES = {
    "read, write and wait for descriptors": """
        read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek _llseek
        close close_range dup dup2 dup3 fcntl fcntl64 ioctl pipe pipe2 poll ppoll ppoll_time64
        select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 epoll_ctl
        epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd
        signalfd4 sendfile sendfile64 splice tee copy_file_range readahead fadvise64 fadvise64_64
        sync fsync fdatasync syncfs sync_file_range
    """,
    "files and folders": """
        open openat openat2 creat access faccessat faccessat2 stat lstat fstat stat64 lstat64
        fstat64 fstatat64 newfstatat statx statfs fstatfs statfs64 fstatfs64 getcwd chdir fchdir
        getdents getdents64 mkdir mkdirat rmdir link linkat symlink symlinkat readlink readlinkat
        unlink unlinkat rename renameat renameat2 mknod mknodat chmod fchmod fchmodat
        chown fchown lchown chown32 fchown32 lchown32 fchownat umask truncate ftruncate truncate64
        ftruncate64 fallocate flock utime utimes futimesat utimensat utimensat_time64
        name_to_handle_at inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
        fanotify_mark
    """,
    "extended attributes": """
        getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr llistxattr flistxattr
        removexattr lremovexattr fremovexattr
    """,
    "asynchronous I/O of the old kind": """
        io_setup io_destroy io_submit io_cancel io_getevents
    """,
    "memory": """
        brk mmap mmap2 munmap mremap mprotect msync madvise mincore mlock mlock2 mlockall munlock
        munlockall remap_file_pages membarrier memfd_create memfd_secret pkey_alloc pkey_free
        pkey_mprotect
    """,
    "processes and threads": """
        execve execveat exit exit_group fork vfork wait4 waitid waitpid getpid getppid gettid
        getpgid setpgid getpgrp getsid setsid prctl arch_prctl modify_ldt set_thread_area
        get_thread_area set_tid_address set_robust_list get_robust_list rseq restart_syscall
        pidfd_open pidfd_send_signal process_mrelease futex futex_time64 ptrace process_vm_readv
        process_vm_writev
    """,
    "scheduling and limits": """
        sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam
        sched_setparam sched_getscheduler sched_setscheduler sched_get_priority_max
        sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64 getpriority
        setpriority ioprio_get ioprio_set getrlimit setrlimit ugetrlimit prlimit64 getrusage getcpu
    """,
    "signals": """
        kill tkill tgkill pause alarm sigaltstack sigprocmask sigreturn rt_sigaction rt_sigprocmask
        rt_sigpending rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_sigqueueinfo
        rt_tgsigqueueinfo rt_sigreturn
    """,
    "time (setting a clock by adjtimex is refused by the kernel without CAP_SYS_TIME)": """
        time gettimeofday times clock_gettime clock_gettime64 clock_getres clock_getres_time64
        clock_nanosleep clock_nanosleep_time64 nanosleep clock_adjtime clock_adjtime64 adjtimex
        getitimer setitimer timer_create timer_delete timer_getoverrun timer_gettime
        timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
        timerfd_gettime64 timerfd_settime timerfd_settime64
    """,
    "who one is": """
        getuid geteuid getgid getegid getuid32 geteuid32 getgid32 getegid32 getgroups getgroups32
        getresuid getresuid32 getresgid getresgid32 setuid setuid32 setgid setgid32 setreuid
        setreuid32 setregid setregid32 setresuid setresuid32 setresgid setresgid32 setgroups
        setgroups32 setfsuid setfsuid32 setfsgid setfsgid32 capget capset
    """,
    "sockets; socket itself is below": """
        socketcall socketpair bind listen accept accept4 connect getsockname getpeername getsockopt
        setsockopt shutdown sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg
        recvmmsg_time64
    """,
    "System V and POSIX IPC, which have a namespace": """
        ipc shmget shmat shmdt shmctl semget semop semctl semtimedop semtimedop_time64 msgget
        msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedsend_time64 mq_timedreceive
        mq_timedreceive_time64 mq_notify mq_getsetattr
    """,
    "the system, and sandboxes inside ours": """
        uname sysinfo getrandom seccomp landlock_create_ruleset landlock_add_rule
        landlock_restrict_self
    """,
}

# The kernel asks for these capabilities anyway; without them the calls are only attack surface.
_WITH_CAPABILITY = {
    "CAP_SYS_ADMIN": """
        mount umount umount2 fsopen fsconfig fsmount fspick move_mount open_tree
        mount_setattr unshare setns clone clone3 sethostname setdomainname
        quotactl fanotify_init lookup_dcookie bpf perf_event_open syslog
    """,
    "CAP_SYS_CHROOT": "chroot",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_MODULE": "init_module finit_module delete_module",
    "CAP_SYS_RAWIO": "iopl ioperm",
}

# Newer than the programs in most images: treated as if we did not know them.
_TOO_NEW = """
    io_pgetevents_time64 quotactl_fd futex_waitv cachestat fchmodat2 map_shadow_stack futex_wake
    futex_wait futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr
    lsm_list_modules mseal setxattrat getxattrat listxattrat removexattrat uretprobe
    io_uring_setup io_uring_enter io_uring_register set_mempolicy_home_node
    open_tree_attr file_getattr file_setattr listns uprobe
"""

# What version 1 allowed in addition, to all or with a capability.
_ONLY_IN_1 = """
    vmsplice cachestat fchmodat2 statmount listmount getxattrat setxattrat listxattrat
    removexattrat io_pgetevents io_pgetevents_time64 mseal map_shadow_stack futex_waitv futex_wait
    futex_wake futex_requeue uretprobe
"""
_ONLY_IN_1_WITH_CAPABILITY = {
    "CAP_SYS_ADMIN": "quotactl_fd lsm_get_self_attr lsm_set_self_attr lsm_list_modules",
    "CAP_SYS_NICE": "set_mempolicy_home_node",
}

# CLONE_NEW* of cgroup, uts, ipc, user, pid, net and mount. CLONE_NEWTIME is for clone3 only: in
# clone(2) its bit belongs to the signal number.
_NAMESPACE_FLAGS = 0x7E020000

# Decnet, econet, atmsvc, irda, wanpipe, iucv, caif: dead or for special hardware. Alg: the
# kernel's ciphers. Vsock: the hypervisor.
_REFUSED_FAMILIES = (12, 19, 20, 23, 25, 34, 37, 38, 40)
_LAST_FAMILY = 45
_AF_NETLINK, _NETLINK_AUDIT = 16, 9

# Linux, Linux with 32-bit addresses or uname of 2.6, both; and "only tell me".
_PERSONALITIES = (0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)


@functools.lru_cache(maxsize=16)
def default_profile(
    capabilities: frozenset[str], *, compat: bool = True, version: str = DEFAULT_PROFILE
) -> Seccomp:
    """Return the default profile for a container with *capabilities* (``CAP_...``, bounding set).

    With *compat* 32-bit programs run on a 64-bit machine, under the same rules. Equal arguments
    give an equal profile, which goes by the name *version*, one of DEFAULT_PROFILES.
    """
    first = version == "default/1"
    allowed = {name for names in _PURPOSES.values() for name in names.split()}
    for capability in capabilities:
        allowed.update(_WITH_CAPABILITY.get(capability, "").split())
    if first:
        allowed.update(_ONLY_IN_1.split())
        for capability in capabilities:
            allowed.update(_ONLY_IN_1_WITH_CAPABILITY.get(capability, "").split())
    with_audit = first or "CAP_AUDIT_WRITE" in capabilities
    conditional = (*_socket_rules(with_audit=with_audit), *_personality_rules())
    if "CAP_SYS_ADMIN" not in capabilities:
        conditional += _clone_rules()
    known = {name for table in SYSCALLS.values() for name in table}
    ruled = {name for rule in conditional for name in rule.names}
    refused = known - allowed - set(_TOO_NEW.split()) - ruled
    architectures = ("SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64")
    return Seccomp(
        default_action="SCMP_ACT_ERRNO",
        default_errno_ret=ENOSYS,
        architectures=(*architectures, "SCMP_ARCH_X86") if compat else architectures,
        syscalls=(_allow(*sorted(allowed)), *conditional, _refuse(*sorted(refused))),
    )


def _allow(*names: str, args: tuple[SeccompArg, ...] = ()) -> SyscallRule:
    return SyscallRule(names, "SCMP_ACT_ALLOW", args=args)


def _refuse(*names: str, errno: int = EPERM, args: tuple[SeccompArg, ...] = ()) -> SyscallRule:
    return SyscallRule(names, "SCMP_ACT_ERRNO", errno_ret=errno, args=args)


def _clone_rules() -> tuple[SyscallRule, ...]:
    no_namespace = SeccompArg(0, _NAMESPACE_FLAGS, "SCMP_CMP_MASKED_EQ", value_two=0)
    return (
        _allow("clone", args=(no_namespace,)),
        _refuse("clone"),
        _refuse("clone3", errno=ENOSYS),
    )


def _socket_rules(*, with_audit: bool) -> tuple[SyscallRule, ...]:
    # The kernel takes the lower 32 bits; a family with any bit above is neither refused nor among
    # the small numbers allowed, and so falls to the last rule.
    audit = (
        SeccompArg(0, _AF_NETLINK, "SCMP_CMP_EQ"),
        SeccompArg(2, 0xFFFFFFFF, "SCMP_CMP_MASKED_EQ", value_two=_NETLINK_AUDIT),
    )
    return (
        *(
            _refuse("socket", args=(SeccompArg(0, family, "SCMP_CMP_EQ"),))
            for family in _REFUSED_FAMILIES
        ),
        # What asks for it sees a kernel without auditing, and goes on.
        *(() if with_audit else (_refuse("socket", errno=EINVAL, args=audit),)),
        _allow("socket", args=(SeccompArg(0, _LAST_FAMILY, "SCMP_CMP_LE"),)),
        _refuse("socket"),
    )


def _personality_rules() -> tuple[SyscallRule, ...]:
    return (
        *(
            _allow("personality", args=(SeccompArg(0, persona, "SCMP_CMP_EQ"),))
            for persona in _PERSONALITIES
        ),
        _refuse("personality"),
    )
