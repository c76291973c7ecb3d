"""Killed with -9 before and after each step on the real host, the next run converges.

A step is what the engine writes down, what a driver does, and each message to kernel, firewall
and supervisor; the deep runs also stop at each change of a file. The normal run takes a sample
of the steps, the long one all of them.
"""

import itertools
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support.cli import Bayplan
from tests.support.fuse import Ran, run_with_fuse
from tests.support.leaks import Snapshot
from tests.support.manifests import HEAD, document, sleeper

pytestmark = pytest.mark.e2e

PORTS = {"alpha": 18131, "beta": 18132}


def manifest(word: str, *, subnet: str = "", env: str = "") -> str:
    return (
        HEAD.replace("[/bin/busybox]", "[/bin/busybox], files: [/etc/debian_version]")
        + document("Network", "net", f"{{subnet: {subnet}}}" if subnet else "{}")
        + document("Volume", "data", "{}")
        + document("Volume", "etc", "{}")
        + document("Config", "page", f"{{data: {{index.html: {word}}}}}")
        + document("Secret", "key", f"{{allowPlaintext: true, data: {{word: {{text: x{word}}}}}}}")
        + sleeper(
            "keeper",
            "networks: [net], secrets: [key], volumes: [{volume: data, target: /data}, "
            f"{{volume: etc, target: /etc}}], env: {{WORD: {env or word}}}",
        )
        + document(
            "Job",
            "seed",
            "{idempotent: true, container: {image: box, command: [sh, -c, 'date >> /data/runs'], "
            "networks: [net], volumes: [{volume: data, target: /data}]}}",
        )
        + document(
            "Service",
            "web",
            f"{{replicas: 2, publish: [{{port: {PORTS[word]}, targetPort: 8080}}], "
            "container: {image: box, command: [busybox, httpd, -f, -p, '8080', -h, /srv], "
            "stopSignal: SIGKILL, networks: [net], configs: [{name: page, target: /srv}], "
            "health: {http: {port: 8080, path: /index.html}, interval: 100ms}}, "
            "dependsOn: [{kind: Job, name: seed, condition: completed}]}",
        )
    )


class Site:
    """Two states of one project, and what must be true of each however it was got to."""

    def __init__(self, world) -> None:
        self.bayplan = Bayplan(world)
        self.fresh = Snapshot.take(world, files=True)
        self.files = {}
        for word, subnet in (("alpha", "10.79.241.0/24"), ("beta", "10.79.242.0/24")):
            self.files[word] = str(world / f"{word}.yaml")
            (world / f"{word}.yaml").write_text(manifest(word, subnet=subnet))

    def apply(self, word: str, left: int, *, deep: bool = False) -> Ran:
        words = ["apply", "-f", self.files[word]]
        return run_with_fuse(self.bayplan, words, left, deep=deep)

    def delete(self, left: int, *, deep: bool = False) -> Ran:
        words = ["delete", "-p", "test", "--delete-volumes"]
        return run_with_fuse(self.bayplan, words, left, deep=deep)

    def check_converges(self, word: str, when: str) -> None:
        bayplan = self.bayplan
        done = bayplan("apply", "-f", self.files[word], code=None)
        assert done.returncode == 0, f"{when}\n{done.stdout}\n{done.stderr}"
        plan = bayplan("plan", "-f", self.files[word]).stdout
        assert "nothing to do" in plan, f"{when}\n{plan}"
        assert bayplan("doctor", code=None).stdout == "all is well\n", when
        names = [container["name"] for container in bayplan.json("ps", "-a")]
        assert sorted(names) == ["test.keeper", "test.seed", "test.web.0", "test.web.1"], when
        with urllib.request.urlopen(f"http://127.0.0.1:{PORTS[word]}/", timeout=5) as answer:
            assert answer.read().decode() == word, when

    def check_gone(self, when: str) -> None:
        self.bayplan("delete", "-p", "test", "--delete-volumes")
        assert self.bayplan("doctor", code=None).stdout == "all is well\n", when
        left = Snapshot.take(self.bayplan.folder, files=True).wait_settled(self.fresh)
        assert left == [], when


@pytest.fixture
def site(world):
    site = Site(world)
    yield site
    site.bayplan("delete", "-p", "test", "--delete-volumes")


def steps(first: int, stride: int) -> Iterator[int]:
    return itertools.count(first, stride)


def create_and_delete(site: Site, points: Iterator[int], *, deep: bool = False) -> int:
    """Kill a first apply at each point and mend it; then a delete at the same; returns kills."""
    kills = 0
    for point in points:
        made = site.apply("alpha", point, deep=deep)
        if not made.was_killed:
            return kills
        site.check_converges("alpha", f"create killed at {point}: {made.last}")
        gone = site.delete(point, deep=deep)
        site.check_gone(f"delete killed at {point}: {gone.last}")
        kills += 1 + gone.was_killed
        if point % 3 == 0:  # never mended, but taken away at once
            made = site.apply("alpha", point, deep=deep)
            site.check_gone(f"create killed at {point} and deleted: {made.last}")
    return kills


def update(site: Site, points: Iterator[int], *, deep: bool = False) -> int:
    """Kill an update at each point; go on with it, or every third time back; returns kills."""
    site.check_converges("alpha", "before")
    now, other = "alpha", "beta"
    kills = 0
    for point in points:
        ran = site.apply(other, point, deep=deep)
        if not ran.was_killed:
            return kills
        kills += 1
        if point % 3 == 0:
            site.check_converges(now, f"update killed at {point} and taken back: {ran.last}")
        else:
            site.check_converges(other, f"update killed at {point}: {ran.last}")
            now, other = other, now
    return kills


def test_first_apply_and_delete_killed_at_some_steps(site):
    assert create_and_delete(site, steps(4, 41)) > 5


def test_update_killed_at_some_steps(site):
    assert update(site, steps(7, 37)) > 3


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_first_apply_and_delete_killed_at_each_step(site):
    assert create_and_delete(site, steps(0, 1)) > 150


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_update_killed_at_each_step(site):
    assert update(site, steps(0, 1)) > 100


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_first_apply_and_delete_killed_between_changes_of_files(site):
    assert create_and_delete(site, steps(0, 7), deep=True) > 60


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_update_killed_between_changes_of_files(site):
    assert update(site, steps(3, 7), deep=True) > 60
