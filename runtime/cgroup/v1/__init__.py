"""Controllers of cgroup v1, each on a mount of its own or together with others."""
