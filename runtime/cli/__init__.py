"""The OCI runtime command line ``bayplan-oci``, for use under other engines.

``main`` starts again from a Python nobody can write to where a container is entered, ``commands``
maps words to functions; one module a verb or a family of them. A container is a folder below
``--root`` (``folder``) with its config.json (``bundle``); nothing of ours keeps running. The
engine above us (conmon, containerd-shim) is the one who waits for the container's process.

Start-up is most of what a command costs: modules are imported by the verb that needs them.
"""
