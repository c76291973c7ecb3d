"""The process in which a supervisor has containers removed; see runtime.supervisor.remover."""

import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.container.containers import Containers
from runtime.container.recovery import sweep_images
from runtime.errors import ContainerError
from runtime.root import Root


def main(arguments: Sequence[str]) -> None:
    """Remove what is named after state folder, run folder and cgroup of its world.

    One that cannot be removed is the next ``run``'s; why is in the supervisor's log.
    """
    state, run, cgroup, *names = arguments
    containers = Containers(Root(Path(state), Path(run), cgroup.partition("-")[2]))
    for name in names:
        try:
            containers.remove(name, force=True)
        except (ContainerError, OSError) as error:
            print(f"cannot remove {name}: {error}", file=sys.stderr)
    sweep_images(containers.root)
