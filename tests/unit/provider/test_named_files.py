"""Files that somebody names and that never end: told, with their place, and not waited for."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyrage
import pytest

from provider.cli.environment import environment
from provider.errors import ManifestError, UsageError
from provider.manifest import reading
from provider.manifest.load import load
from tests.support.documents import API, HEADER, IMAGE, write

NOT_A_FILE = "not a regular file"


def about(kind: str, spec: str) -> str:
    return f"---\napiVersion: {API}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n"


def problems(*files: Any, **options: Any) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        load(files, **options)
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A pipe that nobody writes to."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.fixture
def little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PIPE_TIMEOUT_S", 0.05)


@pytest.mark.parametrize(
    "spec",
    [
        "{data: {a: {file: pipe}}}",
        "{data: {a: {encrypted: pipe}}, identity: key}",
        "{data: {a: {encrypted: sealed}}, identity: pipe}",
    ],
)
def test_of_a_secret(tmp_path: Path, pipe: Path, spec: str) -> None:
    key = str(pyrage.x25519.Identity.generate())
    write(tmp_path, {"a.yaml": HEADER + about("Secret", spec), "sealed": "x", "key": key})
    assert problems(tmp_path / "a.yaml", env={}, hmac_key=b"k") == [
        f"{tmp_path}/a.yaml:8:15: spec.data.a: cannot read {pipe}: {NOT_A_FILE}"
    ]


def test_of_a_config_that_was_read_before(tmp_path: Path) -> None:
    write(tmp_path, {"a.yaml": HEADER + about("Config", "{data: {a: {file: b}}}"), "b": "x"})
    assert load([tmp_path / "a.yaml"], cache_dir=tmp_path / "cache")
    (tmp_path / "b").unlink()
    os.mkfifo(tmp_path / "b")
    (said,) = problems(tmp_path / "a.yaml", cache_dir=tmp_path / "cache")
    assert said.endswith(f"spec.data.a: cannot read {tmp_path}/b: {NOT_A_FILE}")


def test_in_a_folder_of_manifests(tmp_path: Path) -> None:
    write(tmp_path, {"a.yaml": HEADER + "---\n" + IMAGE})
    os.mkfifo(tmp_path / "b.yaml")
    assert problems(tmp_path) == [f"{tmp_path}/b.yaml: cannot read the file: {NOT_A_FILE}"]


def test_that_a_template_includes(tmp_path: Path, pipe: Path) -> None:
    write(tmp_path, {"a.yaml.j2": HEADER + "{% include 'pipe' %}\n"})
    assert f"cannot read {pipe}: {NOT_A_FILE}" in problems(tmp_path / "a.yaml.j2")[0]


@pytest.mark.parametrize("option", ["file", "values", "secret_values", "overlays"])
@pytest.mark.usefixtures("little_time")
def test_on_the_command_line(tmp_path: Path, pipe: Path, option: str) -> None:
    write(tmp_path, {"a.yaml": HEADER + "---\n" + IMAGE})
    files = [tmp_path / "a.yaml"] + [pipe] * (option == "file")
    said = problems(*files, **({} if option == "file" else {option: [pipe]}))
    assert f"{pipe}: cannot read the file: nothing came through this pipe for 0.05 s" in said


@pytest.mark.usefixtures("little_time")
def test_of_variables(pipe: Path) -> None:
    with pytest.raises(UsageError, match=r"pipe: .*nothing came through this pipe for 0\.05 s"):
        environment([], [str(pipe)])


@pytest.fixture
def substituted() -> Iterator[Any]:
    """What a shell makes of ``<(command)``."""
    started = []

    def start(script: str) -> str:
        child = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
        started.append(child)
        assert child.stdout is not None
        return f"/dev/fd/{child.stdout.fileno()}"

    yield start
    for child in started:
        with child:
            pass


def test_what_comes_out_of_a_command_is_awaited(tmp_path: Path, substituted: Any) -> None:
    write(tmp_path, {"a.yaml.j2": HEADER + about("Config", "{data: {a: '{{ b }}{{ c }}'}}")})
    found = load(
        [tmp_path / "a.yaml.j2"],
        values=[
            substituted("echo 'b: 1'; exec >&-; sleep 0.01"),
            substituted("sleep 0.1; printf 'c'; sleep 0.1; echo ': 2'"),
            substituted(":"),
        ],
    )
    assert found.resources[0].spec["data"] == {"a": "12"}
    assert environment([], [substituted("echo A=1")]) == {"A": "1"}


def test_a_pipe_with_a_name_is_awaited(pipe: Path) -> None:
    writer = threading.Thread(target=lambda: pipe.write_text("A=1\n"))
    writer.start()
    assert environment([], [str(pipe)]) == {"A": "1"}
    writer.join()


def test_an_empty_device_is_an_empty_file() -> None:
    assert environment([], [os.devnull]) == {}


def test_a_folder_is_no_list_of_variables(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Is a directory"):
        environment([], [str(tmp_path)])
