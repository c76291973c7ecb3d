"""Doctor clears up beside whoever makes something: runs by hand, and projects' first applies."""

import threading

import pytest

from tests.support.manifests import HEAD, document, sleeper

pytestmark = pytest.mark.e2e

ROUNDS = 3
MANIFEST = (
    HEAD
    + document("Network", "net", "{}")
    + document("Volume", "data", "{}")
    + document("Config", "site", "{data: {page: hello}}")
    + document("Secret", "key", "{data: {word: {file: secret.txt}}}")
    + sleeper(
        "one",
        "networks: [net], volumes: [{volume: data, target: /data}], "
        "configs: [{name: site, target: /site}], env: {WORD: {secret: key, key: word}}, "
        "secrets: [{name: key, target: /key}]",
    )
)


def test_nothing_that_is_being_made_is_taken_away(bayplan, tmp_path):
    (tmp_path / "secret.txt").write_text("hush")
    box = tmp_path / "box.yaml"
    box.write_text(HEAD.replace("test", "box"))
    bayplan("apply", "-f", str(box))
    done, mended, troubles = threading.Event(), [], []

    def keep_mending():
        while not done.is_set():
            ran = bayplan("doctor", "--mend", "-o", "json", code=None)
            mended.append(ran.stdout)
            if ran.returncode not in (0, 1, 75) or ran.stderr:
                troubles.append(ran.stderr)

    mender = threading.Thread(target=keep_mending)
    mender.start()
    try:
        for number in range(ROUNDS):
            file = tmp_path / f"p{number}.yaml"
            file.write_text(MANIFEST.replace("name: test", f"name: p{number}"))
            bayplan("apply", "-f", str(file))
            ran = bayplan("run", "--rm", "box/box", "busybox", "echo", "alive")
            assert ran.stdout == "alive\n"
            project = f"p{number}"
            said = bayplan("exec", f"{project}.one", "busybox", "cat", "/site/page", "/key/word")
            assert said.stdout == "hellohush"
    finally:
        done.set()
        mender.join()
        for number in range(ROUNDS):
            bayplan("delete", "-p", f"p{number}", "--delete-volumes", code=None)
        bayplan("delete", "-p", "box", code=None)
    assert mended
    assert not troubles, troubles
    assert bayplan("doctor").stdout == "all is well\n"
