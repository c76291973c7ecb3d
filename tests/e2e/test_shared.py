"""What one project lends to others, and to containers by hand, is not taken from under them."""

import pytest

from tests.support.manifests import HEAD, document

pytestmark = pytest.mark.e2e

LENDER = HEAD + document("Network", "shared", "{}") + document("Volume", "data", "{}")
BORROWER = HEAD.partition("---")[0].replace("test", "other") + document(
    "Container",
    "web",
    "{container: {image: {name: box, project: test}, command: [sleep, '1000000'],"
    " stopSignal: SIGKILL, networks: [{name: shared, project: test}],"
    " volumes: [{volume: data, project: test, target: /data}]}, update: {healthyFor: 0s}}",
)


@pytest.fixture
def lender(bayplan):
    bayplan.apply(LENDER)
    yield bayplan
    bayplan.delete("other")
    bayplan.delete("test")


def refusals(bayplan, *words, stdin=None):
    report = bayplan.json(*words, stdin=stdin, code=1)
    assert report["resources"] == []
    (failure,) = report["errors"]
    return sorted(failure["message"].splitlines())


def test_what_another_project_is_built_on_is_not_deleted(lender):
    lender.apply(BORROWER)
    lender("exec", "other.web", "sh", "-c", "echo precious > /data/file")
    everything = [
        f"{what}: is still used by Container/web of project other"
        for what in ("Image/box", "Network/shared", "Volume/data")
    ]
    assert refusals(lender, "delete", "-p", "test", "--delete-volumes") == everything
    lender("stop", "--override", "other.web")
    assert refusals(lender, "delete", "-p", "test", "--delete-volumes") == everything
    pruned = [*HEAD.splitlines()[:4], ""]
    words = ("apply", "-f", "-", "--delete-volumes", "--allow-empty", "--allow-prune")
    assert refusals(lender, *words, stdin="\n".join(pruned)) == everything
    lender("start", "--override", "other.web")
    assert lender("exec", "other.web", "cat", "/data/file").stdout == "precious\n"
    plan = lender.plan(LENDER)
    assert {each["action"] for each in plan["resources"]} == {"noop"}


def test_what_a_container_by_hand_has_is_not_deleted(lender):
    (volume,) = (lender.folder / "lib/volumes").iterdir()
    words = ("-v", f"{volume}/data:/data", "--network", "none")
    lender("run", "-d", *words, "--name", "hand", "test/box", "sleep", "98761")
    assert refusals(lender, "delete", "-p", "test", "--delete-volumes") == [
        "Volume/data: is still used by container hand",
    ]
    assert (volume / "data").is_dir()
    lender("rm", "-f", "hand")
