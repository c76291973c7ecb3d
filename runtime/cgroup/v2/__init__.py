"""Controllers of cgroup v2, all in one hierarchy."""
