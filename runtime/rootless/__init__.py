"""Worlds of ordinary users: everything the engine does, done as root of a user namespace.

All worlds of one user share a user, a mount and a network namespace, as all worlds of root share
the host's. Nobody lives in them for good: a *holder*, a process outside, keeps them open, hands
them to each command, which enters them before it does anything else, and looks after the way from
the network namespace to the host and back (`slirp`). It starts with the first command that needs
it and ends when nothing is left inside.

From there on the engine runs as it does for root; what it must know of the difference is asked
here: `outside`, for ports of the host.
"""
