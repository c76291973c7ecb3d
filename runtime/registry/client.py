"""The client's side of the distribution-spec: one repository of one registry.

Documents are verified against the digest they were asked for by; blobs are the caller's to verify.

Source: OCI distribution-spec 1.1; Docker registry HTTP API V2 for ``_catalog``.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any
from urllib.parse import urlencode, urljoin, urlsplit

from runtime.image.blobs import DOCUMENT_LIMIT
from runtime.image.digest import digest_of, is_digest, is_digest_of
from runtime.image.model import (
    DOCKER_INDEX,
    OCI_INDEX,
    OCI_MANIFEST,
    parse_document,
)
from runtime.record import dataclass
from runtime.registry.auth import Authorizer, Credentials
from runtime.registry.errors import DeniedError, RateLimitError, RegistryError, UnreachableError
from runtime.registry.transport import Answer, Body, Transport

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_ACCEPT = ", ".join((OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST))
_OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index as the registry has it."""

    media_type: str
    digest: str
    data: bytes


class Registry:
    """One host, asked in one name; threads may share it.

    *name* is what people call it, and log in to; an *insecure* one is asked by plain HTTP where it
    has no TLS.
    """

    def __init__(
        self,
        transport: Transport,
        name: str,
        host: str,
        find_credentials: Callable[[], Credentials | None],
        *,
        insecure: bool = False,
    ) -> None:
        self.name = name
        self.host = host
        self._transport = transport
        self._authorizer = Authorizer(transport, name, find_credentials, insecure=insecure)
        self._base: str | None = None if insecure else f"https://{host}"
        self._finding = threading.Lock()

    def check(self) -> None:
        """See that it is a registry, and takes our credentials.

        Raises:
            RegistryError: it is none, or does not.
        """
        with self.call("GET", "/v2/", ()) as answer:
            expect(answer, self.name, 200)

    @contextmanager
    def call(
        self,
        method: str,
        path: str,
        scopes: tuple[str, ...],
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
    ) -> Iterator[Answer]:
        """Yield the answer to a request for *path*, or a URL of this registry's, authorised.

        Where it wants to know who asks, it is told, and asked again: a *body* that is a file has
        to be at its begin then, so such a request comes after one of the same scopes.

        Raises:
            UnreachableError: no answer came.
            RegistryError: it asks for what we cannot say.
        """
        url = urljoin(self._found_base(), path)
        sent = self._authorization(url, scopes)
        authorised = {**(headers or {}), **sent}
        with self._transport.request(method, url, headers=authorised, body=body) as answer:
            if answer.status != 401 or not self._authorizer.take_challenge(answer, scopes, sent):
                yield answer
                return
        authorised = {**(headers or {}), **self._authorization(url, scopes)}
        with self._transport.request(method, url, headers=authorised, body=body) as answer:
            yield answer

    def _authorization(self, url: str, scopes: tuple[str, ...]) -> dict[str, str]:
        # An upload may be sent elsewhere, where our credentials are nobody's business.
        if urlsplit(url).netloc != urlsplit(self._found_base()).netloc:
            return {}
        return self._authorizer.headers(scopes)

    def _found_base(self) -> str:
        with self._finding:
            if self._base is None:
                self._base = self._find_base()
            return self._base

    def _find_base(self) -> str:
        """Return how to speak with an insecure registry: by TLS, if it can."""
        refused: RegistryError | None = None
        for scheme in ("https", "http"):
            try:
                with self._transport.request("GET", f"{scheme}://{self.host}/v2/", tries=1):
                    return f"{scheme}://{self.host}"
            except RegistryError as error:
                refused = refused or error
        assert refused is not None
        raise refused


class Repository:
    """The manifests, blobs and tags of one name."""

    def __init__(self, registry: Registry, name: str) -> None:
        self.registry = registry
        self.name = name
        self._pull = (f"repository:{name}:pull",)
        self._push = (f"repository:{name}:pull,push",)

    def __str__(self) -> str:
        """Return how people write it."""
        return f"{self.registry.name}/{self.name}"

    def manifest(self, reference: str) -> Document:
        """Return the manifest or index of a tag or digest, verified if it is a digest.

        Raises:
            RegistryError: there is none (status 404), or it is not what was asked for.
        """
        headers = {"Accept": _ACCEPT}
        with self._call("GET", f"manifests/{reference}", self._pull, headers=headers) as answer:
            expect(answer, self._of(reference), 200)
            data = answer.content(DOCUMENT_LIMIT)
        digest = reference if is_digest(reference) else _own_digest(answer, data)
        if not is_digest_of(digest, data):
            raise RegistryError(
                f"{self._of(reference)}: what came does not have the digest {digest}"
            )
        tree = parse_document(data, self._of(reference))
        told = answer.headers.get("content-type", "").partition(";")[0].strip()
        return Document(str(tree.get("mediaType") or told or OCI_MANIFEST), digest, data)

    def put_manifest(self, reference: str, document: Document) -> None:
        """Store a manifest or index under a tag or its digest. Idempotent.

        Raises:
            RegistryError: it refuses, as where a blob of it is missing.
        """
        headers = {"Content-Type": document.media_type}
        with self._call(
            "PUT", f"manifests/{reference}", self._push, headers=headers, body=document.data
        ) as answer:
            expect(answer, self._of(reference), 201)

    @contextmanager
    def blob(self, digest: str, *, offset: int = 0) -> Iterator[tuple[int, Answer]]:
        """Yield where in the blob the answer begins, and the answer: *offset*, or else 0.

        Raises:
            RegistryError: there is none (404), or it refuses.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._call("GET", f"blobs/{digest}", self._pull, headers=headers) as answer:
            if answer.status == 206 and _begin(answer) == offset:
                yield offset, answer
                return
            if answer.status != 416:
                expect(answer, self._of(digest), 200)
                yield 0, answer
                return
        with self._call("GET", f"blobs/{digest}", self._pull) as answer:
            expect(answer, self._of(digest), 200)
            yield 0, answer

    def has_blob(self, digest: str) -> bool:
        """Tell whether the blob is there.

        Raises:
            RegistryError: it refuses to say.
        """
        with self._call("HEAD", f"blobs/{digest}", self._pull) as answer:
            if answer.status == 404:
                return False
            expect(answer, self._of(digest), 200)
        return True

    def mount_blob(self, digest: str, source: str) -> bool:
        """Have the blob of another repository here, too; tell whether that was done.

        Raises:
            RegistryError: it refuses.
        """
        query = urlencode({"mount": digest, "from": source})
        scopes = (*self._push, f"repository:{source}:pull")
        with self._call("POST", f"blobs/uploads/?{query}", scopes) as answer:
            if answer.status == 201:
                return True
            if answer.status in (401, 403, 404):
                return False  # of one repository only: the blob is uploaded then
            expect(answer, self._of(digest), 202)
            location = answer.headers.get("location")
        if location:  # it has begun an upload instead
            with self.registry.call("DELETE", self._upload_url(location), self._push):
                pass
        return False

    def upload_blob(self, digest: str, size: int, content: IO[bytes]) -> None:
        """Store a blob of *size* bytes, in one piece.

        Raises:
            UnreachableError: the connection broke.
            RegistryError: it refuses.
        """
        with self._call("POST", "blobs/uploads/", self._push) as answer:
            expect(answer, self._of(digest), 202)
            location = answer.headers.get("location", "")
        url = self._upload_url(location)
        url += f"{'&' if urlsplit(url).query else '?'}{urlencode({'digest': digest})}"
        headers = {"Content-Type": _OCTETS, "Content-Length": str(size)}
        body = content if size else b""
        with self.registry.call("PUT", url, self._push, headers=headers, body=body) as answer:
            expect(answer, self._of(digest), 201)

    def _call(
        self,
        method: str,
        path: str,
        scopes: tuple[str, ...],
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
    ) -> Any:
        return self.registry.call(
            method, f"/v2/{self.name}/{path}", scopes, headers=headers, body=body
        )

    def _of(self, reference: str) -> str:
        return f"{self}{'@' if is_digest(reference) else ':'}{reference}"

    def _upload_url(self, location: str) -> str:
        if not location:
            raise RegistryError(f"{self}: does not say where to upload to")
        return location


def expect(answer: Answer, what: str, status: int) -> None:
    """Raise what an answer that is not *status* means for *what*, in words.

    Raises:
        DeniedError, RateLimitError, UnreachableError, RegistryError: as their names say.
    """
    if answer.status == status:
        return
    codes, told = _errors(answer)
    host = what.partition("/")[0]
    code = answer.status
    if code == 401:
        raise DeniedError(
            f"{what}: {told or 'not for everybody'}; say who you are by `bayplan login {host}`",
            status=code,
            codes=codes,
        )
    if code == 403:
        raise DeniedError(f"{what}: {told or 'not permitted'}", status=code, codes=codes)
    if code == 404:
        raise RegistryError(f"{what}: {told or 'there is none'}", status=code, codes=codes)
    if code == 429:
        later = answer.headers.get("retry-after")
        when = f" before {later} s have passed" if later else ""
        raise RateLimitError(
            f"{what}: no more requests are taken{when} ({told or 'rate limit'}); "
            f"`bayplan login {host}` may raise the limit, a mirror in registries.conf avoids it",
            status=code,
            codes=codes,
        )
    kind = UnreachableError if code >= 500 else RegistryError
    raise kind(f"{what}: {told or 'refused'} (HTTP {code})", status=code, codes=codes)


def _errors(answer: Answer) -> tuple[tuple[str, ...], str]:
    """Return the codes and the first message of an answer, as the specification has them."""
    try:
        items = json.loads(answer.content(1 << 20))["errors"]
        codes = tuple(str(item["code"]) for item in items)
        told = str(items[0].get("message") or codes[0]) if items else ""
    except (RegistryError, ValueError, KeyError, TypeError, AttributeError):
        return (), ""
    return codes, " ".join("".join(c for c in told if c.isprintable()).split())[:300]


def _own_digest(answer: Answer, data: bytes) -> str:
    """Return the digest a registry gives a tag's content, in whatever algorithm."""
    told = answer.headers.get("docker-content-digest", "")
    return told if is_digest(told) else digest_of(data)


def _begin(answer: Answer) -> int | None:
    found = re.match(r"bytes (\d+)-", answer.headers.get("content-range", ""))
    return int(found[1]) if found else None
