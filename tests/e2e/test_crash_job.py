"""A Job whose apply was killed with -9: how it ended is known, and it is not run for nothing."""

import json
import shutil
import time

import pytest

from tests.support.cli import Bayplan
from tests.support.fuse import run_with_fuse
from tests.support.manifests import HEAD, document

pytestmark = pytest.mark.e2e


class Site:
    """A project of one Job, which notes in a file that it has run."""

    def __init__(self, world, tmp_path) -> None:
        self.bayplan = Bayplan(world)
        self.runs = tmp_path / "runs"
        self._file = tmp_path / "site.yaml"
        self.net = "{}"

    def write(self, script: str) -> None:
        self._file.write_text(
            HEAD
            + document("Network", "net", self.net)
            + document(
                "Job",
                "once",
                f"{{container: {{image: box, command: [sh, -c, '{script}'], networks: [net], "
                f"volumes: [{{target: /to, bind: {self.runs.parent}}}]}}}}",
            )
        )

    def apply_killed(self, at: str) -> None:
        ran = run_with_fuse(self.bayplan, ["apply", "-f", str(self._file)], at=at)
        assert ran.was_killed, ran

    def apply(self, *words: str) -> str:
        return self.bayplan("apply", "-f", str(self._file), *words).stdout

    def wait_ended(self) -> None:
        deadline = time.monotonic() + 20
        while [c["state"] for c in self.bayplan.json("ps", "-a")] != ["exited"]:
            assert time.monotonic() < deadline, "it did not end"

    def todo(self) -> dict[str, str]:
        plan = self.bayplan.json("plan", "-f", str(self._file))
        return {r["id"]: r["action"] for r in plan["resources"] if r["action"] != "noop"}


@pytest.fixture
def site(world, tmp_path):
    site = Site(world, tmp_path)
    yield site
    site.bayplan("delete", "-p", "test")
    assert site.bayplan("doctor", code=None).stdout == "all is well\n"


def test_one_that_succeeded_does_not_run_again(site):
    site.write("echo 1 >> /to/runs")
    site.apply_killed("after ContainerDriver.perform")
    site.wait_ended()
    assert site.todo() == {}
    site.apply()
    assert site.todo() == {}
    assert site.runs.read_text() == "1\n"


def test_one_that_was_changed_and_not_begun_runs(site):
    site.write("echo 1 >> /to/runs")
    site.apply()
    site.write("echo 2 >> /to/runs")
    site.apply_killed("after Journal.started")
    assert site.todo() == {"Job/once": "run"}
    site.apply()
    assert site.todo() == {}
    assert site.runs.read_text() == "1\n2\n"


def test_one_of_before_a_reboot_is_not_repeated_by_itself(site, world):
    """What a loss of power takes: the run folder, and what was not synced of how it ended."""
    site.write("echo 1 >> /to/runs")
    site.apply_killed("after ContainerDriver.perform")
    site.wait_ended()
    (config,) = (world / "lib" / "containers").glob("*/config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"createdAt": 1.0}))
    shutil.rmtree(world / "run" / "containers" / config.parent.name)
    (config.parent / "ended.json").write_bytes(b"")
    assert site.todo() == {}
    assert "--rerun-job once" in site.apply()
    assert site.runs.read_text() == "1\n"
    site.apply("--rerun-job", "once")
    assert site.todo() == {}
    assert site.runs.read_text() == "1\n1\n"


def test_one_that_succeeded_is_on_record(site):
    """Its container, by which that was seen, may go; and so may its network."""
    site.write("echo 1 >> /to/runs")
    site.apply_killed("after ContainerDriver.perform")
    site.wait_ended()
    site.apply()
    site.bayplan("rm", "--override", "test.once")
    assert site.todo() == {}
    assert site.runs.read_text() == "1\n"


def test_the_network_of_one_that_succeeded_can_be_made_anew(site):
    site.write("echo 1 >> /to/runs")
    site.apply_killed("after ContainerDriver.perform")
    site.wait_ended()
    site.net = "{internal: true}"
    site.write("echo 1 >> /to/runs")
    site.apply()
    assert site.todo() == {}
    assert site.runs.read_text() == "1\n"
