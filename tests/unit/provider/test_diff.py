import pytest

from provider.planning.diff import REST, Difference, covers, differences, keep


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"subnet": "x"}, {"subnet": "y"}, [("subnet", "subnet", "x", "y")]),
        (
            {"container": {"env": {"A": "1", "B": "2"}}},
            {"container": {"env": {"B": "3", "C": "4"}}},
            [
                ("container.env.B", "container.env.*", "2", "3"),
                ("container.env.C", "container.env.*", None, "4"),
                ("container.env.A", "container.env.*", "1", None),
            ],
        ),
        (
            {"container": {"env": {"a.b": "1"}}},
            {"container": {"env": {}}},
            [("container.env[a.b]", "container.env.*", "1", None)],
        ),
        (
            {"container": {"command": ["a", "b"]}},
            {"container": {"command": ["b", "a"]}},
            [("container.command", "container.command", ["a", "b"], ["b", "a"])],
        ),
        (
            {"container": {"groups": ["a", "b"]}},
            {"container": {"groups": ["b", "c"]}},
            [
                ("container.groups[c]", "container.groups.*", None, "c"),
                ("container.groups[a]", "container.groups.*", "a", None),
            ],
        ),
        (
            {"container": {"volumes": [{"target": "/d", "readOnly": False}]}},
            {"container": {"volumes": [{"target": "/d", "readOnly": True}]}},
            [("container.volumes[/d].readOnly", "container.volumes.*.readOnly", False, True)],
        ),
        (
            {"publish": []},
            {"publish": [{"ip": "0.0.0.0", "port": 80, "protocol": "tcp"}]},
            [
                (
                    "publish[0.0.0.0:80/tcp]",
                    "publish.*",
                    None,
                    {"ip": "0.0.0.0", "port": 80, "protocol": "tcp"},
                )
            ],
        ),
        (
            {"container": {"health": None}},
            {"container": {"health": {"retries": 3}}},
            [("container.health", "container.health", None, {"retries": 3})],
        ),
    ],
)
def test_differences(before, after, expected):
    assert list(differences(before, after)) == [Difference(*each) for each in expected]


def test_what_an_image_may_add_is_not_missed_before_it_is_known():
    before = {"container": {"env": {"PATH": "/bin", "A": "1"}}}
    after = {"container": {"env": {"A": "2", REST: REST}}}
    assert [d.path for d in differences(before, after)] == ["container.env.A"]


def test_order_of_marked_lists_means_nothing():
    one, two = {"target": "/a"}, {"target": "/b"}
    before = {"container": {"volumes": [one, two]}}
    assert list(differences(before, {"container": {"volumes": [two, one]}})) == []


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (("container.env.A",), {"env": {"A": "old", "B": "new"}, "user": "new"}),
        (("container.env",), {"env": {"A": "old", "GONE": "old"}, "user": "new"}),
        (("container.env.GONE",), {"env": {"A": "new", "B": "new", "GONE": "old"}, "user": "new"}),
        (("container.us",), {"env": {"A": "new", "B": "new"}, "user": "new"}),
        (("container",), {"env": {"A": "old", "GONE": "old"}, "user": "old"}),
    ],
)
def test_ignored_paths_stay_as_they_are(paths, expected):
    before = {"container": {"env": {"A": "old", "GONE": "old"}, "user": "old"}}
    after = {"container": {"env": {"A": "new", "B": "new"}, "user": "new"}}
    assert keep(before, after, paths) == {"container": expected}


def test_ignored_list_items_stay_as_they_are():
    before = {"container": {"volumes": [{"target": "/a", "x": 1}, {"target": "/b", "x": 1}]}}
    after = {"container": {"volumes": [{"target": "/b", "x": 2}, {"target": "/c", "x": 2}]}}
    kept = keep(before, after, ("container.volumes[/a]", "container.volumes[/b].x"))
    assert {v["target"]: v["x"] for v in kept["container"]["volumes"]} == {
        "/a": 1,
        "/b": 1,
        "/c": 2,
    }


def test_a_path_covers_what_is_below_it():
    assert covers(("container.env",), "container.env.A")
    assert covers(("container.volumes",), "container.volumes[/a].x")
    assert not covers(("container.env",), "container.environment")
