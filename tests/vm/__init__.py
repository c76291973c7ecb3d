"""The test machine: a virtual one with pure cgroup v2 and systemd as pid 1, run by qemu.

``Machine`` boots it from an image made once; ``python -m tests.vm`` is its command line.
"""
