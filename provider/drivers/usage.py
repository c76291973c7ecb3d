"""Who else is built on what is to be deleted: other projects, and containers by hand."""

from collections.abc import Iterable, Mapping, Sequence

from provider.drivers.mark import instance_of
from provider.engine.ledger import project_names
from provider.engine.observe import read_entries
from provider.engine.ports import Finding
from provider.model.ids import InstanceId
from provider.model.plan import Action, Verb
from runtime.container import volume
from runtime.container.config import ContainerConfig, list_configs
from runtime.root import Root


def in_use(root: Root, actions: Sequence[Action]) -> Iterable[Finding]:
    """Yield which deletes would pull something from under others; the own project goes with it.

    Records tell, also of what does not run, and containers that no record tells of.
    """
    deletes = [a for a in actions if a.verb is Verb.DELETE and a.object_id]
    if not deletes:
        return
    needs: dict[InstanceId, tuple[InstanceId, ...]] = {}
    for project in project_names(root.state):
        if project != deletes[0].id.resource.project:
            entries = read_entries(root.state, project)
            needs |= {instance: entry.needs for instance, entry in entries.items()}
    configs = list(list_configs(root, skip_damaged=True))
    for action in deletes:
        users = sorted({*_recorded(action, needs), *_by_containers(root, action, configs, needs)})
        if users:
            yield Finding(f"is still used by {', '.join(users)}", action.id, refusal=True)


def _recorded(action: Action, needs: Mapping[InstanceId, tuple[InstanceId, ...]]) -> Iterable[str]:
    for user, targets in needs.items():
        if action.id in targets:
            yield f"{user} of project {user.resource.project}"


def _by_containers(
    root: Root,
    action: Action,
    configs: Iterable[ContainerConfig],
    recorded: Mapping[InstanceId, tuple[InstanceId, ...]],
) -> Iterable[str]:
    for config in configs:
        owner = instance_of(config.mark)
        if owner and (owner in recorded or owner.resource.project == action.id.resource.project):
            continue
        networks = [join.network for join in config.joins]
        if action.object_id in networks or volume.is_mounted(root, action.object_id, config):
            yield f"container {config.name}"
