"""What people do with podman, with ``--runtime``."""

import json
from pathlib import Path

from tests.conformance import docker_like
from tests.conformance.checks import Engine, run_checks
from tests.conformance.outcome import Outcomes
from tests.conformance.podman import IMAGE, environment, make_image

NAME = "podman --runtime"
PEER = "crun"
FEWEST = 20

_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "pod"},
    "spec": {
        "restartPolicy": "Never",
        "containers": [
            {
                "name": name,
                "image": IMAGE,
                "command": ["sh", "-c", f"echo {name}; sleep 1000"],
                "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
                "securityContext": {"runAsUser": 7, "capabilities": {"drop": ["all"]}},
            }
            for name in ("one", "two")
        ],
    },
}


def fetch() -> None:
    """Have nothing: podman is installed."""


def outcomes(runtime: str, scratch: Path) -> Outcomes:
    """Run all cases."""
    env = environment(runtime, scratch)
    make_image(env, scratch)
    engine = Engine(["podman", "--runtime", runtime], env, scratch)
    return run_checks(engine, (*docker_like.CASES, play_kube))


def play_kube(engine: Engine) -> None:
    engine.call("play", "kube", "-", given=json.dumps(_POD))
    engine.becomes("one", "logs", "pod-one")
    engine.says("7 two", "exec", "pod-two", "sh", "-c", "echo $(id -u) two")
    engine.call("play", "kube", "--down", "-", given=json.dumps(_POD))
    engine.says("", "ps", "-aq")
