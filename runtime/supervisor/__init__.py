"""The one process per host that parents all containers."""
