"""Challenges, and the tokens that answer them."""

import json
from contextlib import contextmanager

import pytest

from runtime.registry.auth import Authorizer, Challenge, Credentials, parse_challenges
from runtime.registry.errors import DeniedError, RegistryError
from runtime.registry.transport import Answer

BEARER = 'Bearer realm="https://auth/token",service="here"'
SCOPES = ("repository:a:pull",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Basic realm="x"', [Challenge("basic", {"realm": "x"})]),
        (
            'bearer realm="https://a/t?x=1,2",service=s,scope="repository:a:pull,push"',
            [
                Challenge(
                    "bearer",
                    {
                        "realm": "https://a/t?x=1,2",
                        "service": "s",
                        "scope": "repository:a:pull,push",
                    },
                )
            ],
        ),
        (
            'Negotiate, Bearer realm="r", Basic realm="say \\"Basic\\""',
            [Challenge("bearer", {"realm": "r"}), Challenge("basic", {"realm": 'say "Basic"'})],
        ),
        ("Negotiate", []),
        ("", []),
    ],
)
def test_challenges(text, expected):
    assert list(parse_challenges(text)) == expected


class Server:
    """Stands for a Transport: answers what it was given, and remembers what it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    @contextmanager
    def request(self, method, url, *, headers=None, body=None):
        self.asked.append((method, url, dict(headers or {}), body))
        status, tree = self.answers.pop(0)
        yield Answer(status, {}, url, Body(json.dumps(tree).encode()))


class Body:
    def __init__(self, data):
        self.data = data

    def read(self, size):
        piece, self.data = self.data[:size], self.data[size:]
        return piece


def unauthorized(text):
    return Answer(401, {"www-authenticate": text}, "https://here/v2/", Body(b""))


def authorizer(server, credentials=None, **options):
    now = [0.0]
    made = Authorizer(server, "here", lambda: credentials, clock=lambda: now[0], **options)
    return made, now


def test_a_token_is_fetched_once_until_it_expires():
    server = Server((200, {"token": "one", "expires_in": 300}), (200, {"access_token": "two"}))
    made, now = authorizer(server)
    assert made.headers(SCOPES) == {}
    assert made.take_challenge(unauthorized(BEARER), SCOPES, {})
    for _ in range(2):
        assert made.headers(SCOPES) == {"Authorization": "Bearer one"}
    assert server.asked == [
        ("GET", "https://auth/token?service=here&scope=repository%3Aa%3Apull", {}, None)
    ]
    now[0] = 295.0
    assert made.headers(SCOPES) == {"Authorization": "Bearer two"}


def test_a_token_that_is_refused_is_replaced_once():
    server = Server((200, {"token": "old"}), (200, {"token": "new"}))
    made, _ = authorizer(server)
    assert made.take_challenge(unauthorized(BEARER), SCOPES, {})
    sent = made.headers(SCOPES)
    assert made.take_challenge(unauthorized(BEARER), SCOPES, sent)
    assert made.headers(SCOPES) == {"Authorization": "Bearer new"}


def test_credentials_go_where_tokens_come_from():
    server = Server((200, {"token": "t"}))
    made, _ = authorizer(server, Credentials("me", "word"))
    made.take_challenge(unauthorized(BEARER), SCOPES, {})
    made.headers(SCOPES)
    _, url, headers, _ = server.asked[0]
    assert url.endswith("&account=me")
    assert headers == {"Authorization": "Basic bWU6d29yZA=="}


def test_an_identity_token_is_exchanged():
    server = Server((200, {"access_token": "t"}))
    made, _ = authorizer(server, Credentials(identity_token="refresh"))
    made.take_challenge(unauthorized(BEARER), SCOPES, {})
    assert made.headers(SCOPES) == {"Authorization": "Bearer t"}
    method, url, _, body = server.asked[0]
    assert (method, url) == ("POST", "https://auth/token")
    assert b"refresh_token=refresh" in body


def test_name_and_password_themselves():
    made, _ = authorizer(Server(), Credentials("me", "word"))
    assert made.take_challenge(unauthorized('Basic realm="x"'), SCOPES, {})
    assert made.headers(SCOPES) == {"Authorization": "Basic bWU6d29yZA=="}
    # Who has asked before that was known asks again, who has said it does not.
    assert made.take_challenge(unauthorized('Basic realm="x"'), SCOPES, {})
    sent = made.headers(SCOPES)
    assert not made.take_challenge(unauthorized('Basic realm="x"'), SCOPES, sent)
    nobody, _ = authorizer(Server())
    assert not nobody.take_challenge(unauthorized('Basic realm="x"'), SCOPES, {})


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((401, {}), DeniedError),
        ((500, {}), RegistryError),
        ((200, {}), RegistryError),
        ((200, []), RegistryError),
        ((200, {"token": "a\r\nX: y"}), RegistryError),
        ((200, {"token": 5}), RegistryError),
    ],
)
def test_where_no_token_is_to_be_had(answer, error):
    made, _ = authorizer(Server(answer), Credentials("me", "hush"))
    made.take_challenge(unauthorized(BEARER), SCOPES, {})
    with pytest.raises(error) as caught:
        made.headers(SCOPES)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("realm", ["http://auth/token", "file:///etc/passwd", ""])
def test_tokens_come_by_tls_only(realm):
    made, _ = authorizer(Server(), Credentials("me", "word"))
    made.take_challenge(unauthorized(f'Bearer realm="{realm}"'), SCOPES, {})
    with pytest.raises(RegistryError, match="tokens"):
        made.headers(SCOPES)
    server = Server((200, {"token": "t"}))
    plain, _ = authorizer(server, insecure=True)
    plain.take_challenge(unauthorized('Bearer realm="http://auth/token"'), SCOPES, {})
    assert plain.headers(SCOPES) == {"Authorization": "Bearer t"}


def test_who_asks_for_nothing_we_know_is_named():
    made, _ = authorizer(Server())
    with pytest.raises(RegistryError, match="here: wants to know who we are"):
        made.take_challenge(unauthorized("Negotiate"), SCOPES, {})
