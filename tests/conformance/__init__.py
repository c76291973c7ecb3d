"""Suites that others wrote, and engines that others wrote, with `bayplan-oci` as their runtime.

``python -m tests.conformance`` runs each suite twice on this machine: with the runtime it is
written for, and with ours. What that one passes ours has to pass. Nothing of theirs is kept here:
all comes from Debian's packages and their sources when it is run.
"""
