"""Docker's config.json, and programs that keep credentials elsewhere."""

import base64
import json
import stat

import pytest

from runtime.errors import ImageError
from runtime.registry.auth import Credentials
from runtime.registry.credentials import Keyring

HELPER = """#!/bin/sh
# Keeps what it is given in a file of its own.
case "$1" in
store) cat > "$HELD" ;;
get) read asked; [ "$asked" = "h:5000" ] && [ -f "$HELD" ] && exec cat "$HELD"
  echo "credentials not found in native keychain"; exit 1 ;;
erase) rm -f "$HELD" ;;
esac
"""


def auth(text):
    return {"auth": base64.b64encode(text.encode()).decode()}


@pytest.fixture
def keyring(tmp_path):
    return Keyring(tmp_path / "docker/config.json")


def given(keyring, tree):
    keyring.path.parent.mkdir(exist_ok=True)
    keyring.path.write_text(json.dumps(tree))


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("h:5000", "h:5000"),
        ("https://h:5000", "h:5000"),
        ("http://h:5000/v2/", "h:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
    ],
)
def test_keys_as_clients_have_written_them(keyring, key, registry):
    given(keyring, {"auths": {key: auth("me:a:b")}})
    assert keyring.find(registry) == Credentials("me", "a:b")
    assert keyring.find("elsewhere") is None
    assert keyring.drop(registry)
    assert keyring.find(registry) is None
    assert not keyring.drop(registry)


def test_the_longest_name_counts(keyring):
    given(keyring, {"auths": {"h": auth("all:x"), "h/team": auth("team:x")}})
    assert keyring.find("h", "team/app").username == "team"
    assert keyring.find("h", "teams/app").username == "all"


def test_what_is_kept_is_found_and_the_rest_of_the_file_stays(keyring):
    assert keyring.find("h") is None
    keyring.put("h", Credentials("me", "word"))
    tree = json.loads(keyring.path.read_text()) | {"psFormat": "x"}
    given(keyring, tree)
    keyring.put("other", Credentials("you", "token", "refresh"))
    assert keyring.find("h") == Credentials("me", "word")
    assert keyring.find("other") == Credentials(identity_token="refresh")
    assert json.loads(keyring.path.read_text())["psFormat"] == "x"
    assert stat.S_IMODE(keyring.path.stat().st_mode) == 0o600


def test_a_file_that_is_a_link_stays_one(keyring, tmp_path):
    (tmp_path / "docker").mkdir()
    (tmp_path / "real.json").write_text("{}")
    keyring.path.symlink_to(tmp_path / "real.json")
    keyring.put("h", Credentials("me", "word"))
    assert keyring.path.is_symlink()
    assert keyring.find("h") == Credentials("me", "word")


def test_a_helper_keeps_them_instead(keyring, tmp_path, monkeypatch):
    program = tmp_path / "docker-credential-mine"
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("HELD", str(tmp_path / "held"))
    given(keyring, {"credHelpers": {"h:5000": "mine"}})
    assert keyring.find("h:5000") is None
    assert keyring.put("h:5000", Credentials("me", "word")) == "docker-credential-mine"
    assert "word" not in keyring.path.read_text()
    assert keyring.find("h:5000") == Credentials("me", "word")
    assert keyring.drop("h:5000")
    assert keyring.find("h:5000") is None


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        json.dumps({"auths": {"h": {"auth": "no base64"}}}),
        json.dumps({"auths": {"h": 5}}),
        json.dumps({"credsStore": "../../bin/sh"}),
        json.dumps({"credsStore": "of-nobody"}),
    ],
)
def test_what_is_no_such_file_is_said(keyring, text):
    keyring.path.parent.mkdir()
    keyring.path.write_text(text)
    with pytest.raises(ImageError):
        keyring.find("h")
