import pytest

from provider.model.ids import Kind
from provider.planning.expand import expand, spread_replicas
from tests.support import builders as b


@pytest.mark.parametrize(
    ("replicas", "hosts", "placed", "expected"),
    [
        (3, ("a",), {}, "aaa"),
        (4, ("a", "b"), {}, "abab"),
        (0, ("a",), {}, ""),
        (3, ("a", "b"), {0: "a", 1: "b", 2: "a"}, "aba"),
        # a host comes: only the share of the new one moves
        (4, ("a", "b"), {0: "a", 1: "a", 2: "a", 3: "a"}, "aabb"),
        (6, ("a", "b", "c"), {0: "a", 1: "b", 2: "a", 3: "b", 4: "a", 5: "b"}, "ababcc"),
        # a host goes: only its own move
        (4, ("a", "c"), {0: "a", 1: "b", 2: "a", 3: "c"}, "acac"),
        # one replica more or less moves nothing
        (3, ("a", "b"), {0: "b", 1: "a"}, "baa"),
        (1, ("a", "b"), {0: "b", 1: "a"}, "b"),
    ],
)
def test_replicas_spread_evenly_and_stay_where_they_are(replicas, hosts, placed, expected):
    assert "".join(spread_replicas(replicas, hosts, placed)) == expected


def test_instances_of_a_service_end_with_its_ports():
    web = b.service("web", replicas=2, hosts=("a", "b"))
    assert [str(i) for i in expand(web)] == [
        "Service/web[0]@a",
        "Service/web[1]@b",
        "Service/web@a",
        "Service/web@b",
    ]


def test_per_host_kinds_are_on_each_host():
    assert len(expand(b.network(hosts=("a", "b", "c")))) == 3


def test_a_job_runs_on_one_host_and_stays_there():
    seed = b.job(hosts=("a", "b"))
    assert [i.host for i in expand(seed)] == ["a"]
    assert [i.host for i in expand(seed, [b.iid(Kind.JOB, "seed", host="b")])] == ["b"]
    everywhere = b.job(fields={"per_host": True}, hosts=("a", "b"))
    assert [i.host for i in expand(everywhere)] == ["a", "b"]


def test_hosts_and_projects_are_not_made():
    assert expand(b.resource(Kind.HOST, "a", {"address": "local"})) == ()
