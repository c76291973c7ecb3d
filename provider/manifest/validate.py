"""Documents against the JSON Schemas; the only importer of jsonschema and jsonschema_rs.

jsonschema_rs decides, 200 times faster; jsonschema, imported only when something is wrong, finds
what there is to word. A test holds the two to the same verdict.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Set
from typing import Any

import jsonschema_rs

import schemas
from provider.errors import Problem
from provider.manifest import foreign, taint
from provider.manifest.document import Document, TreePath
from provider.manifest.gap import unknown_paths
from provider.manifest.suggest import closest
from provider.manifest.wording import Failure
from provider.manifest.wording import problems as word
from provider.model.tree import Json, Tree
from runtime.record import dataclass


def validate(documents: Iterable[Document]) -> tuple[Problem, ...]:
    """Return everything in *documents* that their kinds' schemas do not allow, in input order.

    Places the reader has complained about already (``Document.faulty``) are passed over.
    """
    return tuple(problem for document in documents for problem in judge(document).problems)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with one document."""

    problems: tuple[Problem, ...] = ()
    unknown: tuple[TreePath, ...] = ()
    """Where nothing can be said of the value: what is wrong, missing, or perhaps misspelt."""


def judge(document: Document) -> Verdict:
    """Return what the schema of its kind does not allow in *document*, and what shows secrets.

    Places the reader has complained about already (``Document.faulty``) are unknown, without
    another problem.
    """
    exposed = taint.exposed(document)
    faulty = document.faulty | exposed.keys()
    problems: dict[Problem, None] = dict.fromkeys(exposed.values())
    if document.kind not in schemas.KINDS:
        if not _is_in(faulty, ("kind",)):
            problems[_unknown_kind(document)] = None
        return Verdict(tuple(problems), ((),))
    unknown: dict[TreePath, None] = dict.fromkeys(sorted(faulty, key=str))
    tree = taint.for_schema(document)
    if is_valid(document.kind, tree):
        return Verdict(tuple(problems), tuple(unknown))
    elsewhere = functools.partial(_elsewhere, document.kind)
    for failure in failures(document.kind, tree):
        unknown.update(dict.fromkeys(unknown_paths(failure)))
        if not _is_in(faulty, failure.path):
            problems.update(dict.fromkeys(word(failure, document, elsewhere)))
    return Verdict(tuple(sorted(problems, key=_place)), tuple(unknown))


def is_valid(kind: str, tree: Json) -> bool:
    """Return whether *tree* is a document of that kind, or a plan or report (any schema's name)."""
    return _validator(kind.lower()).is_valid(tree)


def _place(problem: Problem) -> tuple[int, int]:
    origin = problem.origin
    return (origin.line, origin.column) if origin else (0, 0)


def _is_in(places: Set[TreePath], path: TreePath) -> bool:
    """Return whether *path* is one of *places* or below one."""
    return any(path[:end] in places for end in range(len(path) + 1))


def failures(kind: str, tree: Json) -> Iterator[Failure]:
    """Yield what the schema of that kind does not allow in *tree*, in the schema's order."""
    root = schemas.bundle(kind.lower())
    for error in _wording_validator(kind.lower()).iter_errors(tree):
        steps = tuple(error.absolute_schema_path)
        if error.validator == "required" and error.validator_value:
            # jsonschema tells of each missing name on its own; one Failure stands for them all.
            missing = [name for name in error.validator_value if name not in error.instance]
            if error.message != f"{missing[0]!r} is a required property":
                continue
        yield Failure(
            keyword=str(error.validator),
            asked=error.validator_value,
            got=error.instance,
            path=tuple(error.absolute_path),
            schema=error.schema,
            around=_schemas(root, steps[:-1]),
            of_name=_is_of_name(steps),
        )


def _schemas(root: Tree, steps: tuple[str | int, ...]) -> tuple[Tree, ...]:
    """Return what is said at *steps* about one instance: outermost first, references followed.

    jsonschema leaves ``$ref`` and ``if`` out of its paths.
    """
    here = around = _referred(root, root)
    for index, step in enumerate(steps):
        node: Any = next(schema[step] for schema in here if step in schema)
        if isinstance(node, list):
            node = dict(enumerate(node))
        here = _referred(root, node)
        same = step == "then" and not _is_name(steps, index)
        around = (*around, *here) if same else here
    return around


def _referred(root: Tree, schema: Tree) -> tuple[Tree, ...]:
    chain = [schema]
    while "$ref" in chain[-1]:
        chain.append(schemas.resolve(root, chain[-1]["$ref"]))
    return tuple(chain)


def _is_name(steps: tuple[str | int, ...], index: int) -> bool:
    return index > 0 and steps[index - 1] in ("properties", "$defs", "dependentSchemas")


def _is_of_name(steps: tuple[str | int, ...]) -> bool:
    return any(
        step == "propertyNames" and not _is_name(steps, index) for index, step in enumerate(steps)
    )


@functools.cache
def _validator(name: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schemas.bundle(name))


@functools.cache
def _wording_validator(name: str) -> Any:
    import jsonschema

    extend: Any = jsonschema.validators.extend  # its stub leaves the arguments untyped
    validator = extend(jsonschema.Draft202012Validator, {"pattern": _ecma_pattern})
    return validator(schemas.bundle(name))


def _ecma_pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[Any]:
    """Match as JSON Schema says, where Python's ``$`` would let a newline pass at the end."""
    from jsonschema.exceptions import ValidationError

    if isinstance(instance, str) and not _compiled(pattern).search(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern)


def _unknown_kind(document: Document) -> Problem:
    tree, positions = document.tree, document.positions
    kinds = ", ".join(schemas.KINDS)
    if "kind" not in tree:
        suggestion = ""
        if "services" in tree:
            suggestion = "this looks like a Compose file; write one document for each of its parts"
        elif "apiVersion" not in tree:
            suggestion = "if it is no manifest, move it out of the folder"
        return Problem("`kind` is missing", document.origin, "", f"one of {kinds}", suggestion)
    origin = positions.value(("kind",))
    kind = tree["kind"]
    if not isinstance(kind, str):
        return Problem("not the name of a kind", origin, "kind", f"one of {kinds}")
    nearest = foreign.KINDS.get(kind) or closest(kind, schemas.KINDS)
    suggestion = foreign.RESERVED_KINDS.get(kind) or (f"did you mean {nearest}?" if nearest else "")
    return Problem(f"kind {kind} is unknown", origin, "kind", f"one of {kinds}", suggestion)


def _elsewhere(kind: str, path: TreePath, name: str) -> str:
    """Return where *name*, which is unknown at *path*, belongs: around it, or inside of it."""
    root = schemas.bundle(kind.lower())
    levels = [_resolved(root, root)]
    for step in path:
        levels.append(_member(root, levels[-1], step))
    if name in _names(levels[-1]):
        return ""
    for depth in range(len(levels) - 2, 0, -1):
        if name in _names(levels[depth]):
            return f"it belongs one level up or more, into `{path[depth - 1]}`"
    for inner in _names(levels[-1]):
        if name in _names(_member(root, levels[-1], inner)):
            return f"write it into `{inner}`: `{inner}: {{{name}: ...}}`"
    if not path and name in _names(_member(root, levels[-1], "spec")):
        return "write it into `spec`"
    return ""


def _names(schema: Tree) -> Tree:
    names: Tree = schema.get("properties", {})
    return names


def _member(root: Tree, schema: Tree, step: str | int) -> Tree:
    if isinstance(step, int):
        found = schema.get("items", {})
    else:
        found = _names(schema).get(step, schema.get("additionalProperties"))
    return _resolved(root, found) if isinstance(found, dict) else {}


def _resolved(root: Tree, schema: Tree) -> Tree:
    merged: Tree = {}
    for part in reversed(_referred(root, schema)):
        merged.update(part)
    return merged
