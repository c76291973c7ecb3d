"""Hooks that run outside the container."""

import json
import os
from collections.abc import Sequence
from typing import Any

from runtime.spec import Hook
from runtime.supervisor.child import environment
from runtime.supervisor.hook import run_hook


def run_all(hooks: Sequence[Hook], state: dict[str, Any]) -> None:
    """Run *hooks* in order, each told the container's *state*.

    Raises:
        LaunchError: one failed; those after it are not run.
    """
    data = json.dumps(state).encode()
    for hook in hooks:
        env = dict(os.environ) if hook.env is None else environment(hook.env)
        run_hook(hook.path, hook.args, env, data, timeout_s=hook.timeout)
