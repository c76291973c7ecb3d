"""Who we are to a registry: challenges, tokens and what they are good for.

A registry answers 401 and says how to authenticate. For ``Bearer`` a token is fetched from where it
says, for the scopes that are needed, and used until it expires; for ``Basic`` name and password are
sent as they are. Without credentials a token for anybody is asked for.

Source: RFC 9110 section 11; distribution project, "Token Authentication Specification" and "OAuth2
Token Authentication".
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlencode, urlsplit

from runtime.record import dataclass, field
from runtime.registry.errors import DeniedError, RegistryError
from runtime.registry.transport import Answer, Transport

_CLIENT = "bayplan"
_LIFETIME_S = 60.0
"""Of a token that does not say."""
_EARLY_S = 10.0
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_SCHEME = re.compile(r"(?<![=\w-])(Basic|Bearer)(?![\w-])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name with its password, or an identity token instead of both."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a registry asks for: *scheme* is ``basic`` or ``bearer``."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(text: str) -> tuple[Challenge, ...]:
    """Return the challenges of a WWW-Authenticate header that we know, in order."""
    # What is quoted may read like anything.
    bare = _QUOTED.sub(lambda match: " " * len(match[0]), text)
    starts = [
        match
        for match in _SCHEME.finditer(bare)
        if not bare[match.end() :].lstrip().startswith("=")
    ]
    found = []
    for number, match in enumerate(starts):
        end = starts[number + 1].start(1) if number + 1 < len(starts) else len(text)
        parameters = {
            name.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain
            for name, quoted, plain in _PARAMETER.findall(text[match.end() : end])
        }
        found.append(Challenge(match[1].lower(), parameters))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    until: float


class Authorizer:
    """What we say of ourselves to one registry; threads may share it.

    *find_credentials* is asked once, and only if the registry wants to know. Only an *insecure*
    registry may have its tokens fetched by plain HTTP.
    """

    def __init__(
        self,
        transport: Transport,
        host: str,
        find_credentials: Callable[[], Credentials | None],
        *,
        insecure: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._host = host
        self._find = find_credentials
        self._schemes = ("https", "http") if insecure else ("https",)
        self._clock = clock
        self._lock = threading.Lock()
        self._asked = False
        self._credentials: Credentials | None = None
        self._challenge: Challenge | None = None
        self._tokens: dict[str, _Token] = {}

    def headers(self, scopes: Iterable[str]) -> dict[str, str]:
        """Return what to send with a request that needs *scopes*: nothing until it is asked for.

        Raises:
            RegistryError: no token is to be had.
        """
        with self._lock:
            challenge = self._challenge
            if challenge is None:
                return {}
            if challenge.scheme == "basic":
                return {"Authorization": _basic(self._known())} if self._known() else {}
            return {"Authorization": f"Bearer {self._token(challenge, scopes)}"}

    def take_challenge(
        self, answer: Answer, scopes: Iterable[str], sent: Mapping[str, str]
    ) -> bool:
        """Learn from a 401 what is wanted; tell whether the same request may now succeed.

        *sent* is what `headers` gave for it: meanwhile another thread may have learned the same.

        Raises:
            RegistryError: it asks for what we do not know.
        """
        challenges = parse_challenges(answer.headers.get("www-authenticate", ""))
        if not challenges:
            raise RegistryError(
                f"{self._host}: wants to know who we are, but not in a way we know", status=401
            )
        bearer = [each for each in challenges if each.scheme == "bearer"]
        with self._lock:
            challenge = (bearer or list(challenges))[0]
            self._challenge = challenge
            if challenge.scheme == "basic":
                return not sent and self._known() is not None
            token = self._tokens.get(_key(scopes))
            if token is not None and sent.get("Authorization") == f"Bearer {token.text}":
                del self._tokens[_key(scopes)]  # one that was refused is of no more use
            return True

    @property
    def is_known(self) -> bool:
        """Whether there are credentials for this registry."""
        with self._lock:
            return self._known() is not None

    def _known(self) -> Credentials | None:
        if not self._asked:
            self._credentials = self._find()
            self._asked = True
        return self._credentials

    def _token(self, challenge: Challenge, scopes: Iterable[str]) -> str:
        token = self._tokens.get(_key(scopes))
        if token is None or token.until <= self._clock():
            token = self._fetch(challenge, sorted(scopes))
            self._tokens[_key(scopes)] = token
        return token.text

    def _fetch(self, challenge: Challenge, scopes: list[str]) -> _Token:
        realm = challenge.parameters.get("realm", "")
        service = challenge.parameters.get("service", "")
        if urlsplit(realm).scheme not in self._schemes:
            raise RegistryError(
                f"{self._host}: wants tokens to be fetched from {realm[:80]!r}, which is no URL of "
                f"{' or '.join(self._schemes)}"
            )
        known = self._known()
        if known is not None and known.identity_token:
            fields = {
                "grant_type": "refresh_token",
                "refresh_token": known.identity_token,
                "service": service,
                "client_id": _CLIENT,
                "scope": " ".join(scopes),
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(fields).encode()
            with self._transport.request("POST", realm, headers=headers, body=body) as answer:
                return self._taken(answer)
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        if known is not None:
            query.append(("account", known.username))
        separator = "&" if urlsplit(realm).query else "?"
        url = f"{realm}{separator}{urlencode(query)}"
        headers = {} if known is None else {"Authorization": _basic(known)}
        with self._transport.request("GET", url, headers=headers) as answer:
            return self._taken(answer)

    def _taken(self, answer: Answer) -> _Token:
        if answer.status in (401, 403):
            raise DeniedError(
                f"{self._host}: name and password are refused; say them again by "
                f"`bayplan login {self._host}`",
                status=answer.status,
            )
        if answer.status != 200:
            raise RegistryError(
                f"{self._host}: {answer.url} gives no token (HTTP {answer.status})",
                status=answer.status,
            )
        try:
            tree = json.loads(answer.content(1 << 20))
            text = tree.get("token") or tree["access_token"]
            lifetime = float(tree.get("expires_in") or _LIFETIME_S)
            if not isinstance(text, str) or not text.isascii() or not text.isprintable():
                raise TypeError("the token is no text")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RegistryError(f"{self._host}: {answer.url} gives no token: {error}") from error
        return _Token(text, self._clock() + max(lifetime - _EARLY_S, 0.0))


def _key(scopes: Iterable[str]) -> str:
    return " ".join(sorted(scopes))


def _basic(credentials: Credentials | None) -> str:
    assert credentials is not None
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"
