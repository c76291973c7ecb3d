"""What every verb says, in which form, and what it refuses."""

import json
import os
import pty
import signal
import subprocess

import pytest

from provider.cli.app import VERBS
from tests.support.cli import COMMAND
from tests.support.manifests import HEAD, document, sleeper

pytestmark = pytest.mark.e2e

HOSTILE = "\x1b[31m\x9b2J\nnew line \u202e" + "w" * 200
SPELLED = {"revision": ["revision", "list"], "inspect": ["inspect", "nobody"]}


def verbs_with_formats(bayplan) -> list[list[str]]:
    words = [SPELLED.get(verb, [verb]) for verb in sorted(VERBS)]
    return [found for found in words if "--output" in bayplan(*found, "--help").stdout]


def one_document(text: str):
    return json.loads(text)


def test_json_is_one_document_also_on_failure(bayplan):
    verbs = verbs_with_formats(bayplan)
    assert len(verbs) >= 12
    for words in verbs:
        for spelling in (["-o", "json"], ["-ojson"], ["--output=json"]):
            done = bayplan(*words, "--no-such-flag", *spelling, code=64)
            failed = one_document(done.stdout)
            assert failed["failed"] is True
            assert "--no-such-flag" in failed["errors"][0]["message"]
        (line,) = bayplan(*words, "-o", "jsonl", "--no-such-flag", code=64).stdout.splitlines()
        assert json.loads(line)["report"]["failed"] is True


def test_json_is_one_document_on_success(bayplan, tmp_path):
    file = tmp_path / "m.yaml"
    file.write_text(HEAD + sleeper("one", "networkMode: none"))
    manifest = ("-f", str(file))
    for words in (
        ["plan", *manifest],
        ["apply", *manifest],
        *(["validate", *manifest], ["normalize", *manifest], ["graph", *manifest]),
        *(["status"], ["get", "-p", "test"], ["ps"], ["images"], ["doctor"], ["version"]),
        *(["inspect", "test.one"], ["stats"], ["revision", "list", "-p", "test"]),
        ["delete", "-p", "test"],
    ):
        assert one_document(bayplan(*words, "-o", "json").stdout) is not None
    for words in (["get", "-p", "Not A Name"], ["inspect", "nobody"], ["revision", "list"]):
        failed = one_document(bayplan(*words, "-o", "json", code=None).stdout)
        assert failed["errors"][0]["message"]


def at_terminal(bayplan, *words: str, columns: int = 80) -> str:
    """Return what a verb writes to a terminal."""
    environment = bayplan.environment | {"COLUMNS": str(columns)}
    pid, master = pty.fork()
    if pid == 0:
        os.execve(COMMAND[0], [*COMMAND, *words], environment)
    said = b""
    while True:
        try:
            data = os.read(master, 10_000)
        except OSError:
            break
        if not data:
            break
        said += data
    os.waitpid(pid, 0)
    os.close(master)
    return said.decode()


def test_what_containers_say_is_not_obeyed_by_the_terminal(bayplan):
    bayplan.apply(HEAD)
    words = ("run", "-d", "--network", "none", "--name", "evil", "test/box")
    bayplan(*words, "sh", "-c", "sleep 1000000", HOSTILE)
    for verb in (["ps"], ["ps", "--no-trunc"], ["inspect", "evil"], ["ps", "-o", "json"]):
        said = at_terminal(bayplan, *verb)
        assert not set("\x1b\x9b\u202e") & set(said)
    assert at_terminal(bayplan, "ps").count("\n") == 2
    assert HOSTILE in bayplan.json("ps")[0]["command"]
    refused = at_terminal(bayplan, "exec", "evil", HOSTILE)
    assert "not found" in refused
    assert not set("\x1b\x9b\u202e") & set(refused)
    bayplan("rm", "-f", "evil")
    bayplan.delete("test")


@pytest.mark.parametrize("columns", [40, 80])
def test_tables_fit_the_terminal(bayplan, columns):
    bayplan.apply(HEAD)
    name = "a-very-long-name-for-a-container-that-fills-a-line-by-itself"
    command = ("sh", "-c", "sleep 1000000", "w" * 300, "寿司")
    bayplan("run", "-d", "--network", "none", "--name", name, "test/box", *command)
    lines = at_terminal(bayplan, "ps", columns=columns).splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= max(columns, 4 * 12 + 9)
    assert name in bayplan("ps").stdout
    assert "w" * 300 in at_terminal(bayplan, "ps", "--no-trunc", columns=columns)
    bayplan("rm", "-f", name)
    bayplan.delete("test")


def test_every_address_is_shown(bayplan):
    networks = document("Network", "back", "{}") + document("Network", "front", "{}")
    bayplan.apply(HEAD + networks + sleeper("two", "networks: [front, back]"))
    (line,) = [row for row in bayplan("status").stdout.splitlines() if "Container/two" in row]
    (leases,) = [found["networks"] for found in bayplan.json("inspect", "test.two")]
    assert ", ".join(lease["ip"] for lease in leases) in line
    assert len(leases) == 2
    bayplan.delete("test")


def test_what_a_project_looks_after_is_changed_by_force_of_will_only(bayplan):
    bayplan.apply(HEAD + sleeper("one", "networkMode: none"))
    for verb in ("start", "stop", "restart", "kill", "rm", "rm -f"):
        refused = bayplan(*verb.split(), "test.one", code=1)
        assert "Container/one of project test" in refused.stderr
        assert "--override" in refused.stderr
        # A restart leaves nothing to be undone.
        assert ("next apply undoes it" in refused.stderr) is (verb != "restart")
    for verb in ("stop", "start", "restart", "kill"):
        bayplan(verb, "--override", "test.one")
    assert "it is running" not in bayplan("rm", "--override", "test.one").stderr
    bayplan.delete("test")


def test_what_runs_is_removed_by_force_only(bayplan):
    bayplan.apply(HEAD)
    bayplan("run", "-d", "--network", "none", "--name", "a", "test/box", "sleep", "1000000")
    refused = bayplan("rm", "a", code=1).stderr
    assert "cannot remove a: it is running" in refused
    assert "-f" in refused
    bayplan("rm", "-f", "a")
    bayplan.delete("test")


def test_every_verb_has_examples(bayplan):
    for verb in sorted(VERBS):
        assert f"bayplan {verb}" in bayplan(verb, "--help").stdout.partition("Examples:")[2]


def test_what_cannot_be_done_with_one_is_done_with_the_others(bayplan):
    bayplan.apply(HEAD)
    for name in ("a", "b"):
        bayplan("run", "-d", "--network", "none", "--name", name, "test/box", "sleep", "1000000")
    done = bayplan("stop", "-t", "0", "a", "nobody", "b", code=1)
    assert done.stdout == "a\nb\n"
    assert "nobody" in done.stderr
    assert bayplan("wait", "a", "b", code=137).stdout == "137\n137\n"
    missing = bayplan("wait", "a", "nobody", "b", code=125)
    assert missing.stdout == "137\n137\n"
    assert "nobody" in missing.stderr
    bayplan("rm", "a", "b")
    bayplan.delete("test")


def test_the_version_is_said_either_way(bayplan):
    assert bayplan("--version").stdout.split()[0] == "bayplan"
    assert bayplan("--version").stdout in bayplan("version").stdout
    assert bayplan("--version").stdout.split()[1] == bayplan.json("version")["version"]


def test_an_interrupted_apply_skips_the_rest(bayplan, tmp_path):
    manifest = tmp_path / "m.yaml"
    never = "health: {tcp: {port: 1}, interval: 1s, retries: 100}, networkMode: none"
    after = "dependsOn: [{kind: Container, name: one, condition: healthy}]"
    manifest.write_text(HEAD + sleeper("one", never) + sleeper("two", "networkMode: none", after))
    with bayplan.start("apply", "-f", str(manifest), "-o", "jsonl") as process:
        for line in process.stdout:
            if '"phase": "waiting"' in line:
                process.send_signal(signal.SIGINT)
                break
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    report = json.loads(said.splitlines()[-1])["report"]
    outcomes = {r["name"]: (r["outcome"], r["error"]) for r in report["resources"]}
    assert outcomes["two"][0] == outcomes["one"][0] == "skipped"
    assert outcomes["two"][1]["message"] == "interrupted"
    assert outcomes["one"][1]["message"].startswith("interrupted; it was begun")
    bayplan.delete("test")


@pytest.fixture
def script(tmp_path):
    """The command, by the name it is installed under."""
    script = tmp_path / "bayplan"
    script.write_text(f"#!{COMMAND[0]}\n{COMMAND[2]}\n")
    script.chmod(0o755)
    return str(script)


def ask_completion(bayplan, script: str, shell: str, line: str) -> str:
    words = {
        "_BAYPLAN_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [script], env=bayplan.environment | words, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_get_tells_labels_and_no_secret(bayplan, tmp_path):
    (tmp_path / "word").write_text("canary-get")
    secret = f"{{data: {{word: {{file: {tmp_path}/word}}}}}}"
    about = "labels: {tier: back}, annotations: {owner: us}"
    bayplan.apply(
        HEAD
        + document("Secret", "key", secret, about)
        + sleeper("one", "env: {WORD: {secret: key, key: word}}, secrets: [key]")
    )
    found = {r["name"]: r for r in bayplan.json("get", "-p", "test")["resources"]}
    key, one = found["key"], found["one"]
    assert (key["labels"], key["annotations"]) == ({"tier": "back"}, {"owner": "us"})
    assert (one["labels"], one["annotations"]) == ({}, {})
    assert key["spec"]["data"] == {"word": "(sensitive)"}
    assert one["spec"]["container"]["env"]["WORD"]["fingerprint"] == "(sensitive)"
    assert "canary" not in str(found)
    assert "hmac-sha256" not in str(found)
    bayplan.delete("test")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_lines_are_completed(bayplan, script, shell):
    verbs = ask_completion(bayplan, script, shell, "bayplan re")
    assert "restart" in verbs
    assert "status" not in verbs
    assert "--health-cmd" in ask_completion(bayplan, script, shell, "bayplan run --health-c")


def test_completion_is_installed_for_bash(bayplan, script, tmp_path):
    environment = bayplan.environment | {"HOME": str(tmp_path), "SHELL": "/bin/bash"}
    shell = ["bash", "-c", f"{script} --install-completion; . ~/.bashrc; complete -p bayplan"]
    done = subprocess.run(shell, env=environment, capture_output=True, text=True, check=True)
    assert "-F _bayplan_completion" in done.stdout


@pytest.mark.parametrize("verb", [[], *([verb] for verb in sorted(VERBS))])
def test_help_fits_80_columns_without_colour(bayplan, verb):
    said = at_terminal(bayplan, *verb, "--help")
    assert "\x1b" not in said
    # Examples are shown as they are.
    lines = said.partition("Examples:")[0].splitlines()
    assert max(map(len, lines)) <= 80
