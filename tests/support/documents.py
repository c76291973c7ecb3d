"""Manifest text to documents, drafts and desired projects, for tests of the compiler."""

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provider.manifest.document import Document
from provider.manifest.draft import Draft
from provider.manifest.files import SourceFile
from provider.manifest.load import load
from provider.manifest.normalise import normalise
from provider.manifest.source import read_sources
from provider.model.resource import Desired

API = "bayplan/v1alpha1"
FOLDER = "/manifests"

HEADER = f"apiVersion: {API}\nkind: Project\nmetadata: {{name: shop}}\n"
IMAGE = (
    f"apiVersion: {API}\nkind: Image\nmetadata: {{name: app}}\n"
    "spec: {host: {programs: [/bin/true]}}\n"
)


def document(kind: str, spec: Any = None, *, name: str = "x", metadata: Any = None) -> Document:
    """Return a document with *spec*, which is plain data or YAML text."""
    text = spec if isinstance(spec, str) else json.dumps(spec or {})
    body = textwrap.indent(textwrap.dedent(text).strip(), "  ")
    about = json.dumps({"name": name} | (metadata or {}))
    whole = f"apiVersion: {API}\nkind: {kind}\nmetadata: {about}\nspec:\n{body}\n"
    (found,) = documents(whole)
    return found


def documents(text: str, path: str = "shop.yaml") -> tuple[Document, ...]:
    """Return the documents of YAML text, which must be readable."""
    reading = read_sources([SourceFile(path, text.encode())])
    assert not reading.problems, reading.problems
    return reading.documents


def draft(kind: str, spec: Any = None, *, name: str = "x", metadata: Any = None) -> Draft:
    """Return what a document without problems normalises to."""
    found = document(kind, spec, name=name, metadata=metadata)
    result, problems = normalise(found, project="shop", folder=FOLDER)
    assert not problems, problems
    return result


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write *files* (name -> text) below *folder*."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def shop(folder: Path, *texts: str, **options: Any) -> Desired:
    """Load a project ``shop`` with an Image ``app`` and the documents in *texts*."""
    path = folder / "shop.yaml"
    path.write_text("---\n".join(part.strip() + "\n" for part in (HEADER, IMAGE, *texts)))
    options.setdefault("env", {})
    return load([path], **options)
