"""What is told of the processes of a container, from a /proc of ours."""

from runtime.container.processes import list_processes


class Group:
    """A cgroup with members, as far as is asked here."""

    def __init__(self, *pids):
        self._pids = pids

    def pids(self):
        return self._pids


def test_inner_pids_are_those_of_the_container_also_of_who_is_further_in(tmp_path):
    for pid, numbers in {"77": "77\t1", "78": "78\t5\t1", "79": "79\t6"}.items():
        folder = tmp_path / pid
        folder.mkdir()
        (folder / "cmdline").write_bytes(b"sleep\x009\x00")
        (folder / "stat").write_text(f"{pid} (sleep) S 1 " + "0 " * 48 + "\n")
        (folder / "status").write_text(
            "Name:\tsleep\nState:\tS (sleeping)\nPPid:\t1\nThreads:\t1\n"
            f"Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t\nNSpid:\t{numbers}\n"
        )
    found = list_processes(Group(77, 78, 79), proc=str(tmp_path))
    assert [(each.pid, each.inner_pid) for each in found] == [(77, 1), (78, 5), (79, 6)]
