"""``spec``: a config.json to begin with."""

import json
import os
from collections.abc import Mapping

from runtime.cgroup.hierarchy import Hierarchy
from runtime.cli.arguments import UsageError, one
from runtime.cli.context import Context
from runtime.container.defaults import (
    default_capabilities,
    default_mounts,
    default_namespaces,
    masked_paths,
    readonly_paths,
)
from runtime.container.devices import device_rules
from runtime.errors import ConflictError
from runtime.json_data import to_json
from runtime.spec import DEFAULT_PATH, Linux, Process, Resources, RootFs, Spec


def spec(context: Context, values: Mapping[str, list[str]], rest: list[str]) -> int:
    """Write a config.json of a shell in a container with the defaults of ours."""
    if rest:
        raise UsageError("spec takes no container id")
    # Where they can be enforced; what cannot is refused.
    rules = device_rules()[:1] if "devices" in Hierarchy.detect().places else ()
    wanted = Spec(
        process=Process(
            ("sh",),
            env=(f"PATH={DEFAULT_PATH}", "TERM=xterm"),
            terminal=True,
            capabilities=default_capabilities(),
        ),
        root=RootFs("rootfs", readonly=True),
        hostname="bayplan",
        mounts=default_mounts(),
        linux=Linux(
            namespaces=default_namespaces(),
            resources=Resources(devices=rules),
            masked_paths=masked_paths(),
            readonly_paths=readonly_paths(),
        ),
    )
    path = os.path.join(one(values, "bundle") or ".", "config.json")
    try:
        with open(path, "x", encoding="utf-8") as file:
            json.dump(to_json(wanted), file, indent=2)
            file.write("\n")
    except FileExistsError:
        raise ConflictError(f"{path} exists already") from None
    return 0
