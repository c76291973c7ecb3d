"""What the kernel or the runtime would refuse is refused as input, with the reason."""

from pathlib import Path

import pytest

from provider.errors import ManifestError
from provider.manifest.load import load
from tests.support.documents import API, HEADER, IMAGE, shop, write

LONG = "x" * 140_000


def refused(folder: Path, kind: str, spec: str) -> list[str]:
    text = f"apiVersion: {API}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n"
    try:
        shop(folder, text)
    except ManifestError as error:
        return [str(p).partition(": ")[2] for p in error.problems]
    return []


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("stopSignal: SIGTREM", "did you mean `TERM`?"),
        ("stopSignal: RTMIN+99", "`RTMIN+99` is not allowed; expected a signal"),
        ("stopSignal: TERM+3", "`TERM+3` is not allowed"),
        ('stopSignal: "15"', "leave out the quotes"),
        ("stopSignal: 33", "signal 33 is the C library's own"),
        ("sysctls: {vm.swappiness: 1}", "it would change the host; expected a parameter below net"),
        ("sysctls: {kernel.hostname: a}", "write `hostname`"),
        ("sysctls: {net/../vm/x: 1}", "it would change the host"),
        ("sysctls: {net.core.somaxconn: ''}", "expected a number or text in one line"),
        ("sysctls: {kernel.sem: 1, kernel/sem: 2}", "the same parameter as kernel.sem"),
        ("networkMode: host, sysctls: {net/core/x: 1}", "networkMode host would change"),
        ("resources: {memory: 1}", "`1` is too small; expected at least 1Mi"),
        ("resources: {memory: -1}", "`-1` is too small; expected at least 1Mi"),
        ("resources: {memory: 100Ki}", "`100Ki` is too small; expected at least 1Mi"),
        ("resources: {memory: 1000Ti}", ""),
        ("resources: {memory: 9999Pi}", "`9999Pi` is too large; expected at most 8Pi"),
        ("resources: {pids: 4194305}", "expected at most 4194304"),
        ("resources: {cpus: 99999}", "expected at most 8192 cores"),
        ("resources: {cpus: '0.001'}", "`0.001` is too small; expected at least 0.01 cores"),
        ("resources: {cpuset: '0,3-1'}", "3-1 goes backwards; expected 1-3"),
        ("resources: {cpuset: '0-9000'}", "there is no processor 9000"),
        (f"resources: {{cpuset: '{LONG}'}}".replace("x", "9"), "expected a list of processors"),
        (f"resources: {{memory: '{LONG}'}}".replace("x", "9"), "expected at most 8Pi"),
        (f"stopGrace: {LONG}s".replace("x", "9"), "expected at most 14d"),
        (f"user: '{LONG}'".replace("x", "9"), "expected an id of 4294967294 or less"),
        ("resources: {io: {devices: [{path: /dev/sda, readBps: 0}]}}", "expected at least 1"),
        ("shmSize: 0", "expected at least 4Ki"),
        ("logs: {maxSize: 1}", "expected at least 4Ki"),
        ("stopGrace: 15d", "`15d` is too large; expected at most 14d"),
        ("health: {tcp: {port: 80}, interval: 0s}", "`0s` is too small; expected at least 100ms"),
        ("health: {tcp: {port: 80}, timeout: 0}", "`0` is too small; expected at least 10ms"),
        ("health: {exec: {command: ['']}}", "expected the name or path of a program"),
        ("entrypoint: [\"\"]", "expected the name or path of a program"),
        ("entrypoint: [a, \"\"]", ""),
        ("restart: {backoff: 2m}", "a first wait of 2m is above maxBackoff; expected at most 1m"),
        ("user: '4294967295'", "expected an id of 4294967294 or less"),
        ("groups: ['99999999999']", "expected an id of 4294967294 or less"),
        (f"env: {{A: {LONG}}}", "longer than 128 KiB"),
        (f"command: [{LONG}]", "longer than 131071 characters"),
        ("hostname: a..b", "expected a DNS name"),
        ("workdir: /../x", "expected an absolute path without `..`"),
        ("workdir: /x/..", "expected an absolute path without `..`"),
        ("workdir: /x..y/..z", ""),
        ("workdir: /", ""),
        ("capabilities: {add: [CHOWN], drop: [CHOWN]}", "CHOWN is added and dropped"),
        ("capabilities: {add: [ALL], drop: [ALL]}", ""),
        ("volumes: [{bind: /a, target: /x/../y}]", "without `..`"),
        ("volumes: [{bind: /a, target: /..}]", "without `..`"),
        ("volumes: [{bind: /a, target: /a..b/..c}]", ""),
        ('volumes: [{bind: /a, target: "/x\\ny"}]', "`/x\\ny` is not allowed"),
        ("volumes: [{bind: /a, target: /proc/}]", "nothing can be mounted over all of it"),
        ("volumes: [{bind: /a, target: /sys}]", "nothing can be mounted over all of it"),
        ("volumes: [{tmpfs: {size: 0}, target: /x}]", "expected at least 4Ki"),
        ("devices: [/dev/fuse], volumes: [{bind: /a, target: /dev/fuse}]", "is a mount already"),
        ("devices: [{path: /dev/fuse, target: /proc/x}]", "no device can be made at /proc/x"),
        ("devices: [{path: /dev/fuse, target: /dev/../x}]", "without `..`"),
    ],
)  # fmt: skip
def test_of_a_container(tmp_path: Path, field: str, said: str) -> None:
    found = refused(tmp_path, "Container", f"{{container: {{image: app, {field}}}}}")
    assert len(found) == bool(said), found
    assert said in "".join(found)
    assert "\n" not in "".join(found)


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        ("Network", "{subnet: 10.0.0.0/7}", "expected a prefix of /8 or longer"),
        ("Network", "{subnet: 240.0.0.0/24}", "cannot be used for containers"),
        ("Network", "{subnet: 0.0.0.0/8}", "cannot be used for containers"),
        ("Job", "{container: {image: app}, timeout: 0s}", "`0s` is too small; expected more than"),
        ("Job", "{container: {image: app}, undo: ['']}", "expected the name or path of a program"),
        ("Image", "{host: {programs: [/a]}, config: {stopSignal: FOO}}", "expected a signal"),
        ("Image", "{host: {programs: [/a]}, config: {workdir: /../x}}", "without `..`"),
        ("Image", "{host: {programs: []}}", "nothing is taken; expected programs or files"),
        ("Image", "{host: {files: [/etc/motd]}}", ""),
        ("Config", "{data: {a: {file: /dev/zero}}}", "cannot read /dev/zero: not a regular file"),
        *(
            ("Container", f"{{container: {{image: app}}, {field}}}", said)
            for field, said in (
                ("publish: [{port: 80, ip: 224.0.0.1}]", "no host can have the address 224.0.0.1"),
                ("publish: [{port: 80, ip: 127.0.0.1}]", ""),
                ("publish: [80]", ""),
                ("dependsOn: [image/app]", "did you mean `Image/app`?"),
                ("dependsOn: [{kind: Image, name: app, timeout: 0}]", "expected more than 0s"),
            )
        ),
    ],
)
def test_of_other_kinds(tmp_path: Path, kind: str, spec: str, said: str) -> None:
    found = refused(tmp_path, kind, spec)
    assert len(found) == bool(said), found
    assert said in "".join(found)


def test_of_a_container_without_a_command(tmp_path: Path) -> None:
    about = f"apiVersion: {API}\nkind: %s\nmetadata: {{name: x}}\nspec: %s"
    debian = about % ("Image", "{debian: {packages: [redis-server]}%s}")
    web = about % ("Container", "{container: {image: x%s}}")
    with pytest.raises(ManifestError, match=r"no command to run, nor in Image/x \(.*:10:1\)"):
        shop(tmp_path, debian % "", web % "")
    assert shop(tmp_path, debian % ", config: {command: [redis-server]}", web % "")
    assert shop(tmp_path, debian % "", web % ", command: [redis-server]")


def test_a_signal_has_one_spelling(tmp_path: Path) -> None:
    text = f"apiVersion: {API}\nkind: Container\nmetadata: {{name: x}}\n"
    for written, canonical in {"RTMAX-2": "SIGRTMIN+28", "CLD": "SIGCHLD", "15": "SIGTERM"}.items():
        found = shop(tmp_path, f"{text}spec: {{container: {{image: app, stopSignal: {written}}}}}")
        assert found.resources[-1].spec["container"]["stopSignal"] == canonical


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{% set x = replica %}\na: {{ x }}", "a.yaml.j2:4:12: `replica` is undefined; did you"),
        ("a: {{ name\n  ~ nmae }}", "a.yaml.j2:5:5: `nmae` is undefined; did you mean `name`?"),
        ("{% include 'b.j2' %}", "b.j2:2:4: `nmae` is undefined; did you mean `name`?"),
        ("{% for service in [1] %}{{ servce }}{% endfor %}", "did you mean `service`?"),
        ("{{ image.tgs }}", "`image.tgs` is undefined; did you mean `tag`?"),
        ("{{ image['zone'] }}", "`image['zone']` is undefined; it has: tag"),
        ("{{ [name][5] }}", "is undefined"),
        ("{{ name | defalt(1) }}", "no filter named 'defalt'; did you mean `default`?"),
        ("{{ name | replace }}", "`replace` missing 2 required positional arguments"),
    ],
)
def test_of_a_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    values = "replicas: 3\nname: web\nimage: {tag: x}\n"
    write(tmp_path, {"a.yaml.j2": HEADER + text, "b.j2": "#\n{{ nmae }}", "values": values})
    with pytest.raises(ManifestError) as caught:
        load(["a.yaml.j2"], values=["values"])
    (problem,) = caught.value.problems
    assert said in str(problem)


def test_each_item_of_a_loop_is_told_of(tmp_path: Path) -> None:
    text = f"{{% for i in [1, 2] %}}\n---\n{IMAGE}  flavour: x\n{{% endfor %}}"
    write(tmp_path, {"a.yaml.j2": HEADER + text.replace("name: app", "name: app-{{ i }}")})
    with pytest.raises(ManifestError) as caught:
        load([tmp_path])
    assert [p.origin.note for p in caught.value.problems if p.origin] == [
        "loop item 1",
        "loop item 2",
    ]


def test_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    over = f"apiVersion: {API}\nkind: %s\nmetadata: {{name: %s}}\n"
    write(
        tmp_path,
        {
            "a.yaml": HEADER + "---\n" + IMAGE,
            "over/a.yaml": over % ("Image", "ap") + "---\n" + over % ("Imge", "app"),
            "over/b.yaml": over % ("Network", "app"),
            "values": "- a",
        },
    )
    with pytest.raises(ManifestError) as caught:
        load(
            ["a.yaml"],
            overlays=["over"],
            sets=["a=1", "a=2", "b.c=1", "b=2", "=1", "x..y=1"],
            values=["values", "over", "gone"],
        )
    assert [str(problem) for problem in caught.value.problems] == [
        "over/a.yaml:3:12 (overlay over): metadata.name: the manifests define no Image/ap to lay "
        "this over; did you mean `Image/app`?",
        "over/a.yaml:6:1 (overlay over): kind: kind Imge is unknown; did you mean `Image`?",
        "over/b.yaml:3:12 (overlay over): metadata.name: the manifests define no Network/app to "
        "lay this over; did you mean `Image/app`?",
        "--set =1: not an assignment; expected NAME=VALUE, with a name such as web.port",
        "--set a: given twice: a=1, then a=2; keep one of them",
        "--set b: given twice: b.c=1, then b=2; keep one of them",
        "--set x..y=1: not an assignment; expected NAME=VALUE, with a name such as web.port",
        "gone: no such file or folder",
        "over: cannot read the file: Is a directory",
        "values:1:1: a values file must hold a mapping",
    ]


def test_a_link_in_circles_is_no_folder(tmp_path: Path) -> None:
    write(tmp_path, {"a.yaml": HEADER})
    (tmp_path / "loop").symlink_to("loop")
    assert load([tmp_path]).project == "shop"
