"""Finding the program to start, and the words for why it cannot be."""

import errno
import os

import pytest

from runtime.errors import LaunchError
from runtime.supervisor.executable import execution_error, find_program, foreign_machine


@pytest.fixture
def folders(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    return str(tmp_path / "a"), str(tmp_path / "b")


def make(folder, name, content=b"#!/bin/sh\n", mode=0o755):
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, mode)
    return path


def test_the_first_that_can_run_is_taken(folders):
    make(folders[0], "tool", mode=0o644)
    expected = make(folders[1], "tool")
    assert find_program("tool", folders) == expected


def test_a_path_is_not_searched(folders):
    path = make(folders[0], "tool")
    assert find_program(path, ()) == path


def test_what_was_found_but_cannot_run_is_told_rather_than_not_found(folders):
    make(folders[0], "tool", mode=0o644)
    with pytest.raises(LaunchError, match="permission denied") as caught:
        find_program("tool", folders)
    assert caught.value.exit_code == 126


def test_not_found(folders):
    with pytest.raises(LaunchError, match="tool: not found in the container's PATH") as caught:
        find_program("tool", folders)
    assert caught.value.exit_code == 127


@pytest.mark.parametrize("line", [b"#!/no/such -x\n", b"#! /no/such\n", b"#!/no/such"])
def test_a_missing_script_interpreter(folders, line):
    make(folders[0], "tool", line)
    with pytest.raises(LaunchError, match="needs the script interpreter /no/such") as caught:
        find_program("tool", folders)
    assert caught.value.exit_code == 127


ELF = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + b"\2\0\x3e\0"  # the head of one for x86_64


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"#!", b"#!\n", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 90),
        *(ELF[:6], ELF[:18], ELF, ELF.ljust(40, b"\0"), ELF.ljust(63, b"\0")),
    ],
)
def test_odd_files_are_left_to_the_kernel(folders, content):
    path = make(folders[0], "tool", content)
    assert find_program(path, ()) == path


def test_programs_for_other_machines(folders):
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\2\0"
    assert foreign_machine(make(folders[0], "x", head + b"\xf3\0")) == "riscv64"
    assert foreign_machine(make(folders[0], "y", head + b"\xee\xee")) == "ELF machine 61166"
    assert foreign_machine(make(folders[0], "z")) is None
    error = execution_error("/x", errno.ENOEXEC, machine="riscv64")
    assert str(error) == f"/x is a program for riscv64, this machine is {os.uname().machine}"


@pytest.mark.parametrize(("code", "exit_code"), [(errno.ENOENT, 127), (errno.EACCES, 126)])
def test_exit_codes_are_a_shells(code, exit_code):
    error = execution_error("/x", code)
    assert error.exit_code == exit_code
    assert f"[{errno.errorcode[code]}]" in str(error)
