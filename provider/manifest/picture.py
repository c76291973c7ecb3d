"""The dependency graph as text, DOT, Mermaid and, with graphviz, as SVG or PNG."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence

from provider.errors import UnsupportedHostError
from provider.manifest.order import sort_key
from provider.model.ids import Kind, ResourceId
from provider.model.resource import Condition, Dependency, Effect, Resource

FORMATS = ("tree", "dot", "mermaid", "svg", "png")

_SHAPES = {
    Kind.CONTAINER: "box",
    Kind.SERVICE: "box3d",
    Kind.JOB: "cds",
    Kind.NETWORK: "ellipse",
    Kind.VOLUME: "cylinder",
    Kind.IMAGE: "component",
    Kind.CONFIG: "note",
    Kind.SECRET: "note",
}
_RENDER_TIMEOUT_S = 60


def tree(resources: Sequence[Resource], *, unicode: bool = True) -> str:
    """Return the graph as an indented tree: below each resource, what it needs.

    Roots are the resources nobody needs. What was shown before is not opened again, but marked
    with an ellipsis.
    """
    tee, elbow, bar, dots = (
        ("├── ", "└── ", "│   ", "…") if unicode else ("|-- ", "`-- ", "|   ", "...")
    )
    edges = _edges(resources)
    needed = {target for targets in edges.values() for target in targets}
    roots = sorted((r.id for r in resources if r.id not in needed), key=sort_key, reverse=True)
    lines: list[str] = []
    opened: set[ResourceId] = set()
    # A stack instead of recursion: a chain of dependencies may be longer than Python's stack.
    stack = [(root, "", "", "") for root in roots]
    while stack:
        current, lead, below, label = stack.pop()
        children = sorted(edges.get(current, {}), key=sort_key)
        again = current in opened and bool(children)
        lines.append(f"{lead}{_name(current, resources)}{label}{' ' + dots if again else ''}")
        if again:
            continue
        opened.add(current)
        for position, child in reversed(list(enumerate(children))):
            last = position == len(children) - 1
            stack.append(
                (
                    child,
                    below + (elbow if last else tee),
                    below + ("    " if last else bar),
                    _suffix(edges[current][child]),
                )
            )
    return "".join(line + "\n" for line in lines)


def dot(resources: Sequence[Resource]) -> str:
    """Return the graph in graphviz's language; arrows lead to what is needed."""
    project = resources[0].id.project if resources else ""
    lines = [f"digraph {_quote(project)} {{", "  rankdir=LR;", '  node [fontname="sans-serif"];']
    edges = _edges(resources)
    for node in _nodes(resources, edges):
        foreign = ", style=dashed" if node.project != project else ""
        label = _quote(f"{node.kind}\n{_short(node, project)}")
        shape = _SHAPES.get(node.kind, "box")
        lines.append(f"  {_quote(_key(node))} [shape={shape}, label={label}{foreign}];")
    for source, targets in edges.items():
        for target in sorted(targets, key=sort_key):
            label = _label(targets[target])
            mark = f" [label={_quote(label)}]" if label else ""
            lines.append(f"  {_quote(_key(source))} -> {_quote(_key(target))}{mark};")
    return "\n".join([*lines, "}"]) + "\n"


def mermaid(resources: Sequence[Resource]) -> str:
    """Return the graph as a Mermaid flow chart."""
    project = resources[0].id.project if resources else ""
    edges = _edges(resources)
    nodes = _nodes(resources, edges)
    number = {node: f"n{position}" for position, node in enumerate(nodes)}
    lines = ["flowchart LR"]
    lines += [f'  {number[n]}["{n.kind}/{_short(n, project)}"]' for n in nodes]
    for source, targets in edges.items():
        for target in sorted(targets, key=sort_key):
            label = _label(targets[target])
            arrow = f"-->|{label}|" if label else "-->"
            lines.append(f"  {number[source]} {arrow} {number[target]}")
    return "\n".join(lines) + "\n"


def render(resources: Sequence[Resource], *, fmt: str, unicode: bool = True) -> bytes:
    """Return the picture in one of FORMATS; text is UTF-8.

    Raises:
        UnsupportedHostError: SVG or PNG is asked for and graphviz is not installed, or fails.
    """
    if fmt == "tree":
        return tree(resources, unicode=unicode).encode()
    if fmt == "mermaid":
        return mermaid(resources).encode()
    text = dot(resources).encode()
    return text if fmt == "dot" else _graphviz(text, fmt)


def _graphviz(text: bytes, fmt: str) -> bytes:
    program = shutil.which("dot")
    if program is None:
        raise UnsupportedHostError(
            f"drawing {fmt} needs graphviz: no program `dot` on PATH",
            hint="install the package graphviz, or use the format dot or mermaid",
        )
    try:
        done = subprocess.run(
            [program, f"-T{fmt}"],
            input=text,
            capture_output=True,
            timeout=_RENDER_TIMEOUT_S,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip() or f"exit code {error.returncode}"
        raise UnsupportedHostError(f"{program} -T{fmt}: {reason}") from error
    except subprocess.TimeoutExpired as error:
        raise UnsupportedHostError(
            f"{program} -T{fmt}: no picture within {_RENDER_TIMEOUT_S} s",
            hint="large graphs are better shown as dot, or with --only",
        ) from error
    return done.stdout


def _edges(resources: Iterable[Resource]) -> dict[ResourceId, dict[ResourceId, Dependency]]:
    """Return dependent -> target -> the edge that says most (dependsOn wins)."""
    edges: dict[ResourceId, dict[ResourceId, Dependency]] = {}
    for resource in sorted(resources, key=lambda r: sort_key(r.id)):
        targets = edges.setdefault(resource.id, {})
        for edge in resource.dependencies:
            if edge.target not in targets or edge.field.startswith("dependsOn"):
                targets[edge.target] = edge
    return edges


def _nodes(
    resources: Iterable[Resource], edges: dict[ResourceId, dict[ResourceId, Dependency]]
) -> list[ResourceId]:
    everything = {r.id for r in resources}.union(*edges.values()) if edges else set()
    return sorted(everything, key=lambda n: (n.project, sort_key(n)))


def _name(node: ResourceId, resources: Sequence[Resource]) -> str:
    return f"{node.kind}/{_short(node, resources[0].id.project)}"


def _short(node: ResourceId, project: str) -> str:
    return node.name if node.project == project else f"{node.name} of {node.project}"


def _label(edge: Dependency) -> str:
    words = []
    if edge.field.startswith("dependsOn") and edge.condition is not Condition.STARTED:
        words.append(str(edge.condition))
    if edge.effect is not Effect.ORDER:
        words.append(str(edge.effect))
    return ", ".join(words)


def _suffix(edge: Dependency) -> str:
    label = _label(edge)
    return f" ({label})" if label else ""


def _key(node: ResourceId) -> str:
    return f"{node.project}/{node}"


def _quote(text: str) -> str:
    escaped = re.sub(r'(["\\])', r"\\\1", text).replace("\n", "\\n")
    return f'"{escaped}"'
