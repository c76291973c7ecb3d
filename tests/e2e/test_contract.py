"""Exit codes, output forms, and what an ordinary user may do."""

import json
import os
import pwd
import stat
import subprocess

import pytest

import schemas
from provider.cli.app import VERBS
from tests.support.cli import COMMAND, BayplanProcess
from tests.support.manifests import HEAD, sleeper
from tests.support.quiet import machine

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_bad_flag_is_a_usage_error(world, verb):
    # Processes of their own: what each verb needs to start is there.
    done = BayplanProcess(world)(verb, "--no-such-flag", code=64)
    assert "--no-such-flag" in done.stderr


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_has_words(bayplan, verb):
    assert "Usage:" in bayplan(verb, "--help").stdout


def test_no_words_at_all_are_answered_with_help(bayplan):
    assert "Commands:" in bayplan(code=64).stderr


def test_an_unknown_verb_is_a_usage_error(bayplan):
    said = bayplan("aply", code=64).stderr
    assert "aply" in said
    assert said.count("Did you mean 'apply'?") == 1


def test_every_problem_is_shown_and_nothing_touched(bayplan, world):
    manifest = HEAD + sleeper("one").replace("spec:", "spek:") + sleeper("two", "memry: 1")
    done = bayplan("apply", "-f", "-", stdin=manifest, code=65)
    assert "spek" in done.stderr
    assert "memry" in done.stderr
    assert not (world / "lib" / "projects").exists()


def test_plan_on_a_fresh_host_leaves_no_trace(bayplan, world):
    before = machine(world)
    bayplan.plan(HEAD + sleeper("one"))
    assert machine(world) == before


def test_plan_writes_nothing_but_notes_that_save_work(bayplan, world):
    bayplan.apply(HEAD + sleeper("one"))

    def files() -> dict[str, tuple[int, int]]:
        found = ((str(p.relative_to(world)), p.lstat()) for p in world.rglob("*"))
        return {
            name: (status.st_ino, status.st_mtime_ns)
            for name, status in found
            if not stat.S_ISDIR(status.st_mode)
        }

    before = files()
    table = f"bayplan-test-{os.getpid()}"  # so that what is known of the ruleset is not enough
    subprocess.run(["nft", "add", "table", "inet", table], check=True)
    try:
        bayplan.plan(HEAD + sleeper("one") + sleeper("two"))
        bayplan("plan", "-f", "-", "-o", "text", stdin=HEAD + sleeper("one"))
    finally:
        subprocess.run(["nft", "delete", "table", "inet", table], check=True)
    written = {name for name, now in files().items() if before.get(name) != now}
    notes = ("lib/cache/", "lib/images/keys/", "run/firewall", "run/obstacles.json")
    assert [name for name in written if not name.startswith(notes)] == []
    assert before.keys() <= files().keys()
    bayplan.delete("test")


def test_detailed_exit_codes(bayplan):
    manifest = HEAD + sleeper("one")
    bayplan("plan", "-f", "-", "--detailed-exitcode", stdin=manifest, code=2)
    bayplan("apply", "-f", "-", "--detailed-exitcode", stdin=manifest, code=2)
    bayplan("plan", "-f", "-", "--detailed-exitcode", stdin=manifest, code=0)
    bayplan("apply", "-f", "-", "--detailed-exitcode", stdin=manifest, code=0)
    bayplan.delete("test")


def test_guards(bayplan):
    many = "".join(sleeper(f"c{n}", "networkMode: none") for n in range(5))
    bayplan.apply(HEAD + many)
    less = HEAD + sleeper("c0", "networkMode: none")
    assert "--allow-prune" in bayplan("apply", "-f", "-", stdin=less, code=1).stderr
    empty = "apiVersion: bayplan/v1alpha1\nkind: Project\nmetadata: {name: test}\n"
    assert "--allow-empty" in bayplan("apply", "-f", "-", stdin=empty, code=1).stderr
    assert len(bayplan.json("ps")) == 5
    bayplan.apply(less, "--allow-prune")
    assert len(bayplan.json("ps")) == 1
    bayplan.delete("test")


def test_validate_reports_as_the_others_do(bayplan, tmp_path):
    from provider.manifest.validate import failures

    file = tmp_path / "m.yaml"
    file.write_text(HEAD + sleeper("one"))
    words = ("validate", "-f", str(file))
    report = bayplan.json(*words)
    assert (report["project"], report["failed"], report["errors"]) == ("test", False, [])
    assert list(failures("report", report)) == []
    assert json.loads(bayplan(*words, "-o", "jsonl").stdout)["event"] == "report"
    file.write_text(HEAD + sleeper("one", "memry: 1"))
    report = bayplan.json(*words, code=65)
    assert report["errors"][0]["source"]["file"] == str(file)
    assert list(failures("report", report)) == []


def test_what_names_nothing_is_said(bayplan):
    manifest = HEAD + sleeper("one")
    words = ("plan", "-f", "-", "-l", "tier=x")
    assert "nothing in the manifests matches" in bayplan(*words, stdin=manifest).stderr
    (warning,) = bayplan.plan(manifest, "-l", "tier=x")["warnings"]
    assert "tier=x" in warning
    assert "no project neverwas was ever applied" in bayplan("delete", "-p", "neverwas").stderr
    (warning,) = bayplan.json("delete", "-p", "neverwas")["warnings"]
    assert "neverwas" in warning


def test_documents_follow_their_schemas(bayplan):
    from provider.manifest.validate import failures

    manifest = HEAD + sleeper("one")
    plan = bayplan.plan(manifest)
    report = bayplan.apply(manifest)
    assert list(failures("plan", plan)) == []
    assert list(failures("report", report)) == []
    assert {r["index"] for r in (*plan["resources"], *report["resources"])} == {None}
    assert schemas.load("report")
    bayplan.delete("test")


def test_json_lines_stream_events_and_end_with_the_report(bayplan):
    manifest = HEAD + sleeper("one")
    lines = bayplan("apply", "-f", "-", "-o", "jsonl", stdin=manifest).stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert {e["event"] for e in events[:-1]} == {"action"}
    assert events[-1]["event"] == "report"
    bayplan.delete("test")


def test_a_manifest_is_called_what_no_text_is(bayplan, tmp_path):
    manifest = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.yaml")
    with open(manifest, "w") as file:
        file.write(HEAD)
    for words in (("apply",), ("apply", "-o", "json"), ("plan", "-o", "json")):
        bayplan(*words, "-f", manifest)
    bayplan.delete("test")


def test_an_interrupted_apply_says_so(bayplan, tmp_path):
    import signal

    manifest = tmp_path / "m.yaml"
    manifest.write_text(
        HEAD + sleeper("one", "health: {tcp: {port: 1}, interval: 1s, retries: 100}")
    )
    with bayplan.start("apply", "-f", str(manifest), "-o", "jsonl") as process:
        for line in process.stdout:
            if '"phase": "waiting"' in line:
                process.send_signal(signal.SIGINT)
                break
        process.communicate(timeout=60)
    assert process.returncode == 130
    bayplan.delete("test")


def test_what_run_cannot_start_is_not_the_programs_code(bayplan):
    assert "no image" in bayplan("run", "no/image", code=125).stderr
    assert "no container" in bayplan("exec", "nobody", "true", code=125).stderr
    bayplan("run", "--restart", "sometimes", "no/image", code=64)
    bayplan.apply(HEAD)
    bayplan("run", "--name", "Bad Name", "test/box", code=64)
    bayplan.delete("test")


def test_two_applies_at_once_do_not_mix(bayplan, tmp_path):
    manifest = tmp_path / "m.yaml"
    manifest.write_text(HEAD + sleeper("one") + sleeper("two"))
    runs = [bayplan.start("apply", "-f", str(manifest), "--lock-timeout", "60s") for _ in range(2)]
    assert [run.communicate(timeout=120) and run.returncode for run in runs] == [0, 0]
    assert len(bayplan.json("ps")) == 2
    bayplan.delete("test")


def as_nobody(*words: str) -> subprocess.CompletedProcess[str]:
    """Run as an ordinary user, who may read what the interpreter needs, wherever that is."""
    nobody = str(pwd.getpwnam("nobody").pw_uid)
    user = ["setpriv", "--reuid", nobody, "--regid", nobody, "--clear-groups"]
    reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return subprocess.run(
        [*user, *reading, *COMMAND, *words],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": "/", "PYTHONPATH": os.getcwd()},
        check=False,
    )


def test_an_ordinary_user_may_look_at_manifests_only(tmp_path):
    assert as_nobody("explain", "service").returncode == 0
    assert as_nobody("schema", "plan").returncode == 0
    assert as_nobody("validate", "-f", "examples/shop").returncode == 0
    assert as_nobody("graph", "-f", "examples/shop").returncode == 0
    for verb in ("plan", "apply"):
        assert as_nobody(verb, "-f", "examples/shop").returncode == 77
    assert as_nobody("ps").returncode == 77


def test_run_returns_the_containers_code(bayplan):
    bayplan.apply(HEAD)
    run = ("run", "--rm", "test/box")
    assert bayplan(*run, "sh", "-c", "echo out; echo err >&2; exit 7", code=7).stdout == "out\n"
    assert bayplan(*run, "no-such-program", code=127).stderr
    assert bayplan(*run, "/etc/passwd", code=126).stderr
    bayplan("run", "--rm", "--init", "test/box", "sh", "-c", "kill -9 $$", code=137)
    assert bayplan.json("ps", "-a") == []
    bayplan.delete("test")


def test_logs_since_and_tail(bayplan):
    bayplan.apply(HEAD)
    bayplan("run", "--name", "talk", "test/box", "sh", "-c", "echo a; echo b; echo c")
    assert bayplan("logs", "talk").stdout == "a\nb\nc\n"
    assert bayplan("logs", "--tail", "1", "talk").stdout == "c\n"
    assert bayplan("logs", "--since", "1h", "talk").stdout == "a\nb\nc\n"
    bayplan("rm", "talk")
    bayplan.delete("test")
