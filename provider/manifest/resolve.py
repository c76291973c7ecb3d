"""Secret values into a compiled project: their fingerprints into its trees, the bytes beside it.

The last step of ``load``, and the only one that is done anew when everything else came from the
cache.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from provider.errors import Problem
from provider.manifest.compiled import Compiled, SecretSource
from provider.manifest.fingerprint import desired_fingerprint
from provider.manifest.provenance import place
from provider.manifest.secrets import SecretSourceError, Surroundings, read_secret
from provider.manifest.variable import is_too_long
from provider.model.ids import Kind, ResourceId
from provider.model.resource import Desired, Resource
from provider.model.secret import SecretValue
from provider.model.tree import Tree, join


def resolve(
    compiled: Compiled,
    *,
    hmac_key: bytes | None,
    environment: Mapping[str, str],
    read_values: bool = True,
) -> tuple[Desired, tuple[Problem, ...]]:
    """Return the project with its secrets, and what went wrong in reading them.

    Without *read_values* no source is touched and every fingerprint is ``(unresolved)``; without
    *hmac_key* values are read, but cannot be told apart by the result.
    """
    if not read_values:
        return _with_fingerprint(compiled.desired), ()
    by_id = {resource.id: resource for resource in compiled.desired.resources}
    values = {owner: dict(known) for owner, known in compiled.values.items()}
    problems: list[Problem] = []
    for owner, source in compiled.sources.items():
        known = values.setdefault(owner, {})
        for key, value in _read(source, environment):
            if isinstance(value, SecretValue):
                known[key] = value
            else:
                problems.append(_problem(by_id[owner], join("data", key), str(value)))
    problems += _unfit_variables(compiled.desired, values)
    resources = tuple(
        _fingerprinted(resource, values[resource.id], hmac_key)
        if hmac_key is not None and resource.id in values
        else resource
        for resource in compiled.desired.resources
    )
    desired = dataclasses.replace(compiled.desired, resources=resources, secrets=values)
    return _with_fingerprint(desired), tuple(problems)


def _read(
    source: SecretSource, environment: Mapping[str, str]
) -> Iterator[tuple[str, SecretValue | SecretSourceError]]:
    surroundings = Surroundings(Path(source.folder), environment)
    for key, item in source.items.items():
        try:
            yield key, read_secret(item, surroundings, identity=source.identity)
        except SecretSourceError as error:
            yield key, error


def _fingerprinted(resource: Resource, values: Mapping[str, SecretValue], key: bytes) -> Resource:
    data: Tree = dict(resource.spec["data"])
    for name, value in values.items():
        data[name] = value.fingerprint(key)
    return dataclasses.replace(resource, spec=resource.spec | {"data": data})


def _unfit_variables(
    desired: Desired, values: Mapping[ResourceId, Mapping[str, SecretValue]]
) -> Iterator[Problem]:
    """Yield variables whose secret holds a NUL, which would cut it short."""
    for resource in desired.resources:
        container = resource.spec.get("container", {})
        for name, variable in container.get("env", {}).items():
            secret = ResourceId(desired.project, Kind.SECRET, variable["secret"] or "")
            value = values.get(secret, {}).get(variable["key"])
            if value is None:
                continue
            path = join("container.env", name)
            text = f"{secret} key {variable['key']}"
            if b"\0" in value.reveal():
                yield _problem(resource, path, f"{text} holds a NUL, which no variable can")
            elif is_too_long(name, value.reveal()):
                yield _problem(resource, path, f"{text} is longer than 128 KiB; mount it instead")


def _problem(resource: Resource, path: str, message: str) -> Problem:
    origin = place(resource.provenance, path, resource.origin)
    return Problem(message, origin, f"spec.{path}")


def _with_fingerprint(desired: Desired) -> Desired:
    text = desired_fingerprint(desired.project, desired.resources, prune=desired.prune)
    return dataclasses.replace(desired, fingerprint=text)
