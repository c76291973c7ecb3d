"""config.json to Spec, where nothing that is asked for may get lost."""

import copy

import pytest

from runtime.cli.arguments import UsageError
from runtime.cli.bundle import read_json, to_process, to_spec, with_home
from runtime.cli.ending import signal_number
from runtime.cli.group import group_name
from runtime.container.defaults import default_mounts, default_namespaces
from runtime.container.program import compile_program
from runtime.container.stages import Stages
from runtime.errors import ContainerError, UnsupportedHostError
from runtime.json_data import to_json
from runtime.spec import Hook, Hooks, Linux, Process, Spec

CONFIG = to_json(
    Spec(
        process=Process(("sh",), env=("PATH=/bin",)),
        mounts=default_mounts(),
        linux=Linux(namespaces=default_namespaces()),
    )
)


@pytest.fixture
def config(tmp_path):
    (tmp_path / "rootfs").mkdir()
    return copy.deepcopy(CONFIG)


def decode(config, tmp_path, warnings=None):
    said = [] if warnings is None else warnings
    return to_spec(config, str(tmp_path), warn=said.append)


def test_defaults_are_the_specifications(config, tmp_path):
    del config["process"]["noNewPrivileges"]
    spec = decode(config, tmp_path)
    assert not spec.process.no_new_privileges
    assert spec.root.path == str(tmp_path / "rootfs")
    assert spec.process.env == ("PATH=/bin",)


def test_home_is_that_of_the_account(config, tmp_path):
    process = decode(config, tmp_path).process
    accounts = tmp_path / "etc/passwd"
    assert with_home(process, str(tmp_path)).env == ("PATH=/bin", "HOME=/")
    accounts.parent.mkdir()
    accounts.write_text("root:x:0:0::/root:/bin/sh\n")
    assert with_home(process, str(tmp_path)).env == ("PATH=/bin", "HOME=/root")
    accounts.write_text(f"root:x:0:{'9' * 5000}::/root:/bin/sh\n")
    assert with_home(process, str(tmp_path)).env == ("PATH=/bin", "HOME=/")


def test_hooks_of_the_containers_own_files_do_not_get_our_environment(
    config, tmp_path, monkeypatch
):
    monkeypatch.setenv("SECRET", "x")
    given = {"path": "/bin/true", "env": ["A=1"]}
    config["hooks"] = {
        name: [{"path": "/bin/true"}, given]
        for name in ("createRuntime", "createContainer", "startContainer", "poststop")
    }
    hooks = decode(config, tmp_path).hooks
    assert hooks.start_container[0].env == ("PATH=/bin",)
    for points in (hooks.create_runtime, hooks.create_container, hooks.poststop):
        assert "SECRET=x" in points[0].env
    assert hooks.start_container[1].env == hooks.poststop[1].env == ("A=1",)


def test_sources_of_binds_are_relative_to_the_bundle(config, tmp_path):
    config["mounts"].append({"destination": "/x", "source": "data", "options": ["rbind"]})
    assert decode(config, tmp_path).mounts[-1].source == str(tmp_path / "data")


def test_unknown_capabilities_are_warned_about(config, tmp_path):
    warnings = []
    config["process"]["capabilities"] = {"bounding": ["CAP_KILL", "CAP_NONE"]}
    spec = decode(config, tmp_path, warnings)
    assert spec.process.capabilities.bounding == ("CAP_KILL",)
    assert "CAP_NONE" in warnings[0]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("linux.nothing.at.all", 1),
        ("process.user.nothing", "x"),
        ("root.nothing", True),
        ("nothing", "x"),
    ],
)
def test_what_no_specification_has_is_ignored_with_a_warning(config, tmp_path, path, value):
    expected = decode(config, tmp_path)
    _put(config, path, value)
    warnings = []
    assert decode(config, tmp_path, warnings) == expected
    assert [path in warning for warning in warnings] == [True]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("linux.resources.devices", [{"allow": True, "type": "c", "major": 1, "minor": 11}]),
        ("linux.resources.devices", [{"allow": True, "type": "c", "major": 1, "access": ""}]),
        ("linux.resources.devices", [{"allow": True, "type": "c", "major": 1, "access": "rx"}]),
        ("linux.resources.devices", [{"allow": True, "type": "c", "major": -5, "access": "r"}]),
        ("linux.resources.devices", [{"allow": True, "type": "z", "access": "r"}]),
        ("linux.seccomp", {"architectures": ["SCMP_ARCH_X86_64"]}),
        ("hooks.prestart", [{"path": "/bin/true", "timeout": 0}]),
        ("hooks.poststop", [{"path": "/bin/true", "timeout": -1}]),
        ("mounts", [{"destination": "", "type": "tmpfs"}]),
        ("mounts", [{"destination": "/", "type": "tmpfs"}]),
        ("mounts", [{"destination": "/x/..", "type": "tmpfs"}]),
    ],
)
def test_what_would_be_taken_for_something_else_is_refused(config, tmp_path, path, value):
    _put(config, path, value)
    with pytest.raises(ContainerError):
        decode(config, tmp_path)


@pytest.mark.parametrize("number", [-1, 2**32 - 1, 2**32, 1.0])
@pytest.mark.parametrize("member", ["uid", "gid", "additionalGids"])
def test_ids_that_the_kernel_takes_for_no_change_are_refused(config, tmp_path, member, number):
    user = {"uid": 0, "gid": 0, member: [number] if member == "additionalGids" else number}
    config["process"]["user"] = user
    with pytest.raises(ContainerError):
        decode(config, tmp_path)
    with pytest.raises(ContainerError):
        to_process(config["process"], warn=lambda _text: None)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("linux.netDevices.eth0.name", "x"),
        ("linux.memoryPolicy.mode", "MPOL_BIND"),
        ("linux.intelRdt.enableMonitoring", True),
    ],
)
def test_what_it_has_and_we_have_not_is_refused(config, tmp_path, path, value):
    _put(config, path, value)
    with pytest.raises(UnsupportedHostError, match=path):
        decode(config, tmp_path)
    _put(config, path, None)
    decode(config, tmp_path)


def _put(config, path, value):
    *folders, name = path.split(".")
    section = config
    for each in folders:
        section = section.setdefault(each, {})
    section[name] = value


@pytest.mark.parametrize(
    "change",
    [
        {"ociVersion": "2.0.0"},
        {"process": None},
        {"root": None},
        {"process": {"cwd": "/"}},
        {"process": {"args": ["x"], "cwd": "relative"}},
        {"mounts": ["x"]},
        {"process": {"args": ["x"], "env": [5]}},
        {"process": {"args": ["x", "a\0b"], "cwd": "/"}},
        {"process": {"args": ["x"], "cwd": "/", "env": ["A=\0"]}},
        {"annotations": {"x": 5}},
        {"linux": {"namespaces": 3}},
    ],
)
def test_what_is_no_config_is_said(config, tmp_path, change):
    with pytest.raises(ContainerError):
        decode({**config, **change}, tmp_path)


def test_what_is_nested_beyond_reason_is_said(tmp_path):
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ContainerError, match="recursion"):
        read_json(str(tmp_path / "config.json"))


def test_a_process_needs_a_command():
    with pytest.raises(ContainerError, match="args"):
        to_process({"args": [], "cwd": "/"}, warn=print)


def test_steps_of_a_container_for_another_engine(config, tmp_path):
    spec = decode(config, tmp_path)
    hooks = Hooks(create_container=(Hook("/c"),), start_container=(Hook("/s"),))
    names = [o[0] for o in compile_program(spec, keyring="k", stages=Stages(hooks)).operations]
    order = ["keyring", "stop", "hooks", "pivot", "find", "await_start", "hooks", "started"]
    places = []
    for name in order:
        places.append(names.index(name, places[-1] + 1 if places else 0))
    assert names[-1] == "exec"


def test_the_hosts_things_are_in_hand_before_a_user_namespace_is_entered(config, tmp_path):
    config["linux"]["namespaces"].append({"type": "user"})
    for name in ("uidMappings", "gidMappings"):
        config["linux"][name] = [{"containerID": 0, "hostID": 1000, "size": 10}]
    program = compile_program(decode(config, tmp_path), stages=Stages())
    names = [operation[0] for operation in program.operations]
    mapped = names.index("identity")
    assert program.namespaces == 0
    assert max(i for i, name in enumerate(names) if name == "tree") < mapped
    assert mapped < names.index("fork") < names.index("filesystem") < names.index("pivot")
    assert "node" not in names


def test_names_of_cgroups():
    own = group_name({}, "x", "/run/a")
    assert own.startswith("bayplan-oci/")
    assert own.endswith("/x")
    assert own != group_name({}, "x", "/run/b")
    assert group_name({"linux": {"cgroupsPath": "/a/b"}}, "x", "/run") == "a/b"
    for path in ("/a/../b", "a:b:c", "/"):
        with pytest.raises(ContainerError):
            group_name({"linux": {"cgroupsPath": path}}, "x", "/run")


def test_signals_by_number_and_name():
    assert [signal_number(t) for t in ("0", "9", "kill", "SIGKILL", "RTMIN+1")] == [0, 9, 9, 9, 35]
    for text in ("-9", "SIG_DFL", "nothing", "65", "RTMIN+31", "SIGRTMIN+99999999999"):
        with pytest.raises(UsageError):
            signal_number(text)
