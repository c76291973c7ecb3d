"""HTTP towards registries: connections, trust, redirects, and another try where one may help.

Knows nothing of images. Bodies come as they were sent: what is compressed stays so.

Source: RFC 9110; urllib3's documentation.
"""

from __future__ import annotations

import contextlib
import random
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3 import exceptions

from runtime.errors import ImageError
from runtime.record import dataclass
from runtime.registry.errors import RegistryError, UnreachableError
from runtime.registry.settings import Trust

_AGENT = "bayplan"
_CONNECT_S = 15.0
_READ_S = 60.0
"""Without a byte."""
_REDIRECTS = 5
_TRIES = 5
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_DRAINED = 1 << 16
"""Bytes that are sooner read than a connection is made anew."""
_SMALL = 16 << 20
"""Bytes of an answer that is held in memory."""

Body = bytes | IO[bytes] | None
TrustOf = Callable[[str], Trust]
"""What TLS with a host rests on."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose body has not been read yet; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    url: str
    """Where it came from in the end."""
    _raw: Any

    def read(self, size: int) -> bytes:
        """Return up to *size* bytes, empty at the end.

        Raises:
            UnreachableError: the connection broke.
        """
        with _told(self.url):
            data: bytes = self._raw.read(size)
        return data

    def content(self, limit: int = _SMALL) -> bytes:
        """Return the whole body of a small answer.

        Raises:
            RegistryError: it is larger than *limit*.
        """
        data = bytearray()
        while piece := self.read(min(1 << 16, limit + 1 - len(data))):
            data += piece
            if len(data) > limit:
                raise RegistryError(f"{self.url}: answers more than {limit} bytes")
        return bytes(data)

    def close(self) -> None:
        """Let the connection serve others; it is closed where much of the body was not read."""
        left = self._raw.length_remaining
        if left is not None and left <= _DRAINED:
            self._raw.drain_conn()
        self._raw.close()
        self._raw.release_conn()


class Transport:
    """Connections to any number of hosts, shared by threads.

    *trust_of* is asked once for each host; *pause* waits, in seconds.
    """

    def __init__(self, trust_of: TrustOf, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._trust_of = trust_of
        self._pause = pause
        self._pools: dict[str, urllib3.PoolManager] = {}

    @contextlib.contextmanager
    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        tries: int = _TRIES,
    ) -> Iterator[Answer]:
        """Yield the answer to one request, after redirects; the body may be read in the block.

        Where no answer comes, or one that says to come again, it is asked up to *tries* times.
        Credentials in *headers* go to no other host than the first. A *body* that is a file is
        sent from where it stands, once.

        Raises:
            UnreachableError: no answer came.
            RegistryError: it leads from TLS to plain HTTP, or in circles.
            ImageError: a certificate of ours is none.
        """
        answer = self._asked(method, url, dict(headers or {}), body, tries)
        try:
            yield answer
        finally:
            answer.close()

    def _asked(
        self, method: str, url: str, headers: dict[str, str], body: Body, tries: int
    ) -> Answer:
        if body is not None and not isinstance(body, bytes):
            tries = 1
        for number in range(1, tries + 1):
            try:
                answer = self._redirected(method, url, headers, body)
            except UnreachableError:
                if number == tries:
                    raise
                self._pause(_pause_before(number))
                continue
            wanted = _asked_pause(answer.headers.get("retry-after"))
            if answer.status not in _AGAIN or number == tries or wanted > _LONGEST_PAUSE_S:
                return answer
            answer.close()
            self._pause(max(wanted, _pause_before(number)))
        raise AssertionError("the last try returns or raises")

    def _redirected(self, method: str, url: str, headers: dict[str, str], body: Body) -> Answer:
        for _ in range(_REDIRECTS):
            answer = self._once(method, url, headers, body)
            location = answer.headers.get("location")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                return answer
            if method not in ("GET", "HEAD"):
                return answer
            answer.close()
            target = urljoin(url, location)
            if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
                raise RegistryError(f"{_bare(url)}: leads from TLS to {_bare(target)}")
            if _origin(target) != _origin(url):
                headers = {k: v for k, v in headers.items() if k.lower() != "authorization"}
            url = target
        raise RegistryError(f"{_bare(url)}: leads in circles")

    def _once(self, method: str, url: str, headers: dict[str, str], body: Body) -> Answer:
        pool = self._pool(url)
        with _told(url):
            raw = pool.request(
                method,
                url,
                body=body,
                headers={"User-Agent": _AGENT, **headers},
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
            )
        return Answer(raw.status, {k.lower(): v for k, v in raw.headers.items()}, _bare(url), raw)

    def _pool(self, url: str) -> urllib3.PoolManager:
        scheme, host = _origin(url)
        key = f"{scheme}://{host}"
        if key not in self._pools:
            options: dict[str, Any] = {
                "timeout": urllib3.Timeout(connect=_CONNECT_S, read=_READ_S),
                "maxsize": 8,
            }
            if scheme == "https":
                options["ssl_context"] = _context(self._trust_of(host))
            proxy = urllib.request.getproxies().get(scheme)
            if proxy and not urllib.request.proxy_bypass(host):
                self._pools[key] = urllib3.ProxyManager(proxy, **options)
            else:
                self._pools[key] = urllib3.PoolManager(**options)
        return self._pools[key]


def _context(trust: Trust) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if trust.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in trust.authorities:
        with _naming(path):
            context.load_verify_locations(path)
    if trust.certificate:
        with _naming(trust.certificate):
            context.load_cert_chain(trust.certificate, trust.key)
    return context


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # those of TLS are, too
        raise ImageError(f"{path}: cannot be used for TLS: {error.strerror or error}") from error


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """Say in our words what urllib3 raises."""
    try:
        yield
    except exceptions.SSLError as error:
        raise RegistryError(f"{_bare(url)}: {_tls_words(url, str(error))}") from error
    except (exceptions.HTTPError, OSError) as error:
        raise UnreachableError(f"{_bare(url)}: {_words(error)}") from error


def _tls_words(url: str, text: str) -> str:
    host = urlsplit(url).netloc
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
        return (
            f"speaks no TLS; if plain HTTP will do, say so by `insecure = true` for {host} in "
            f"registries.conf, or by --no-tls-verify"
        )
    if "CERTIFICATE_VERIFY_FAILED" in text:
        reason = text.partition("certificate verify failed: ")[2].partition(" (")[0]
        return (
            f"its certificate is not trusted ({reason or 'verify failed'}); put that of who "
            f"signed it into /etc/containers/certs.d/{host}/ca.crt"
        )
    return f"TLS failed: {text}"


def _words(error: Exception) -> str:
    if isinstance(error, exceptions.NameResolutionError):
        return "there is no host of that name"
    if isinstance(error, exceptions.ConnectTimeoutError) and not isinstance(
        error, exceptions.NewConnectionError
    ):
        return f"no connection within {_CONNECT_S:g} s"
    if isinstance(error, exceptions.ReadTimeoutError):
        return f"nothing came for {_READ_S:g} s"
    if isinstance(error, exceptions.IncompleteRead):
        return "the connection broke before all had come"
    cause = error.__cause__ or error
    return getattr(cause, "strerror", None) or str(cause)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2]


def _bare(url: str) -> str:
    """Return *url* without what may be secret in it: signed links have that in their query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _pause_before(number: int) -> float:
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (number - 1)) * random.uniform(0.5, 1.0)


def _asked_pause(text: str | None) -> float:
    """Return the seconds of a Retry-After; dates count as none."""
    return float(text) if text and text.isdecimal() and text.isascii() else 0.0
