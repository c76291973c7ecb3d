"""What the manifests imply without saying it: the default network, secrets of the environment."""

import dataclasses
import hashlib
from collections.abc import Iterable

from provider.manifest.draft import CONTAINER_KINDS, Catalog, Draft
from provider.manifest.gap import GapError
from provider.manifest.normalise import canonical_spec
from provider.model.ids import Kind, ResourceId
from provider.model.secret import SecretValue
from provider.model.tree import Tree, join

DEFAULT_NETWORK = "default"
_LABEL_LENGTH = 63
_LIFECYCLE: Tree = {"preventDestroy": False, "prune": True, "ignore": []}


def join_default_network(drafts: Iterable[Draft], known: Catalog) -> list[Draft]:
    """Return *drafts* with every container in a network, and that network if it is not defined.

    A container in bridge mode that names no networks joins the project's ``default``; afterwards
    the spec says so, and is equal to one that was written so. Whoever names it needs it too.
    """
    result: list[Draft] = []
    needed = False
    for draft in drafts:
        container = draft.container
        try:
            needed |= _names_default(draft, known.project)
            joins = container is not None and _joins_default(container)
        except GapError:
            joins, needed = False, True  # Perhaps it does.
        if container is not None and joins:
            joined: list[Tree] = [
                {"name": DEFAULT_NETWORK, "project": None, "aliases": [], "ip": None}
            ]
            draft = _with_container(draft, container | {"networks": joined})
            needed = True
        result.append(draft)
    if needed and not known.may_exist(Kind.NETWORK, DEFAULT_NETWORK):
        result.append(_implied(known.project, Kind.NETWORK, DEFAULT_NETWORK))
    return result


def _names_default(draft: Draft, project: str) -> bool:
    joined = draft.container["networks"] if draft.container is not None else ()
    return any(
        use["name"] == DEFAULT_NETWORK and use["project"] in (None, project) for use in joined
    ) or any(
        (entry["kind"], entry["name"]) == (Kind.NETWORK, DEFAULT_NETWORK)
        for entry in draft.depends_on
    )


def _joins_default(container: Tree) -> bool:
    return container["networkMode"] == "bridge" and not container["networks"]


def lift_secret_variables(drafts: Iterable[Draft]) -> list[Draft]:
    """Return *drafts* with values from --secret-values moved out of env into Secrets.

    ``env: {PASSWORD: "{{ password }}"}`` becomes a reference to a Secret that only this resource
    uses, so that the value is kept like every other secret.
    """
    result: list[Draft] = []
    for draft in drafts:
        if draft.container is None or not draft.complete:
            result.append(draft)
            continue
        names = [
            name
            for name, variable in draft.container["env"].items()
            if isinstance(variable["value"], SecretValue)
        ]
        if not names:
            result.append(draft)
            continue
        env = dict(draft.container["env"])
        secret = _implied(draft.id.project, Kind.SECRET, _secret_name(draft.id))
        items: Tree = {}
        places = {}
        for name in names:
            items[name] = {"text": env[name]["value"]}
            env[name] = {"value": None, "secret": secret.id.name, "config": None, "key": name}
            origin = draft.provenance.get(join("container.env", name))
            if origin is not None:
                places[join("data", name)] = origin
        spec = canonical_spec(Kind.SECRET, {"data": items, "allowPlaintext": True})
        result.append(_with_container(draft, draft.container | {"env": env}))
        result.append(dataclasses.replace(secret, spec=spec, provenance=places))
    return result


def _secret_name(owner: ResourceId) -> str:
    name = f"{owner.kind.lower()}-{owner.name}-env"
    if len(name) <= _LABEL_LENGTH:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name[: _LABEL_LENGTH - 13]}-{digest}"


def _with_container(draft: Draft, container: Tree) -> Draft:
    assert draft.id.kind in CONTAINER_KINDS
    return dataclasses.replace(draft, spec=draft.spec | {"container": container})


def _implied(project: str, kind: Kind, name: str) -> Draft:
    spec = canonical_spec(kind, {"data": {}} if kind is Kind.SECRET else {})
    return Draft(
        id=ResourceId(project, kind, name),
        spec=spec,
        labels={},
        annotations={},
        former_name="",
        depends_on=(),
        hosts=None,
        lifecycle=_LIFECYCLE,
        origin=None,
        folder="",
        provenance={},
    )
