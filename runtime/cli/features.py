"""``features``: what this runtime can do.

Source: OCI runtime-spec features.md, features-linux.md.
"""

import json
from collections.abc import Mapping

from runtime.cgroup.variant import PREFIX
from runtime.cli.arguments import UsageError
from runtime.cli.bundle import KEEP_GROUPS
from runtime.cli.context import Context
from runtime.json_data import json_key as key
from runtime.kernel.capability import NAMES
from runtime.kernel.namespaces import NAMESPACE_FLAGS
from runtime.kernel.seccomp import ACTIONS, ARCHITECTURES, FLAGS, OPERATORS
from runtime.rootfs.options import WORDS
from runtime.spec import OCI_VERSION, Hooks


def features(context: Context, values: Mapping[str, list[str]], rest: list[str]) -> int:
    """Print it as JSON."""
    if rest:
        raise UsageError("features takes no container id")
    found = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": [key(name) for name in Hooks.__annotations__],
        "mountOptions": sorted(WORDS),
        "linux": {
            "namespaces": sorted(NAMESPACE_FLAGS),
            "capabilities": list(NAMES),
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": True,
                "systemdUser": False,
                "rdma": True,
            },
            "seccomp": {
                "enabled": True,
                "actions": sorted(ACTIONS),
                "operators": list(OPERATORS),
                "archs": sorted(ARCHITECTURES),
                "knownFlags": sorted(FLAGS),
                "supportedFlags": sorted(FLAGS),
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
        },
        "annotations": {"org.opencontainers.runc.checkpoint.enabled": "false"},
        "potentiallyUnsafeConfigAnnotations": [PREFIX, KEEP_GROUPS],
    }
    print(json.dumps(found, indent=2))
    return 0
