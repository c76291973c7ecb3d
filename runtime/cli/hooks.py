"""Hooks that run outside the container."""

from __future__ import annotations

import os
from collections.abc import Sequence

from runtime import json_text
from runtime.cli.context import Context
from runtime.cli.folder import Folder, Status, state_of
from runtime.errors import LaunchError
from runtime.kernel.readable import Wait
from runtime.spec import Hook, Spec
from runtime.supervisor.child import environment
from runtime.supervisor.hook import run_hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run_all(
    hooks: Sequence[Hook], state: dict[str, Any], wait: Wait, folder: Folder | None = None
) -> None:
    """Run *hooks* in order, each told the container's *state*.

    With the *folder* of the container, which is locked meanwhile, each can be found there by
    `delete --force`.

    Raises:
        LaunchError: one failed, or *wait* gave it up; those after it are not run.
        StateError: the container is being deleted.
    """
    data = json_text.dumps(state).encode()
    began = None if folder is None else folder.write_hook
    for hook in hooks:
        env = dict(os.environ) if hook.env is None else environment(hook.env)
        run_hook(hook.path, hook.args, env, data, timeout_s=hook.timeout, began=began, wait=wait)


def run_poststop(context: Context, spec: Spec, status: Status) -> None:
    """Run the poststop hooks of a container that is gone; what fails is only warned of."""
    for hook in spec.hooks.poststop:
        try:
            run_all((hook,), state_of(status, "stopped"), context.wait)
        except LaunchError as error:
            context.report.warning(f"poststop {error}")
