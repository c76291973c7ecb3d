"""Whether this version can go on with the containers of another: asked of the one to come.

The supervisor that is to be replaced runs this in a process of the new version, on a copy of what
it keeps (see upgrade). It says in one line what is in the way, and exits with 1; or with 0.
"""

import json
import os
import sys
from typing import Any

# What will run must load here first.
from runtime.errors import ContainerError
from runtime.kernel.program import Program
from runtime.supervisor import dns, keeper, probe_worker, request, status
from runtime.supervisor import main as supervisor_main
from runtime.supervisor.interpreter import OPERATIONS
from runtime.supervisor.names import STATE_FD
from runtime.supervisor.request import LaunchRequest
from runtime.version import STATE_VERSION, VERSION

_LOADED = (dns, keeper, probe_worker, supervisor_main)


def check(state: dict[str, Any]) -> None:
    """Return if the containers of *state* can be gone on with.

    Raises:
        ContainerError: they cannot; in words.
    """
    if state["version"] > STATE_VERSION:
        raise ContainerError(
            f"the state is of version {state['version']}, {VERSION} knows up to {STATE_VERSION}"
        )
    for name, kept in state["containers"].items():
        try:
            status.decode(kept["status"])
            wanted = request.decode(LaunchRequest, kept["request"])
            programs = [wanted.program]
            if wanted.health is not None and wanted.health.program is not None:
                programs.append(wanted.health.program)
            for program in map(Program.from_json, programs):
                for operation, *_ in program.operations:
                    if operation not in OPERATIONS:
                        raise ContainerError(f"there is no operation {operation}")
        except (KeyError, TypeError, AttributeError, ValueError, ContainerError) as error:
            raise ContainerError(f"{name}: {type(error).__name__}: {error}") from error


def main(arguments: list[str]) -> None:
    """Check the state that is open as STATE_FD."""
    with open(STATE_FD, "rb") as file:
        file.seek(0)
        state = json.load(file)
    try:
        check(state)
    except ContainerError as error:
        print(error, flush=True)
        sys.exit(1)
    os._exit(0)
