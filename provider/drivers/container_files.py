"""Configs and secrets of one container, written where it will find them.

Configs lie in the container's own folder; secrets, and configs that secret values were rendered
into, on the tmpfs for secrets. Each use is a copy with the owner and mode it asks for.
"""

from collections.abc import Mapping
from pathlib import Path

from provider.engine.ports import Context
from provider.errors import ApplyError
from provider.model.tree import Tree
from runtime.container import secretfs
from runtime.container.files import write_file, write_files
from runtime.container.folders import state_folder
from runtime.network.hostlock import host_lock
from runtime.root import Root
from runtime.spec import Mount

ENVIRONMENT = "environment"
"""File on the tmpfs with the variables that hold secrets: ``NAME=VALUE``, NUL-separated."""


def write_container_files(
    root: Root, container_id: str, container: Tree, context: Context
) -> tuple[Mount, ...]:
    """Write all configs and secrets of a container anew; return how they are mounted.

    Raises:
        ApplyError: the content of one is not at hand.
    """
    env = [(name, value) for name, value in container["env"].items() if isinstance(value, dict)]
    hidden = any(context.is_secret(use["name"]) for use in container["configs"])
    plain = state_folder(root, container_id) / "configs"
    secret = secretfs.folder(root, container_id)
    if container["secrets"] or env or hidden:
        with host_lock(root, f"secrets of container {container_id}"):
            secretfs.make_folder(root, container_id)
    mounts = []
    for number, use in enumerate(container["configs"]):
        top = secret if context.is_secret(use["name"]) else plain
        mounts.append(_write(top / f"config-{number}", use, context.config(use["name"])))
    for number, use in enumerate(container["secrets"]):
        values = {key: value.reveal() for key, value in context.secret(use["name"]).items()}
        mounts.append(_write(secret / str(number), use, values))
    if env:
        lines = [
            f"{name}=".encode() + _one(context, value["secret"], value["key"])
            for name, value in env
        ]
        path = secret / ENVIRONMENT
        path.unlink(missing_ok=True)
        write_file(path, b"\0".join(lines), mode=0o600)
    return tuple(mounts)


def environment_file(root: Root, container_id: str) -> Path:
    """Return where the variables that hold secrets are, if there are any."""
    return secretfs.folder(root, container_id) / ENVIRONMENT


def _one(context: Context, secret: str, key: str) -> bytes:
    values = context.secret(secret)
    if key not in values:
        raise ApplyError(f"Secret/{secret} has no key {key}")
    return values[key].reveal()


def _write(folder: Path, use: Tree, content: Mapping[str, bytes]) -> Mount:
    key, mode = use["key"], int(use["mode"], 8)
    if key is not None and key not in content:
        raise ApplyError(f"{use['name']} has no key {key}")
    files = dict(content) if key is None else {key: content[key]}
    write_files(folder, files, uid=use["uid"], gid=use["gid"], mode=mode)
    source = folder if key is None else folder / key
    return Mount(use["target"], "bind", str(source), ("rbind", "rprivate", "ro"))
