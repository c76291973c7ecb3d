"""A container that stands in no manifest (``bayplan run``), by the rules of those that do. Pure."""

import json
import os
from collections.abc import Sequence

from provider.errors import Origin, Problem, UsageError
from provider.manifest.addresses import address_problems
from provider.manifest.checks import check
from provider.manifest.document import Document, Positions
from provider.manifest.draft import Catalog, Lost
from provider.manifest.normalise import normalise
from provider.manifest.validate import judge
from provider.model.ids import LOCAL_HOST, Kind
from provider.model.tree import Tree

_API = "bayplan/v1alpha1"


def canonical_container(
    container: Tree, publish: Sequence[Tree]
) -> tuple[Tree, tuple[Problem, ...]]:
    """Return *container* in canonical form, and what is wrong with it and its published ports.

    With problems, the form has gaps. References to other resources are not looked up.

    Raises:
        UsageError: something in it is not UTF-8.
    """
    tree = {
        "apiVersion": _API,
        "kind": Kind.CONTAINER.value,
        "metadata": {"name": "run"},
        "spec": {"container": container, "publish": list(publish)},
    }
    _require_text(tree)
    document = Document(
        kind=Kind.CONTAINER.value,
        api_version=_API,
        name="run",
        tree=tree,
        positions=Positions("", {(): (0, 0, 0, 0)}),
        origin=Origin(""),
    )
    verdict = judge(document)
    draft, problems = normalise(document, project="run", folder="/", gaps=verdict.unknown)
    catalog = Catalog("run", [draft], Lost())
    hosts = {draft.id: (LOCAL_HOST,)}
    found = [*verdict.problems, *problems, *check(catalog, hosts)]
    return draft.container or {}, (*found, *address_problems(catalog, hosts))


def _require_text(tree: Tree) -> None:
    """Refuse bytes that are no UTF-8: of what is recorded and shown, all is text."""
    try:
        json.dumps(tree, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        text = error.object
        word = text[text.rfind('"', 0, error.start) + 1 : text.find('"', error.start)]
        raise UsageError(f"{os.fsencode(word)!r} is not UTF-8") from error
