"""The process in which a supervisor has containers removed; see runtime.supervisor.errand."""

import sys
from collections.abc import Sequence

from runtime.container.containers import Containers
from runtime.container.recovery import sweep_images
from runtime.errors import ContainerError
from runtime.root import world_of


def main(arguments: Sequence[str]) -> None:
    """Remove what is named after state folder, run folder and cgroup of its world."""
    containers, failed = Containers(world_of(*arguments[:3])), False
    for name in arguments[3:]:
        try:
            containers.remove(name, force=True)
        except (ContainerError, OSError) as error:
            print(f"cannot remove {name}: {error}", file=sys.stderr)
            failed = True
    sweep_images(containers.root)
    sys.exit(failed)
