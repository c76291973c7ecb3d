"""A supervisor that does not answer is not one that is gone: its processes are not strays."""

import pytest

from runtime.container import doctor
from runtime.errors import NotFoundError, SupervisorError
from runtime.root import Root


@pytest.mark.parametrize(
    ("said", "strays"), [(SupervisorError("does not answer"), None), (NotFoundError("none"), [1])]
)
def test_what_it_runs_is_taken_for_nobodys_only_where_there_is_none(
    tmp_path, monkeypatch, said, strays
):
    class Asked:
        def __init__(self, _root, *, start):
            assert not start

        def ping(self):
            raise said

    class Group:
        def __init__(self, *_):
            pass

        def pids(self):
            return [1]

    monkeypatch.setattr(doctor, "Supervisor", Asked)
    monkeypatch.setattr(doctor, "Cgroup", Group)
    if strays is None:
        with pytest.raises(SupervisorError):
            doctor._unrelated(Root.at(tmp_path))
    else:
        assert doctor._unrelated(Root.at(tmp_path)) == strays
