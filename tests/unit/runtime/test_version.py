"""What another version of the supervisor may have left, and how versions compare."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import ContainerError
from runtime.supervisor import request, status
from runtime.supervisor.check_state import check
from runtime.supervisor.request import LaunchRequest, Logs
from runtime.supervisor.status import Status
from runtime.version import STATE_VERSION, VERSION, is_older


def state(version: int = STATE_VERSION, **operations: Any) -> dict[str, Any]:
    program = {"namespaces": 0, "operations": [["exec", ["a"], []]], "cgroup": None, **operations}
    wanted = request.encode(LaunchRequest(id="a", program=program, logs=Logs(path="/log")))
    kept = {"status": status.encode(Status(id="a", state="running")), "request": wanted}
    return {"version": version, "containers": {"a": kept}}


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION


def test_versions_compare_by_their_numbers() -> None:
    major, minor, patch = map(int, VERSION.split("."))
    assert not is_older(VERSION)
    assert is_older("")
    assert is_older("0.0.9")
    assert not is_older(f"{major}.{minor + 10}.{patch}")


def test_state_of_a_version_before_or_after_is_gone_on_with_where_it_can_be() -> None:
    before = state(STATE_VERSION - 1)
    kept = before["containers"]["a"]
    for member in ("balanced", "oomFiles", "cgroupProcs", "token", "stop"):
        del kept["request"][member]
    for member in ("spared", "kept", "ending", "resting", "oomCount"):
        kept["status"].pop(member, None)
    check(before)
    after = state()
    after["containers"]["a"]["request"]["since"] = {"the": "future"}
    after["containers"]["a"]["status"]["since"] = 1
    check(after)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (state(STATE_VERSION + 1), "the state is of version"),
        (state(operations=[["dance", 1]]), "a: ContainerError: there is no operation dance"),
        ({**state(), "containers": {"a": {"status": {}, "request": {}}}}, "a: TypeError"),
        ({**state(), "containers": {"a": {"status": {"id": "a"}}}}, "a: KeyError: 'request'"),
    ],
)
def test_state_that_cannot_be_gone_on_with_is_told(found: dict[str, Any], told: str) -> None:
    with pytest.raises(ContainerError, match=told):
        check(found)
