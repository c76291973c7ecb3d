"""The launch program as a value: what is in it, and in which order."""

import dataclasses
import json

import pytest

from runtime.container.defaults import (
    MASKED_PATHS,
    READONLY_PATHS,
    default_capabilities,
    default_mounts,
    default_namespaces,
)
from runtime.container.program import compile_enter, compile_program
from runtime.container.stages import Stages
from runtime.errors import ContainerError, UnsupportedHostError
from runtime.kernel.namespaces import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID
from runtime.kernel.program import Program
from runtime.spec import (
    IdMapping,
    Linux,
    LinuxDevice,
    Mount,
    Namespace,
    Process,
    Rlimit,
    RootFs,
    Seccomp,
    Spec,
)

SECCOMP = Seccomp("SCMP_ACT_ALLOW")
LAYERS = ("/l/base", "/l/top")
OVERLAY = {"layers": LAYERS, "upper": "/u", "work": "/w"}


def make(*, process=None, linux=None, **changes):
    base = Process(("sh",), env=("PATH=/bin:/sbin",), capabilities=default_capabilities())
    own = Linux(
        namespaces=default_namespaces(),
        masked_paths=MASKED_PATHS,
        readonly_paths=READONLY_PATHS,
        seccomp=SECCOMP,
    )
    return Spec(
        dataclasses.replace(base, **(process or {})),
        linux=dataclasses.replace(own, **(linux or {})),
        **{"hostname": "box", "mounts": default_mounts(), **changes},
    )


def names(program):
    return [operation[0] for operation in program.operations]


def only(program, name):
    (found,) = [o for o in program.operations if o[0] == name]
    return found


def test_it_survives_json():
    program = compile_program(make(), **OVERLAY, cgroup_join=("/c/x/tasks", "/c/y/cgroup.procs"))
    again = Program.from_json(json.loads(json.dumps(program.to_json())))
    assert again == program
    assert hash(again) == hash(program)
    assert again != Program(0, ())


def test_it_does_not_change():
    with pytest.raises(AttributeError):
        Program(0, ()).namespaces = 1


def test_it_is_readable():
    text = compile_program(make(), **OVERLAY).describe()
    assert "overlay [/l/base /l/top] /u /w False" in text
    assert max(map(len, text.splitlines())) < 600


def test_the_host_is_out_of_view_before_any_path_of_the_image_is_used():
    spec = make(mounts=(*default_mounts(), Mount("/data", None, "/srv", ("rbind",))))
    order = names(compile_program(spec, **OVERLAY, cgroup_join=("/c/x/tasks",)))
    pivot = order.index("pivot")
    assert set(order[:pivot]) == {"join", "unshare", "tree", "attributes", "private", "overlay"}
    assert {"mount", "attach", "node", "symlink", "mask", "readonly", "workdir"}.isdisjoint(
        order[:pivot]
    )


def test_what_forks_with_the_host_in_view_comes_before_another_pid_namespace():
    spaces = [n for n in default_namespaces() if n.type != "pid"]
    mappings = (IdMapping(0, 100000, 1000),)
    linux = {
        "namespaces": (*spaces, Namespace("pid", "/proc/9/ns/pid"), Namespace("user")),
        "uid_mappings": mappings,
        "gid_mappings": mappings,
        "devices": (LinuxDevice("/dev/x", "c", 1, 5),),
    }
    program = compile_program(make(linux=linux), layers=("/l",), stages=Stages())
    enters = only(program, "setns")
    assert enters == ("setns", "/proc/9/ns/pid", CLONE_NEWPID)
    order = names(program)
    last = max(n for n, name in enumerate(order) if name in ("tree", "attributes", "device"))
    assert last < order.index("setns") < order.index("unshare") < order.index("fork")


def test_privileges_are_lost_in_an_order_that_works():
    order = names(compile_program(make(), **OVERLAY))
    tail = [
        "bounding",
        "user",
        "capabilities",
        "find",
        "no_new_privs",
        "session",
        "seccomp",
        "exec",
    ]
    assert order[-len(tail) :] == tail


def test_without_no_new_privs_the_filter_comes_before_the_privileges_go():
    spec = make(process={"no_new_privileges": False})
    order = names(compile_program(spec, **OVERLAY))
    assert "no_new_privs" not in order
    assert order.index("seccomp") < order.index("bounding")


def test_the_cgroup_is_joined_before_its_namespace_is_made():
    files = ("/sys/fs/cgroup/memory/b/1/tasks", "/sys/fs/cgroup/unified/b/1/cgroup.procs")
    program = compile_program(make(), **OVERLAY, cgroup_join=files)
    assert program.operations[0] == ("join", files[0])
    assert program.cgroup == "/sys/fs/cgroup/unified/b/1"
    assert names(program).index("join") < names(program).index("unshare")


class TestNamespaces:
    def test_fresh_ones_are_flags(self):
        spec = make(linux={"namespaces": (Namespace("mount"), Namespace("ipc"))}, hostname=None)
        assert compile_program(spec, **OVERLAY).namespaces == CLONE_NEWNS | CLONE_NEWIPC

    def test_a_pinned_network_wins(self):
        program = compile_program(make(), **OVERLAY, netns="/run/netns/x")
        assert not program.namespaces & CLONE_NEWNET
        assert only(program, "setns") == ("setns", "/run/netns/x", CLONE_NEWNET)
        assert "loopback" not in names(program)

    def test_a_shared_pid_namespace_takes_a_fork(self):
        namespaces = default_namespaces(pid="/proc/5/ns/pid")
        program = compile_program(make(linux={"namespaces": namespaces}), **OVERLAY)
        assert not program.namespaces & CLONE_NEWPID
        at = program.operations.index(("setns", "/proc/5/ns/pid", CLONE_NEWPID))
        assert program.operations[at + 1] == ("fork",)

    @pytest.mark.parametrize(
        ("namespaces", "error", "text"),
        [
            ((Namespace("pid"),), ContainerError, "mount namespace of its own"),
            ((Namespace("mount", "/x"),), ContainerError, "mount namespace of its own"),
            ((Namespace("mount"), Namespace("mount")), ContainerError, "given twice"),
            ((Namespace("mount"), Namespace("moon")), ContainerError, "no namespace type moon"),
            ((Namespace("mount"), Namespace("user")), UnsupportedHostError, "user namespaces"),
        ],
    )
    def test_what_cannot_be(self, namespaces, error, text):
        with pytest.raises(error, match=text):
            compile_program(make(linux={"namespaces": namespaces}, hostname=None), **OVERLAY)

    def test_a_host_name_needs_one(self):
        namespaces = default_namespaces(uts=None)
        with pytest.raises(ContainerError, match="needs a uts namespace"):
            compile_program(make(linux={"namespaces": namespaces}), **OVERLAY)


class TestRoot:
    def test_layers_are_an_overlay(self):
        program = compile_program(make(), **OVERLAY, volatile=True)
        assert only(program, "overlay") == ("overlay", LAYERS, "/u", "/w", True)

    def test_a_single_layer_without_upper_is_bound_read_only(self):
        program = compile_program(make(), layers=("/l",))
        assert only(program, "bind_root") == ("bind_root", "/l")
        assert ("mount_attributes", "/", 1) in program.operations

    def test_a_folder(self):
        program = compile_program(make(root=RootFs("/r")))
        assert only(program, "bind_root") == ("bind_root", "/r")
        assert ("mount_attributes", "/", 1) not in program.operations

    def test_read_only_comes_after_all_that_makes_folders(self):
        program = compile_program(make(root=RootFs(readonly=True)), **OVERLAY)
        at = program.operations.index(("mount_attributes", "/", 1))
        assert at > max(i for i, n in enumerate(names(program)) if n in ("workdir", "mount"))

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"layers": LAYERS, "upper": "/u"}, "or neither"),
            ({}, "root rootfs is not absolute"),
        ],
    )
    def test_what_cannot_be(self, options, text):
        with pytest.raises(ContainerError, match=text):
            compile_program(make(), **options)


class TestSysctls:
    def test_names_with_dots_and_with_slashes(self):
        linux = {"sysctl": {"net.ipv4.ip_forward": "1", "net/ipv4/conf/eth0.5/forwarding": "1"}}
        operations = compile_program(make(linux=linux), **OVERLAY).operations
        assert ("sysctl", "net/ipv4/ip_forward", "1") in operations
        assert ("sysctl", "net/ipv4/conf/eth0.5/forwarding", "1") in operations

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("kernel.panic", "belongs to no namespace"),
            ("net/../kernel/panic", "belongs to no namespace"),
            ("vm.swappiness", "belongs to no namespace"),
        ],
    )
    def test_those_of_the_host_are_refused(self, name, text):
        with pytest.raises(ContainerError, match=text):
            compile_program(make(linux={"sysctl": {name: "1"}}), **OVERLAY)

    def test_those_of_a_shared_namespace_are_refused(self):
        linux = {
            "sysctl": {"net.ipv4.ip_forward": "1"},
            "namespaces": default_namespaces(network=None),
        }
        with pytest.raises(ContainerError, match="needs a network namespace"):
            compile_program(make(linux=linux), **OVERLAY)


class TestProcess:
    def test_the_search_path_is_the_containers(self):
        assert only(compile_program(make(), **OVERLAY), "find") == ("find", "sh", ("/bin", "/sbin"))

    def test_the_default_search_path(self):
        program = compile_program(make(process={"env": ()}), **OVERLAY)
        assert "/usr/bin" in only(program, "find")[2]

    def test_an_init_takes_the_terminal_itself(self):
        process = {"terminal": True}
        program = compile_program(make(process=process), **OVERLAY, init=True)
        assert only(program, "session") == ("session", False)
        assert names(program)[-1] == "init"
        program = compile_program(make(process=process), **OVERLAY)
        assert only(program, "session") == ("session", True)

    @pytest.mark.parametrize(
        ("process", "error", "text"),
        [
            ({"args": ()}, ContainerError, "no command"),
            ({"rlimits": (Rlimit("RLIMIT_X", 1, 1),)}, ContainerError, "no resource limit"),
        ],
    )
    def test_what_cannot_be(self, process, error, text):
        with pytest.raises(error, match=text):
            compile_program(make(process=process), **OVERLAY)

    def test_labels_are_asked_for_before_the_filter_and_through_the_hosts_proc(self):
        spec = make(process={"apparmor_profile": "profile", "no_new_privileges": False})
        for program in (
            compile_program(spec, **OVERLAY),
            compile_enter(spec.process, seccomp=SECCOMP),
        ):
            order = names(program)
            entered = order.index("pivot" if "pivot" in order else "enter")
            assert order.index("labels") < entered < order.index("label")
            assert order.index("close_labels") < order.index("seccomp") < order.index("user")
            assert only(program, "label") == ("label", "apparmor", "profile")

    def test_the_mount_label_is_for_what_selinux_does_not_label_itself(self):
        program = compile_program(make(linux={"mount_label": "a:b:c:d"}), **OVERLAY)
        data = {op[3]: op[5] for op in program.operations if op[0] == "mount"}
        assert data["tmpfs"].endswith(',context="a:b:c:d"')
        assert "context" not in (data["proc"] or "")
        assert only(program, "labels") == ("labels", ("selinux",), False)


class TestEnter:
    def test_the_process_is_born_into_the_pid_namespace_without_privileges(self):
        order = names(compile_enter(make().process, seccomp=SECCOMP))
        fork = order.index("fork")
        assert order.index("enter") < order.index("capabilities") < fork
        assert order[fork + 1 :] == ["session", "seccomp", "exec"]

    def test_without_no_new_privs_it_is_born_before_the_filter(self):
        process = dataclasses.replace(make().process, no_new_privileges=False)
        order = names(compile_enter(process, seccomp=SECCOMP))
        assert order.index("fork") < order.index("seccomp") < order.index("bounding")

    def test_the_cgroup_is_joined_while_the_host_is_in_view(self):
        program = compile_enter(make().process, cgroup_join=("/c/tasks",))
        assert program.operations[0] == ("join", "/c/tasks")

    def test_the_working_directory_is_not_made(self):
        assert only(compile_enter(make().process), "workdir") == ("workdir", "/", False)
