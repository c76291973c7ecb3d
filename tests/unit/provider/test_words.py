"""Docker's words on the command line of `run`."""

import pytest

import schemas
from provider.cli import words
from provider.cli.checked import _OPTIONS
from provider.cli.creation import Files, Life, Limits, Net, Program, Rights, container_spec
from provider.cli.environment import environment
from provider.errors import UsageError
from provider.manifest.shape import spec_shape
from provider.model import specs
from provider.model.ids import Kind


def spec(**groups) -> specs.ContainerSpec:
    given = {
        "program": Program(),
        "files": Files(),
        "net": Net(),
        "limits": Limits(),
        "rights": Rights(),
        "life": Life(),
    } | groups
    return container_spec("image", None, terminal=False, **given)


def test_nothing_said_is_the_default_but_for_restarts():
    default = specs.ContainerSpec(specs.ImageRef("image"), restart=specs.Restart(policy="no"))
    assert spec() == default


def test_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("HERE", "yes")
    monkeypatch.delenv("GONE", raising=False)
    file = tmp_path / "env"
    file.write_text("# a comment\n\nA=1\nB=two = 2 \nHERE\nGONE\n")
    found = environment(["A=3", "C=", "GONE"], [str(file)])
    assert found == {"A": "3", "B": "two = 2 ", "HERE": "yes", "C": ""}


@pytest.mark.parametrize(
    ("text", "size"),
    [("64m", 64 << 20), ("1g", 1 << 30), ("64Mi", 64 << 20), ("5", 5), ("2kb", 2048)],
)
def test_sizes_are_dockers_or_ours(text, size):
    assert words.size("-m", text) == size


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80:8080", [(80, 8080, "tcp", "0.0.0.0")]),
        ("127.0.0.1:53:53/udp", [(53, 53, "udp", "127.0.0.1")]),
        ("90-91:1-2", [(90, 1, "tcp", "0.0.0.0"), (91, 2, "tcp", "0.0.0.0")]),
    ],
)
def test_ports(text, ports):
    found = words.publications([text])
    assert [(p.port, p.target_port, p.protocol, p.ip) for p in found] == ports


@pytest.mark.parametrize(
    "text", ["80", ":80", "80:", "0:1", "65536:1", "a:b", "1-2:3", "2-1:1-2", "1:2/sctp", "1:2:3:4"]
)
def test_ports_that_are_none(text):
    with pytest.raises(UsageError):
        words.publications([text])


def test_mounts(tmp_path):
    path = str(tmp_path)
    read_only = specs.VolumeMount("/data", bind=path, read_only=True)
    assert words.volume(f"{path}:/data:ro") == read_only
    assert words.volume(f"{path}:/data:rw,rslave").propagation == "slave"
    assert words.mount(f"type=bind,src={path},dst=/data,readonly") == words.volume(
        f"{path}:/data:ro"
    )
    small = specs.TmpfsOptions(size=1 << 20, mode="0700")
    assert words.tmpfs("/t:size=1m,mode=0700") == specs.VolumeMount("/t", tmpfs=small)
    assert words.mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0700").tmpfs == small


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (words.volume, "data:/data"),
        (words.volume, "/data"),
        (words.volume, "/no/such/place:/data"),
        (words.volume, "/tmp:/data:zz"),
        (words.mount, "type=volume,source=a,target=/b"),
        (words.mount, "type=bind,target=/b"),
        (words.mount, "type=tmpfs,target=/b,tmpfs-speed=1"),
        (words.tmpfs, "t"),
        (words.ulimit, "nofile"),
        (words.device, "null"),
        (words.device, "/dev/a:/dev/b:rw:x"),
        (words.restart, "on-failure:x"),
        (words.restart, "always:3"),
        (words.restart, "sometimes"),
    ],
)
def test_what_cannot_be_understood(parse, text):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert text.partition(":")[0].partition(",")[0] in str(caught.value)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"net": Net(hostname="ünï")}, "--hostname: `ünï` is not allowed; expected a DNS name"),
        ({"net": Net(hostname=f"{'a' * 40}.{'b' * 40}")}, "--hostname: longer than 64 characters"),
        ({"net": Net(dns=["9.9.9"])}, "--dns: `9.9.9` is not allowed; expected an IP address"),
        ({"net": Net(dns_search=["a b"])}, "--dns-search: `a b` is not allowed"),
        ({"net": Net(dns_option=["a b"])}, "--dns-option: `a b` is not allowed"),
        ({"net": Net(add_host=["a:1.2"])}, "--add-host: `1.2` is not allowed"),
        ({"net": Net(add_host=["a b:1.2.3.4"])}, "--add-host: `a b` is not allowed"),
        ({"net": Net(publish=["1.2.3:80:80"])}, "--publish: `1.2.3` is not allowed"),
        ({"net": Net(publish=["80:80", "80:81"])}, "--publish: 0.0.0.0:80/tcp stands here twice"),
        ({"program": Program(workdir="a")}, "--workdir: `a` is not allowed"),
        ({"program": Program(workdir="/../x")}, "--workdir: `/../x` is not allowed"),
        ({"program": Program(user="a b")}, "--user: `a b` is not allowed; expected a user"),
        ({"program": Program(group_add=["a b"])}, "--group-add: `a b` is not allowed"),
        ({"program": Program(env=["A B=1"])}, "--env: `A B` is not allowed"),
        ({"program": Program(env=[f"A={'x' * 140_000}"])}, "--env: longer than 128 KiB"),
        ({"files": Files(volume=["/tmp:/x/../y"])}, "--volume, --mount or --tmpfs: `/x/../y` is"),
        ({"files": Files(volume=["/tmp:/"])}, "--volume, --mount or --tmpfs: `/` is not allowed"),
        ({"files": Files(volume=["/tmp:/sys"])}, "--volume, --mount or --tmpfs: /sys is the ker"),
        ({"files": Files(tmpfs=["/t:mode=9"])}, "--volume, --mount or --tmpfs: `9` is not allow"),
        ({"files": Files(tmpfs=["/t", "/t"])}, "--volume, --mount or --tmpfs: /t stands here tw"),
        ({"files": Files(device=["/dev/fuse:/proc/x"])}, "--device: no device can be made at /p"),
        ({"files": Files(shm_size="1k")}, "--shm-size: `1024` is too small; expected at least"),
        ({"limits": Limits(memory="1k")}, "--memory: `1024` is too small; expected at least 1Mi"),
        ({"limits": Limits(memory_reservation="1")}, "--memory-reservation: `1` is too small"),
        ({"limits": Limits(cpus=0.001)}, "--cpus: `0.001` is too small; expected at least 0.01"),
        ({"limits": Limits(cpuset_cpus="3-1")}, "--cpuset-cpus: 3-1 goes backwards"),
        ({"limits": Limits(cpuset_cpus="x")}, "--cpuset-cpus: `x` is not allowed"),
        ({"limits": Limits(pids_limit=10**7)}, "--pids-limit: `10000000` is too large"),
        ({"limits": Limits(oom_score_adj=2000)}, "--oom-score-adj: `2000` is too large"),
        ({"limits": Limits(ulimit=["files=3"])}, "--ulimit: `files` is not allowed"),
        ({"limits": Limits(ulimit=["nofile=3:1"])}, "--ulimit: soft limit 3 is above the hard"),
        ({"rights": Rights(cap_add=["net_admn"])}, "--cap-add: `NET_ADMN` is not allowed; did you"),
        ({"rights": Rights(cap_add=["chown"], cap_drop=["chown"])}, "--cap-drop: CHOWN is added"),
        ({"rights": Rights(sysctl=["vm.swappiness=1"])}, "--sysctl: no namespace of the contain"),
        ({"life": Life(stop_signal="FOO")}, "--stop-signal: `FOO` is not allowed; expected a si"),
        ({"life": Life(stop_signal="99")}, "--stop-signal: `99` is too large"),
        ({"life": Life(stop_timeout="20d")}, "--stop-timeout: `1728000.0` is too large; expected"),
        ({"life": Life(health_cmd="x", health_retries=0)}, "--health-retries: `0` is too small"),
        ({"life": Life(health_cmd="x", health_interval="0")}, "--health-interval: `0.0` is too s"),
        ({"life": Life(log_opt=["max-size=1"])}, "--log-opt: `1` is too small; expected at least"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_no_manifest_could_say_is_refused_in_the_same_words(groups, said):
    with pytest.raises(UsageError) as caught:
        spec(**groups)
    assert str(caught.value).startswith(said)


def test_all_that_is_wrong_is_said():
    with pytest.raises(UsageError) as caught:
        spec(net=Net(hostname="a b"), program=Program(user="a b"))
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "--user",
        "--hostname",
    ]


def test_every_option_has_a_field_of_a_container():
    """So that what is wrong with one is told by its name."""
    fields = spec_shape(Kind.CONTAINER)
    assert [field for field in _OPTIONS if fields.find(field) is None] == []
    named = {
        option for words in _OPTIONS.values() for option in words.replace(" or ", ", ").split(", ")
    }
    unchecked = {
        *("--env-file", "--label", "--init", "--read-only", "--network"),
        *("--privileged", "--security-opt", "--pid"),
    }
    given = {
        f"--{name.replace('_', '-')}"
        for group in (Program, Files, Net, Limits, Rights, Life)
        for name in group.__dataclass_fields__
    }
    assert named - {"COMMAND"} == given - unchecked


def test_spellings_are_those_of_manifests():
    found = spec(
        program=Program(user="01:02", group_add=["7", "7"]),
        files=Files(device=["/dev/fuse:mwr"]),
        limits=Limits(cpuset_cpus="1,0"),
        rights=Rights(cap_drop=["all", "ALL"]),
        life=Life(stop_signal="sigint"),
    )
    assert (found.user, found.groups, found.resources.cpuset) == ("1:2", ("7",), "0-1")
    assert found.devices == (specs.Device("/dev/fuse", "/dev/fuse", "rwm"),)
    assert (found.capabilities.drop, found.stop_signal) == (("ALL",), "SIGINT")
    assert spec(life=Life(stop_signal="15")).stop_signal == "SIGTERM"


def test_the_least_memory_is_that_of_manifests():
    schema = schemas.load("container-spec")["$defs"]["resources"]["properties"]["memory"]
    assert spec(limits=Limits(memory=str(schema["minimum"]))).resources.memory == 1 << 20
    with pytest.raises(UsageError, match="at least 1Mi"):
        spec(limits=Limits(memory=str(schema["minimum"] - 1)))


def test_the_rest():
    found = spec(
        program=Program(entrypoint="", group_add=["7"], label=["a"]),
        net=Net(add_host=["printer:10.0.0.1"], dns=["9.9.9.9"], hostname="me"),
        limits=Limits(memory="64m", memory_swap="96m", pids_limit=-1, ulimit=["nofile=1:2"]),
        rights=Rights(
            cap_add=["cap_net_raw"],
            cap_drop=["all"],
            sysctl=["net.a=1"],
            security_opt=["seccomp=unconfined", "no-new-privileges:false"],
        ),
        life=Life(
            restart="on-failure:3",
            stop_timeout="5",
            health_cmd="true",
            health_interval="2s",
            log_opt=["max-size=1m", "max-file=2"],
        ),
    )
    assert (found.entrypoint, found.groups, found.hostname) == ((), ("7",), "me")
    assert found.extra_hosts == {"printer": "10.0.0.1"}
    assert found.dns == specs.Dns(servers=("9.9.9.9",))
    assert found.resources.memory_swap == 32 << 20
    assert found.resources.pids is None
    assert found.ulimits == {"nofile": specs.Ulimit(1, 2)}
    assert found.capabilities == specs.Capabilities(("NET_RAW",), ("ALL",))
    assert (found.seccomp, found.no_new_privileges) == ("unconfined", False)
    assert found.restart == specs.Restart(policy="on-failure", max_retries=3)
    assert found.stop_grace == 5
    assert found.health is not None
    assert found.health.exec == specs.ExecProbe(("sh", "-c", "true"))
    assert (found.health.interval, found.health.on_unhealthy) == (2, "none")
    assert found.logs == specs.Logs(max_size=1 << 20, max_files=2)


@pytest.mark.parametrize(
    "groups",
    [
        {"net": Net(network="bridged")},
        {"net": Net(network="host", publish=["1:1"])},
        {"net": Net(add_host=["printer"])},
        {"limits": Limits(cpus=0.0)},
        {"limits": Limits(memory="64m", memory_swap="32m")},
        {"limits": Limits(memory="1k")},
        {"life": Life(health_interval="2s")},
        {"life": Life(log_opt=["max-lines=2"])},
        {"rights": Rights(security_opt=["apparmor=x"])},
        {"program": Program(workdir="here")},
        {"program": Program(env=["=x"])},
        {"program": Program(env_file=["/no/such/file"])},
    ],
)
def test_options_that_make_no_sense(groups):
    with pytest.raises(UsageError):
        spec(**groups)
